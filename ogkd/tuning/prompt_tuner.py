"""The base class of methods that learn a prompt while both towers stay frozen."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch.nn.functional as F
from torch import Tensor
from yacs.config import CfgNode

from ogkd.models import ImageFeatures
from ogkd.tuning.clip_trainer import ClipTrainer
from ogkd.tuning.prompt_learner import PromptLearner, check_prompt_options, prompt_options


class PromptTuner(ClipTrainer):
    """Learns context vectors, `self.prompt_learner`; a subclass defines the losses."""

    prompt_learner_class = PromptLearner

    @classmethod
    def default_options(cls) -> dict[str, object]:
        return prompt_options()

    @classmethod
    def check_options(cls, options: CfgNode) -> None:
        check_prompt_options(options)

    def build_method(self) -> None:
        self.prompt_learner = self.prompt_learner_class.of(self.clip_model, self.classnames, self.options)
        self.learn("prompt_learner", self.prompt_learner)

    def text_features(self) -> Tensor:
        """Normalised text features of the prompted classes, (C, D), differentiable in the context.

        In train mode the text tower applies dropout at the rate TEXT_DROPOUT.
        """
        sentences, mask = self.prompt_learner()
        text = self.clip_model.encode_text(sentences, mask, dropout=self.prompt_learner.text_dropout)
        return F.normalize(text, dim=-1)

    def classifier(self) -> Callable[[Tensor], Tensor]:
        self.set_model_mode("eval")
        weights = self.scale * self.text_features().t()
        return lambda features: features @ weights

    def patch_classifier(self) -> Callable[[ImageFeatures], Tensor]:
        weights = self.scale * self.text_features().t()
        return lambda features: cast(Tensor, features.patch_tokens) @ weights
