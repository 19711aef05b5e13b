"""CLIP-Adapter: a bottleneck on the image feature, mixed with it (Gao et al., IJCV 2024, arXiv 2110.04544)."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from ogkd.models import ImageFeatures
from ogkd.tuning.feature_method import FeatureMethod
from ogkd.tuning.options import Option, Options
from ogkd.tuning.registration import register
from ogkd.tuning.templates import TEMPLATE, template_features


class Adapter(nn.Module):
    """D -> D / reduction -> D with ReLU; ratio * adapted + (1 - ratio) * feature, optionally normalised."""

    def __init__(self, width: int, reduction: int, ratio: float, normalize: bool = True) -> None:
        super().__init__()
        hidden = max(1, width // reduction)
        self.ratio, self.normalize = ratio, normalize
        self.layers = nn.Sequential(
            nn.Linear(width, hidden, bias=False), nn.ReLU(), nn.Linear(hidden, width, bias=False), nn.ReLU()
        )

    def forward(self, features: Tensor) -> Tensor:
        """Adapted features (B, D) of normalised features (B, D)."""
        mixed = self.ratio * self.layers(features) + (1 - self.ratio) * features
        return F.normalize(mixed, dim=-1) if self.normalize else mixed


@register
class CLIPAdapter(FeatureMethod):
    """Cross entropy. RATIO and NORMALIZE default to the authors' values; the benchmark uses 0.5 and False."""

    title, paper, row = "CLIP-Adapter", "2110.04544", 30
    draws_each_epoch = True

    folder = "adapter"
    options = Options(
        TEMPLATE=Option(TEMPLATE, "the hand-written prompt"),
        RATIO=Option(0.2, "share of the adapted feature in the mixture", least=0, most=1, tune=(0.1, 0.9)),
        NORMALIZE=Option(True, "normalise the mixture to length 1"),
        REDUCTION=Option(4, "how many times narrower the bottleneck is", least=1),
    )

    def build(self) -> None:
        options = self.options
        self.text = template_features(self.clip_model, self.classnames, options.TEMPLATE, self.feature_cache)
        self.adapter = Adapter(self.clip_model.embed_dim, options.REDUCTION, options.RATIO, options.NORMALIZE)

    def classifier(self) -> Callable[[Tensor], Tensor]:
        return lambda features: self.scale * self.adapter(features) @ self.text.t()

    def losses(self, inputs: ImageFeatures, label: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        logits = self.classifier()(inputs.global_token)
        return {"ce": F.cross_entropy(logits, label)}, logits
