"""Learned edits of the frozen towers' weight matrices, for `FrozenCLIP.edited`.

self.edits = Edits(self.clip_model, lambda name, weight: LowRank(weight, rank=4), attention_layers(self.clip_model))
model = self.edits.applied(self.clip_model)
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ogkd.features.cache import FeatureCache
from ogkd.models import FrozenCLIP
from ogkd.models.paths import AddedPath
from ogkd.tuning.method import NO_CACHE

PACKED = 3  # matrices one above another in packed attention: query, key and value
_PACKED_NAMES = re.compile(r"\.(qkv\.weight|in_proj_weight)$")
_ATTENTION = re.compile(r"\.(qkv\.weight|in_proj_weight|(query|key|value|[qkv]_proj)\.weight)$")


class Edits(nn.Module):
    """An edit of each weight matrix, by name in `FrozenCLIP.linear_layers`.

    `make(weight, parts)` returns the edit of a matrix (out, in) of which `parts` lie one above another: a module whose
    forward(weight) is the edited matrix, as in torch.nn.utils.parametrize, or an AddedPath. `names` are the matrices
    that are edited, by default all.
    """

    def __init__(
        self, model: FrozenCLIP, make: Callable[[Tensor, int], nn.Module], names: Iterable[str] | None = None
    ) -> None:
        super().__init__()
        layers = model.linear_layers()
        self.names = list(layers if names is None else names)
        self.of = nn.ModuleDict(
            {_key(name): make(getattr(*layers[name]).detach(), _parts(name)) for name in self.names}
        )

    def applied(self, model: FrozenCLIP) -> FrozenCLIP:
        """A copy of the model with these edits, which follows them while they learn. Keep it in a tuple, so that it is
        no submodule of the method."""
        return model.edited({name: self.of[_key(name)] for name in self.names})


def _key(name: str) -> str:
    return name.replace(".", "/")  # names of modules have no dots


def _parts(name: str) -> int:
    return PACKED if _PACKED_NAMES.search(name) else 1


def block_layers(model: FrozenCLIP, first: int = 0) -> list[str]:
    """The names in `linear_layers` of the matrices inside the layers of both towers, from layer `first`: attention's
    projections and the MLP's."""
    blocks = {id(block) for tower in (model.image_tower, model.text_tower) for block in list(tower.blocks)[first:]}
    prefixes = tuple(f"{path}." for path, module in model.named_modules() if id(module) in blocks)
    return [name for name in model.linear_layers() if name.startswith(prefixes)]


def attention_layers(model: FrozenCLIP) -> list[str]:
    """Those of `block_layers` that make queries, keys and values."""
    return [name for name in block_layers(model) if _ATTENTION.search(name)]


class LowRank(AddedPath):
    """scale * B A x beside W x, with a dropout of x in training (LoRA, arXiv 2106.09685); B is 0 at first, and A as in
    a new linear layer. Each of `parts` matrices one above another has a pair of its own."""

    def __init__(self, weight: Tensor, rank: int, scale: float = 1.0, dropout: float = 0.0, parts: int = 1) -> None:
        super().__init__()
        self.scale, self.dropout = scale, dropout
        out, width = weight.shape
        self.a = nn.Parameter(torch.empty(parts, rank, width).uniform_(-(width**-0.5), width**-0.5))
        self.b = nn.Parameter(torch.zeros(parts, out // parts, rank))

    def forward(self, inputs: Tensor) -> Tensor:
        dropped = (F.dropout(inputs, self.dropout, self.training) for _ in self.a)
        return torch.cat(
            [self.scale * (x @ a.t()) @ b.t() for x, a, b in zip(dropped, self.a, self.b, strict=True)], dim=-1
        )


def singular_vectors(matrices: Tensor, cache: FeatureCache) -> tuple[Tensor, Tensor]:
    """U (N, out, k) and V' (N, k, in) of matrices (N, out, in) on the CPU, where they are the same for every device.

    Those of a full-size model take most of a minute, so they are cached (a gigabyte), in LAPACK's order of numbers.
    """

    def decomposed() -> Tensor:
        u, _, v = torch.linalg.svd(matrices, full_matrices=False)
        return torch.cat([u.mT.flatten(), v.mT.flatten()])

    count, out, width = matrices.shape
    rank = min(out, width)
    key = {
        "what": "singular vectors", "shape": [count, out, width], "torch": torch.__version__,
        "weights": hashlib.sha256(matrices.contiguous().numpy().data).hexdigest(),
    }  # fmt: skip
    u, v = cache.get(key, decomposed).split([count * out * rank, count * rank * width])
    return u.view(count, rank, out).mT.clone(), v.view(count, width, rank).mT.clone()


class SingularValues(nn.Module):
    """U diag(s + delta) V' for the singular value decomposition U diag(s) V' of W; delta is 0 at first. Each of `parts`
    matrices one above another has a decomposition of its own."""

    u: Tensor
    v: Tensor

    def __init__(self, weight: Tensor, parts: int = 1, cache: FeatureCache = NO_CACHE) -> None:
        super().__init__()
        u, v = singular_vectors(weight.float().cpu().unflatten(0, (parts, -1)), cache)
        self.delta = nn.Parameter(torch.zeros(parts, v.shape[1]))
        self.register_buffer("u", u, persistent=False)
        self.register_buffer("v", v, persistent=False)
        self._last: tuple[object, Tensor] | None = None

    def forward(self, weight: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            self._last = None
            return self._edited(weight)
        # The product costs more than a layer's work on a few images, so that a test or prediction makes it once.
        version = self.delta.data_ptr(), self.delta._version, weight.data_ptr(), weight.dtype
        if self._last is None or self._last[0] != version:
            self._last = version, self._edited(weight)
        return self._last[1]

    def _edited(self, weight: Tensor) -> Tensor:
        return weight + (self.u * self.delta[:, None] @ self.v).flatten(0, 1).to(weight.dtype)
