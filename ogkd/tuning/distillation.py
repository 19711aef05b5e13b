"""Distillation from a teacher's logits."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def kl_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher || student) of logits (B, C), summed and divided by B * C."""
    kl = F.kl_div(student.log_softmax(-1), teacher.log_softmax(-1), reduction="sum", log_target=True)
    return kl / student.numel()
