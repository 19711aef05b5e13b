from __future__ import annotations

import torch
from torch import Tensor, nn


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.factor * gradient, None


class ReverseGrad(nn.Module):
    """The identity, with its gradient multiplied by -grad_scaling (Ganin & Lempitsky, ICML 2015, arXiv 1409.7495)."""

    def forward(self, x: Tensor, grad_scaling: float = 1.0) -> Tensor:
        return _Reverse.apply(x, grad_scaling)
