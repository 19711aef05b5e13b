"""Zero-shot classification: nothing is learned (Radford et al., ICML 2021, arXiv 2103.00020)."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from ogkd.tuning.method import Method
from ogkd.tuning.options import Option, Options
from ogkd.tuning.registration import register
from ogkd.tuning.teacher import TEACHER_OPTIONS, Teacher
from ogkd.tuning.templates import TEMPLATE, template_features


@register
class ZeroShot(Method):
    """One template for every class."""

    title, paper, row = "Zero-shot", "2103.00020", 10
    groups = ("training-free",)
    compares_tokens = True

    options = Options(TEMPLATE=Option(TEMPLATE, "the prompt"))

    def build(self) -> None:
        self.prototypes = self.class_prototypes()

    def class_prototypes(self) -> Tensor:
        return template_features(self.clip_model, self.classnames, self.options.TEMPLATE, self.feature_cache)

    def classifier(self) -> Callable[[Tensor], Tensor]:
        weights = self.scale * self.prototypes.t()
        return lambda features: features @ weights


@register
class ZeroShotEnsemble(ZeroShot):
    """The mean of each class's teacher prompts."""

    title, paper, row = "Zero-shot ensemble", "", 20
    needs_sentences = True

    options = TEACHER_OPTIONS

    def class_prototypes(self) -> Tensor:
        return Teacher.of(self, self.classnames).prototypes
