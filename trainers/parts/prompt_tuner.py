"""The base of methods that learn a prompt while both towers stay frozen."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from clip import ImageFeatures
from trainers.parts.clip_trainer import ClipTrainer
from trainers.parts.prompt_learner import PromptLearner, prompt_options


class PromptTuner(ClipTrainer):
    """Learns context vectors, `self.prompt_learner`; a subclass is its losses."""

    prompt_learner_class = PromptLearner

    @classmethod
    def default_options(cls) -> dict[str, object]:
        return prompt_options()

    def build_method(self) -> None:
        self.prompt_learner = self.prompt_learner_class.of(self.clip_model, self.classnames, self.options)
        self.learn("prompt_learner", self.prompt_learner)

    def text_features(self) -> Tensor:
        """Normalised text features of the prompted classes, (C, D), differentiable in the context."""
        return F.normalize(self.clip_model.encode_text(*self.prompt_learner()), dim=-1)

    def classifier(self) -> Callable[[Tensor], Tensor]:
        weights = self.scale * self.text_features().t()
        return lambda features: features @ weights

    def patch_classifier(self) -> Callable[[ImageFeatures], Tensor]:
        weights = self.scale * self.text_features().t()
        return lambda features: features.patch_tokens @ weights
