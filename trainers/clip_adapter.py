"""CLIP-Adapter: a bottleneck on the image feature, mixed with it (Gao et al., IJCV 2024, arXiv 2110.04544)."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn
from yacs.config import CfgNode

from clip import ImageFeatures
from dassl.engine import TRAINER_REGISTRY
from trainers.parts.feature_trainer import FeatureTrainer
from trainers.parts.options import require
from trainers.parts.templates import TEMPLATE, template_features


class Adapter(nn.Module):
    """D -> D / reduction -> D with ReLU; ratio * adapted + (1 - ratio) * feature."""

    def __init__(self, width: int, reduction: int, ratio: float) -> None:
        super().__init__()
        hidden = max(1, width // reduction)
        self.ratio = ratio
        self.layers = nn.Sequential(
            nn.Linear(width, hidden, bias=False), nn.ReLU(), nn.Linear(hidden, width, bias=False), nn.ReLU()
        )

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, D), normalised again."""
        return F.normalize(self.ratio * self.layers(features) + (1 - self.ratio) * features, dim=-1)


@TRAINER_REGISTRY.register()
class CLIPAdapter(FeatureTrainer):
    title, paper, row = "CLIP-Adapter", "2110.04544", 30

    @classmethod
    def default_options(cls) -> dict[str, object]:
        return {"TEMPLATE": TEMPLATE, "RATIO": 0.2, "REDUCTION": 4}

    @classmethod
    def check_options(cls, options: CfgNode) -> None:
        require(options, "RATIO", least=0, most=1)
        require(options, "REDUCTION", least=1)

    def build_method(self) -> None:
        options = self.options
        self.text = template_features(self.clip_model, self.classnames, options.TEMPLATE, self.cache)
        self.adapter = Adapter(self.clip_model.embed_dim, options.REDUCTION, options.RATIO)
        self.learn("adapter", self.adapter)

    def classifier(self) -> Callable[[Tensor], Tensor]:
        return lambda features: self.scale * self.adapter(features) @ self.text.t()

    def losses(self, inputs: ImageFeatures, label: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        logits = self.classifier()(inputs.global_token)
        return {"ce": F.cross_entropy(logits, label)}, logits
