"""Edits of a frozen tower's weights for one call at a time; the tower itself, which all runs share, never changes.

    self.edits = WeightEdits(model.image_tower, lambda weight: LowRank(weight, rank=4))  # learned
    model.encode_image(images, weights=self.edits())
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ogkd.models.errors import ModelError


def linear_weights(tower: nn.Module) -> dict[str, Tensor]:
    """The weight matrices (out, in) of a tower's linear maps by name, with the packed query, key and value of
    nn.MultiheadAttention, (3 width, width)."""
    found = {}
    for name, module in tower.named_modules():
        packed = isinstance(module, nn.MultiheadAttention) and module.in_proj_weight is not None
        if packed or isinstance(module, nn.Linear):
            kind = "in_proj_weight" if packed else "weight"
            found[f"{name}.{kind}"] = getattr(module, kind)
    return found


class WeightEdits(nn.Module):
    """A learned edit of each of a tower's weight matrices: calling it gives the edited matrices by name.

    `make(weight)` returns the edit of a matrix, a module whose forward(weight) is the edited matrix, as in
    torch.nn.utils.parametrize. `where(name)` says which matrices are edited, by default all of `linear_weights`.
    """

    def __init__(
        self, tower: nn.Module, make: Callable[[Tensor], nn.Module], where: Callable[[str], bool] = lambda name: True
    ) -> None:
        super().__init__()
        self._weights = {name: weight for name, weight in linear_weights(tower).items() if where(name)}
        self.edits = nn.ModuleDict({name.replace(".", "/"): make(weight) for name, weight in self._weights.items()})

    def forward(self) -> dict[str, Tensor]:
        return {name: self.edits[name.replace(".", "/")](weight) for name, weight in self._weights.items()}


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

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.delta = nn.Parameter(torch.zeros(min(weight.shape)))
        u, _, v = torch.linalg.svd(weight.detach().float(), full_matrices=False)
        self.register_buffer("u", u, persistent=False)
        self.register_buffer("v", v, persistent=False)

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (self.u * self.delta @ self.v).to(weight.dtype)


def called(tower: nn.Module, weights: Mapping[str, Tensor] | None, *args: Any) -> Any:
    """tower(*args), with some of its parameters replaced; those of a projection that is left out do not count."""
    if not weights:
        return tower(*args)
    there = {name for name, _ in tower.named_parameters(remove_duplicate=False)}
    used = {name: weight for name, weight in weights.items() if name in there}
    # The towers hold some modules under two names, which tie_weights would restore to the replacement.
    return functional_call(tower, used, args, tie_weights=False)


@contextmanager
def unprojected(tower: Any) -> Iterator[None]:
    """Inside the context, a tower's features are those before its projection. Not thread-safe.

    Raises ModelError for a tower whose projection is unknown.
    """
    if not hasattr(tower, "projections"):
        raise ModelError(f"The projection of a {type(tower).__name__} is unknown, so it cannot be left out.")
    before = [(owner, name, getattr(owner, name)) for owner, name in tower.projections()]
    try:
        for owner, name, projection in before:
            setattr(owner, name, nn.Identity() if isinstance(projection, nn.Module) else None)
        yield
    finally:
        for owner, name, projection in before:
            setattr(owner, name, projection)
