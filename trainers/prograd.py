"""ProGrad: follow only the part of the gradient that does not contradict zero-shot CLIP (Zhu et al., ICCV 2023,
arXiv 2205.14865)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ogkd.models import ImageFeatures
from ogkd.tuning.options import Option, Options
from ogkd.tuning.prompt_method import PromptMethod
from ogkd.tuning.registration import register
from ogkd.tuning.task import Task
from ogkd.tuning.templates import TEMPLATE, template_features

NEGLIGIBLE = 5e-7  # relative to the task's gradient; in float32 anything smaller is rounding error


@register
class ProGrad(PromptMethod):
    """The gradient of the cross entropy without its component that opposes the gradient of the KL to the zero-shot
    model."""

    title, paper, row = "ProGrad", "2205.14865", 110

    options = PromptMethod.options | Options(
        TEMPLATE=Option(TEMPLATE, "the zero-shot model's prompt"),
        LAMBDA=Option(1.0, "share of the conflicting component that is removed", least=0, tune=(0.1, 1.0)),
        T=Option(1.0, "temperature of the KL", above=0, tune=(0.25, 4.0)),
    )

    def prepare(self, task: Task) -> None:
        super().prepare(task)
        self.zero_shot = template_features(self.clip_model, self.classnames, self.options.TEMPLATE, self.feature_cache)

    def terms(self, features: ImageFeatures, label: Tensor, text: Tensor, logits: Tensor) -> dict[str, Tensor]:
        teacher = self.scale * features.global_token @ self.zero_shot.t()
        return {"ce": self.cross_entropy(logits, label), "kl": tempered_kl(logits, teacher, self.options.T)}

    def backward(self, terms: dict[str, Tensor]) -> None:
        parameters = list(self.parameters())
        general = torch.autograd.grad(terms["kl"], parameters, retain_graph=True)
        task = torch.autograd.grad(torch.stack([terms[name] for name in terms if name != "kl"]).sum(), parameters)
        for parameter, g, k in zip(parameters, task, general, strict=True):
            parameter.grad = project(g, k, self.options.LAMBDA)


def tempered_kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T^2 KL(teacher / T || student / T) of logits (B, C), the mean over the batch."""
    log_student, log_teacher = (student / temperature).log_softmax(-1), (teacher / temperature).log_softmax(-1)
    return F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True) * temperature**2


def project(task: Tensor, general: Tensor, weight: float = 1.0) -> Tensor:
    """The task's gradient; where it conflicts with the general one, without its component along that one.

    A general gradient of at most NEGLIGIBLE times the length of the task's counts as zero. This happens in the first
    step alone, and only when training starts from the zero-shot model's own template: student and teacher agree, and
    their difference is rounding error (3e-8 to 3e-7), whose direction is meaningless. In the second step the context
    has moved by the warm-up's learning rate, and the general gradient, from 8e-7 upwards, is real.
    """
    size = general.norm()
    direction = general / size.clamp_min(torch.finfo(general.dtype).tiny)
    along = (task * direction).sum()
    contradicts = (along < 0) & (size > NEGLIGIBLE * task.norm())
    return torch.where(contradicts, task - weight * along * direction, task)
