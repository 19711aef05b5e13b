"""BiomedCoOp: consistency with and distillation from an ensemble of prompts (Koleilat et al., CVPR 2025,
arXiv 2411.15232)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from ogkd.models import ImageFeatures
from ogkd.tuning.options import require
from ogkd.tuning.prompt_tuner import PromptTuner
from ogkd.tuning.teacher import Teacher, check_teacher_options, teacher_options


@TRAINER_REGISTRY.register()
class BiomedCoOp(PromptTuner):
    """Total loss: CE + SCCM + KDSP."""

    title, paper, row = "BiomedCoOp", "2411.15232", 130

    @classmethod
    def default_options(cls) -> dict[str, object]:
        return {
            **super().default_options(),
            **teacher_options(),
            "TEXT_DROPOUT": 0.1,  # as in the published runs
            "TAU": 1.5,  # leave out prompts further than this many standard deviations from the rest
            "LAMBDA_SCCM": 0.5,  # weight of the consistency with the mean prototypes
            "LAMBDA_KDSP": 0.5,  # weight of the distillation from the selected prompts
        }

    @classmethod
    def check_options(cls, options: CfgNode) -> None:
        super().check_options(options)
        check_teacher_options(options)
        require(options, "LAMBDA_SCCM", "LAMBDA_KDSP", least=0)
        require(options, "TAU", above=0)

    def before_train(self) -> None:
        self.teacher = Teacher.of(self, self.classnames)
        self.prototypes = self.teacher.prototypes
        super().before_train()

    def losses(self, features: ImageFeatures, label: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        options, image = self.options, features.global_token
        text = self.text_features()
        logits = self.scale * image @ text.t()
        teacher = self.scale * image @ self.teacher.selected_prototypes(image, self.scale, options.TAU).t()
        terms = {
            "ce": F.cross_entropy(logits, label),
            "sccm": options.LAMBDA_SCCM * F.mse_loss(text, self.prototypes),
            "kdsp": options.LAMBDA_KDSP * kdsp_loss(logits, teacher),
        }
        return terms, logits


def kdsp_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher || student) of logits (B, C), summed and divided by B * C."""
    kl = F.kl_div(student.log_softmax(-1), teacher.log_softmax(-1), reduction="sum", log_target=True)
    return kl / student.numel()
