"""KgCoOp: keep the learned text features near the hand-written ones (Yao et al., CVPR 2023, arXiv 2303.13283)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from ogkd.models import ImageFeatures
from ogkd.tuning.options import require
from ogkd.tuning.prompt_tuner import PromptTuner
from ogkd.tuning.templates import TEMPLATE, template_features


@TRAINER_REGISTRY.register()
class KgCoOp(PromptTuner):
    """Total loss: CE + W (1 - mean cosine of learned and template text features)."""

    title, paper, row = "KgCoOp", "2303.13283", 100

    @classmethod
    def default_options(cls) -> dict[str, object]:
        return {
            **super().default_options(),
            "TEMPLATE": TEMPLATE,
            "W": 8.0,  # weight of the knowledge-guided term
        }

    @classmethod
    def check_options(cls, options: CfgNode) -> None:
        super().check_options(options)
        require(options, "W", least=0)

    def build_method(self) -> None:
        super().build_method()
        self.frozen = template_features(self.clip_model, self.classnames, self.options.TEMPLATE, self.cache)

    def losses(self, features: ImageFeatures, label: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        text = self.text_features()
        logits = self.scale * features.global_token @ text.t()
        terms = {"ce": F.cross_entropy(logits, label), "kg": self.options.W * kg_loss(text, self.frozen)}
        return terms, logits


def kg_loss(learned: Tensor, frozen: Tensor) -> Tensor:
    """1 - mean cosine of matching rows of (C, D) text features."""
    return 1 - F.cosine_similarity(learned, frozen, dim=-1).mean()
