"""Learned edits of the frozen towers' weight matrices, for `FrozenCLIP.edited`.

self.edits = Edits(self.clip_model, lambda weight: LowRank(weight, rank=4))  # learned and saved
model = self.edits.applied(self.clip_model)
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ogkd.models import FrozenCLIP


class Edits(nn.Module):
    """An edit of each weight matrix, by name in `FrozenCLIP.linear_layers`.

    `make(weight)` returns the edit of a matrix (out, in): a module whose forward(weight) is the edited matrix, as in
    torch.nn.utils.parametrize. `where(name)` says which matrices are edited, by default all.
    """

    def __init__(
        self, model: FrozenCLIP, make: Callable[[Tensor], nn.Module], where: Callable[[str], bool] = lambda name: True
    ) -> None:
        super().__init__()
        layers = {name: layer for name, layer in model.linear_layers().items() if where(name)}
        self.of = nn.ModuleDict({_key(name): make(getattr(*layer).detach()) for name, layer in layers.items()})
        self.names = list(layers)

    def applied(self, model: FrozenCLIP) -> FrozenCLIP:
        """A copy of the model with these edits, which follows them while they learn. Keep it in a tuple, so that it is
        no submodule of the method."""
        return model.edited({name: self.of[_key(name)] for name in self.names})


def _key(name: str) -> str:
    return name.replace(".", "/")  # names of modules have no dots


class LowRank(nn.Module):
    """W + scale B A, with A (rank, in) small and random and B (out, rank) zero at first (LoRA, arXiv 2106.09685)."""

    def __init__(self, weight: Tensor, rank: int, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        self.a = nn.Parameter(torch.empty(rank, weight.shape[1]).normal_(std=weight.shape[1] ** -0.5))
        self.b = nn.Parameter(torch.zeros(weight.shape[0], rank))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (self.scale * self.b @ self.a).to(weight.dtype)


class SingularValues(nn.Module):
    """U diag(s + delta) V' for the singular value decomposition U diag(s) V' of W; delta is 0 at first."""

    u: Tensor
    v: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.delta = nn.Parameter(torch.zeros(min(weight.shape)))
        u, _, v = torch.linalg.svd(weight.float(), full_matrices=False)
        self.register_buffer("u", u, persistent=False)
        self.register_buffer("v", v, persistent=False)

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (self.u * self.delta @ self.v).to(weight.dtype)
