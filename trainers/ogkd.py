"""OGKD: Omni-Geometry Knowledge Distillation (arXiv 2606.04922).

The teacher's log-probabilities are diffused along a graph of the classes. The student, four context vectors, is
distilled from them on the global image token (GAD) and on the patches most attentive to the true class (LGD):
ogkd/tuning/distillation.py.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor
from yacs.config import CfgNode

from ogkd.models import ImageFeatures
from ogkd.tuning.distillation import DISTILLATION_OPTIONS, Distillation, graph_fingerprint
from ogkd.tuning.options import Option, Options
from ogkd.tuning.prompt_method import PromptMethod
from ogkd.tuning.registration import register
from ogkd.tuning.task import Task


@register
class OGKD(PromptMethod):
    """Total loss: CE + SCCM + GAD + LGD; no gradient flows through the teacher or the graph."""

    title, paper, row = "OGKD", "2606.04922", 140
    uses_patches = True
    distillation: Distillation

    options = (PromptMethod.options.without("DISTIL") | DISTILLATION_OPTIONS).but(
        TEXT_DROPOUT=0.1  # as in published runs
    ) | Options(
        LAMBDA_SCCM=Option(0.5, "weight of the consistency with the mean prototypes", least=0, tune=(0.25, 20.0))
    )

    @classmethod
    def fingerprints(cls, options: CfgNode, dataset: str) -> dict[str, str]:
        return graph_fingerprint(options, dataset)

    def prepare(self, task: Task) -> None:
        self.distillation = Distillation(self.options, self, task)
        self.prototypes = self.distillation.teacher.prototypes

    def terms(self, features: ImageFeatures, label: Tensor, text: Tensor, logits: Tensor) -> dict[str, Tensor]:
        return {
            "ce": self.cross_entropy(logits, label),
            "sccm": self.options.LAMBDA_SCCM * F.mse_loss(text, self.prototypes),
        }
