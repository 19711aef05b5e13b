"""Linear probe: logistic regression on image features (Radford et al., ICML 2021, arXiv 2103.00020)."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from clip import ImageFeatures
from dassl.engine import TRAINER_REGISTRY
from trainers.parts.feature_trainer import FeatureTrainer


@TRAINER_REGISTRY.register()
class LinearProbe(FeatureTrainer):
    title, paper, row = "Linear probe", "2103.00020", 60

    def build_method(self) -> None:
        self.linear = nn.Linear(self.clip_model.embed_dim, len(self.classnames))
        self.learn("linear", self.linear)

    def classifier(self) -> Callable[[Tensor], Tensor]:
        return self.linear

    def losses(self, inputs: ImageFeatures, label: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        logits = self.linear(inputs.global_token)
        return {"ce": F.cross_entropy(logits, label)}, logits
