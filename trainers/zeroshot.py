"""Zero-shot classification: nothing is learned (Radford et al., ICML 2021, arXiv 2103.00020)."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from torch import Tensor

from dassl.engine import TRAINER_REGISTRY
from ogkd.models import ImageFeatures
from ogkd.tuning.clip_trainer import ClipTrainer
from ogkd.tuning.teacher import Teacher, teacher_options
from ogkd.tuning.templates import TEMPLATE, template_features


@TRAINER_REGISTRY.register()
class ZeroShot(ClipTrainer):
    """One template for every class."""

    title, paper, row = "Zero-shot", "2103.00020", 10

    @classmethod
    def default_options(cls) -> dict[str, object]:
        return {"TEMPLATE": TEMPLATE}

    def build_method(self) -> None:
        self.prototypes = self.class_prototypes()

    def class_prototypes(self) -> Tensor:
        return template_features(self.clip_model, self.classnames, self.options.TEMPLATE, self.cache)

    def classifier(self) -> Callable[[Tensor], Tensor]:
        weights = self.scale * self.prototypes.t()
        return lambda features: features @ weights

    def patch_classifier(self) -> Callable[[ImageFeatures], Tensor]:
        classify = self.classifier()
        return lambda features: classify(cast(Tensor, features.patch_tokens))

    def train(self) -> None:  # type: ignore[override]  # as SimpleTrainer.train
        print("Nothing to train.")
        self.test()

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Does nothing: there are no learned parameters."""


@TRAINER_REGISTRY.register()
class ZeroShotEnsemble(ZeroShot):
    """The mean of each class's teacher prompts."""

    title, paper, row = "Zero-shot ensemble", "", 20
    needs_sentences = True

    @classmethod
    def default_options(cls) -> dict[str, object]:
        return teacher_options()

    def class_prototypes(self) -> Tensor:
        return Teacher.of(self, self.classnames).prototypes
