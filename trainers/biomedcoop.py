"""BiomedCoOp: consistency with and distillation from an ensemble of prompts (Koleilat et al., CVPR 2025,
arXiv 2411.15232)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ogkd.models import ImageFeatures
from ogkd.tuning.distillation import kl_loss
from ogkd.tuning.options import Option, Options
from ogkd.tuning.prompt_method import PromptMethod
from ogkd.tuning.registration import register
from ogkd.tuning.task import Task
from ogkd.tuning.teacher import TEACHER_OPTIONS


@register
class BiomedCoOp(PromptMethod):
    """Total loss: CE + SCCM + KDSP."""

    title, paper, row = "BiomedCoOp", "2411.15232", 130

    options = (PromptMethod.options | TEACHER_OPTIONS).but(TEXT_DROPOUT=0.1) | Options(  # dropout as in published runs
        TAU=Option(
            1.5, "leave out prompts further than this many standard deviations from the rest", above=0, tune=(1.0, 2.5)
        ),
        LAMBDA_SCCM=Option(0.5, "weight of the consistency with the mean prototypes", least=0, tune=(0.25, 20.0)),
        LAMBDA_KDSP=Option(0.5, "weight of the distillation from the selected prompts", least=0, tune=(0.25, 20.0)),
    )

    def prepare(self, task: Task) -> None:
        super().prepare(task)
        self.teacher = task.teacher(self)
        self.prototypes = self.teacher.prototypes

    def terms(self, features: ImageFeatures, label: Tensor, text: Tensor, logits: Tensor) -> dict[str, Tensor]:
        options, image = self.options, features.global_token
        teacher = self.scale * image @ self.teacher.selected_prototypes(image, self.scale, options.TAU).t()
        return {
            "ce": self.cross_entropy(logits, label),
            "sccm": options.LAMBDA_SCCM * F.mse_loss(text, self.prototypes),
            "kdsp": options.LAMBDA_KDSP * kl_loss(logits, teacher),
        }
