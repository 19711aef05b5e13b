"""Zero-shot classification: nothing is learned (Radford et al., ICML 2021, arXiv 2103.00020)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from trainers.base import FrozenFeatureTrainer
from trainers.teacher import encode_teacher, prototypes, teacher_config
from trainers.templates import TEMPLATE, template_features


@TRAINER_REGISTRY.register()
class ZeroShot(FrozenFeatureTrainer):
    """One template a class."""

    @staticmethod
    def extend_config(cfg: CfgNode) -> None:
        cfg.TRAINER.ZEROSHOT = CfgNode({"TEMPLATE": TEMPLATE})

    def build_method(self) -> None:
        self.prototypes = self.class_prototypes()

    def class_prototypes(self) -> Tensor:
        return template_features(self.clip_model, self.classnames, self.options.TEMPLATE, self.cache)

    def classifier(self) -> Callable[[Tensor], Tensor]:
        weights = self.scale * self.prototypes.t()
        return lambda features: features @ weights

    def train(self) -> None:
        print("Nothing to train.")
        self.test()

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """There is nothing to load."""


@TRAINER_REGISTRY.register()
class ZeroShotEnsemble(ZeroShot):
    """The mean of each class' teacher prompts."""

    @staticmethod
    def extend_config(cfg: CfgNode) -> None:
        cfg.TRAINER.ZEROSHOTENSEMBLE = CfgNode(teacher_config())

    def class_prototypes(self) -> Tensor:
        name = self.dm.dataset.prompts_name
        return prototypes(encode_teacher(self.clip_model, name, self.classnames, self.options, self.cache))
