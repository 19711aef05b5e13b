"""The base class of methods that learn a prompt."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor
from yacs.config import CfgNode

from ogkd.models import ImageFeatures
from ogkd.tuning.calibration import separation, smac, smoothed_cross_entropy
from ogkd.tuning.distillation import DISTILLATION_OPTIONS, Distillation, distilled_with
from ogkd.tuning.method import Method
from ogkd.tuning.prompt_learner import PROMPT_OPTIONS, PromptLearner
from ogkd.tuning.task import Task


class PromptMethod(Method):
    """Learns context vectors, `self.prompt_learner`; a subclass adds terms to the loss."""

    groups: tuple[str, ...] = ("prompt",)
    folder = "prompt_learner"
    compares_tokens = True
    options = PROMPT_OPTIONS
    prompt_learner_class = PromptLearner
    distillation: Distillation | None = None

    @classmethod
    def check_cfg(cls, cfg: CfgNode) -> None:
        options = distilled_with(cfg)
        if options is not None:
            DISTILLATION_OPTIONS.check(options)

    def build(self) -> None:
        self.prompt_learner = self.prompt_learner_class.of(self.clip_model, self.classnames, self.options)

    def prepare(self, task: Task) -> None:
        """With DISTIL, make the teacher and the class graph; a subclass that overrides this calls it."""
        options = distilled_with(task.cfg)
        if options is not None:
            self.distillation, self.uses_patches = Distillation(options, self, task), True

    def text_features(self) -> Tensor:
        """Normalised text features of the prompted classes, (C, D), differentiable in the context.

        In train mode the text tower applies dropout at the rate TEXT_DROPOUT.
        """
        sentences, mask = self.prompt_learner()
        text = self.clip_model.encode_text(sentences, mask, dropout=self.prompt_learner.text_dropout)
        return F.normalize(text, dim=-1)

    def losses(self, features: ImageFeatures, label: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        text = self.text_features()
        logits = self.scale * features.global_token @ text.t()
        terms = self.terms(features, label, text, logits) | self.distilled(features, features, label, text, logits)
        return terms | self.calibration(label, text, logits), logits

    def terms(self, features: ImageFeatures, label: Tensor, text: Tensor, logits: Tensor) -> dict[str, Tensor]:
        """The loss terms by name, given the student's text features (C, D) and logits (B, C).

        A term for any prompt method is a class that returns `super().terms(...) | {...}`, put before the method among
        the bases.
        """
        return {"ce": self.cross_entropy(logits, label)}

    def cross_entropy(self, logits: Tensor, label: Tensor) -> Tensor:
        """The cross entropy of logits (B, C), with the option LABEL_SMOOTHING."""
        return smoothed_cross_entropy(logits, label, self.options.LABEL_SMOOTHING)

    def distilled(
        self, student: ImageFeatures, frozen: ImageFeatures, label: Tensor, text: Tensor, logits: Tensor
    ) -> dict[str, Tensor]:
        """OGKD's terms, with the option DISTIL, given the images' tokens as the student sees them and as the frozen
        tower does, text features (..., C, D) and logits (B, C)."""
        if self.distillation is None:
            if self.options.get("DISTIL", "none") != "none":
                raise TypeError(
                    f"{type(self).__name__}.prepare does not call PromptMethod.prepare, so DISTIL has no use."
                )
            return {}
        return self.distillation.terms(student, frozen, label, text, logits)

    def calibration(self, label: Tensor, text: Tensor, logits: Tensor) -> dict[str, Tensor]:
        """CalibPrompt's terms, those whose weight is not 0, for text features (..., C, D) and logits (B, C)."""
        options, terms = self.options, {}
        if options.SMAC:
            terms["smac"] = options.SMAC * smac(logits, label, options.LABEL_SMOOTHING)
        if options.SEPARATION:
            terms["separation"] = options.SEPARATION * separation(text)
        return terms

    def classifier(self) -> Callable[[Tensor], Tensor]:
        self.eval()
        weights = self.scale * self.text_features().t()
        return lambda features: features @ weights
