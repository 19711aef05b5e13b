"""Dassl's names for the optimisers of this module, on PyTorch's."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import AdamW

__all__ = ["AdamW", "PlainRAdam", "RAdam"]


class RAdam(torch.optim.RAdam):
    """Rectified Adam (arXiv 1908.03265) with weight decay apart from the gradient, as Dassl's.

    degenerated_to_sgd: whether the first steps, whose variance cannot be rectified, follow the momentum. PyTorch's do,
        so False is refused.
    """

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        degenerated_to_sgd: bool = True,
    ) -> None:
        if not degenerated_to_sgd:
            raise ValueError("RAdam's first steps follow the momentum here: leave out degenerated_to_sgd.")
        super().__init__(params, lr, betas, eps, weight_decay, decoupled_weight_decay=True)


PlainRAdam = RAdam
