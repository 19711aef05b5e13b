"""KgCoOp: keep the learned text features near the hand-written ones (Yao et al., CVPR 2023, arXiv 2303.13283)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor
from yacs.config import CfgNode

from clip import ImageFeatures
from dassl.engine import TRAINER_REGISTRY
from trainers.base import PromptTuner
from trainers.options import require
from trainers.prompt_learner import prompt_config
from trainers.templates import TEMPLATE, template_features


@TRAINER_REGISTRY.register()
class KgCoOp(PromptTuner):
    """Total loss: CE + W (1 - mean cosine of learned and template text features)."""

    @staticmethod
    def extend_config(cfg: CfgNode) -> None:
        cfg.TRAINER.KGCOOP = prompt_config(
            TEMPLATE=TEMPLATE,
            W=8.0,  # weight of the knowledge-guided term
        )

    def check_cfg(self, cfg: CfgNode) -> None:
        super().check_cfg(cfg)
        require(cfg.TRAINER.KGCOOP, "W", least=0)

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
