"""The base class of methods that learn a prompt."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from ogkd.models import ImageFeatures
from ogkd.tuning.calibration import separation, smac, smoothed_cross_entropy
from ogkd.tuning.method import Method
from ogkd.tuning.prompt_learner import PROMPT_OPTIONS, PromptLearner


class PromptMethod(Method):
    """Learns context vectors, `self.prompt_learner`; a subclass adds terms to the loss."""

    groups: tuple[str, ...] = ("prompt",)
    folder = "prompt_learner"
    compares_tokens = True
    options = PROMPT_OPTIONS
    prompt_learner_class = PromptLearner

    def build(self) -> None:
        self.prompt_learner = self.prompt_learner_class.of(self.clip_model, self.classnames, self.options)

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
        return self.terms(features, label, text, logits) | self.calibration(label, text, logits), logits

    def terms(self, features: ImageFeatures, label: Tensor, text: Tensor, logits: Tensor) -> dict[str, Tensor]:
        """The loss terms by name, given the student's text features (C, D) and logits (B, C).

        A term for any prompt method is a class that returns `super().terms(...) | {...}`, put before the method among
        the bases.
        """
        return {"ce": self.cross_entropy(logits, label)}

    def cross_entropy(self, logits: Tensor, label: Tensor) -> Tensor:
        """The cross entropy of logits (B, C), with the option LABEL_SMOOTHING."""
        return smoothed_cross_entropy(logits, label, self.options.LABEL_SMOOTHING)

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
