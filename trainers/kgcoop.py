"""KgCoOp: keep the learned text features near the hand-written ones (Yao et al., CVPR 2023, arXiv 2303.13283)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ogkd.models import ImageFeatures
from ogkd.tuning.options import Option, Options
from ogkd.tuning.prompt_method import PromptMethod
from ogkd.tuning.registration import register
from ogkd.tuning.task import Task
from ogkd.tuning.templates import TEMPLATE, template_features


@register
class KgCoOp(PromptMethod):
    """Total loss: CE + W (1 - mean cosine of learned and template text features)."""

    title, paper, row = "KgCoOp", "2303.13283", 100

    options = PromptMethod.options | Options(
        TEMPLATE=Option(TEMPLATE, "the hand-written prompt"),
        W=Option(8.0, "weight of the knowledge-guided term", least=0, tune=(0.5, 16.0)),
    )

    def prepare(self, task: Task) -> None:
        super().prepare(task)
        self.frozen = template_features(self.clip_model, self.classnames, self.options.TEMPLATE, self.feature_cache)

    def terms(self, features: ImageFeatures, label: Tensor, text: Tensor, logits: Tensor) -> dict[str, Tensor]:
        return {"ce": self.cross_entropy(logits, label), "kg": self.options.W * kg_loss(text, self.frozen)}


def kg_loss(learned: Tensor, frozen: Tensor) -> Tensor:
    """1 - mean cosine of matching rows of (C, D) text features."""
    return 1 - F.cosine_similarity(learned, frozen, dim=-1).mean()
