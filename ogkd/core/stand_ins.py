"""Reads checkpoints that Dassl wrote without running anything in them.

Besides tensors they hold pickled objects: the scheduler that follows a warm-up and, inside it, the optimiser. Each
becomes a stand-in that only keeps its attributes; all classes not listed here are refused, as by `weights_only`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

CLASSES = (
    *(f"torch.optim.{name.lower()}.{name}" for name in ("SGD", "Adam", "AdamW", "RAdam", "RMSprop")),
    *(f"torch.optim.lr_scheduler.{name}" for name in ("StepLR", "MultiStepLR", "CosineAnnealingLR")),
    *(f"dassl.optim.lr_scheduler.{name}" for name in ("ConstantWarmupScheduler", "LinearWarmupScheduler")),
    *(f"dassl.optim.radam.{name}" for name in ("RAdam", "PlainRAdam", "AdamW")),
)


class StandIn:
    """Replaces an object of a listed class."""

    __slots__ = ("state",)

    def __setstate__(self, state: object) -> None:
        self.state = state

    def attributes(self) -> dict:
        """Return its attributes as a state dict, without a scheduler's optimiser."""
        state = getattr(self, "state", None)
        return {k: v for k, v in state.items() if k != "optimizer"} if isinstance(state, dict) else {}


class _Anything(StandIn):
    """Replaces an object of any class, and what a function returns."""

    __slots__ = ()

    def __init__(self, *_arguments: object) -> None: ...


def _default_dict(*_factory: object) -> dict:
    """Replaces collections.defaultdict."""
    return {}


STAND_INS: list[Callable | tuple[Callable, str]] = [
    *((StandIn, name) for name in CLASSES),
    (_default_dict, "collections.defaultdict"),
    (dict, "builtins.dict"),
]


def read_inert(path: Path) -> Any:
    """Load a file of torch.save on the CPU: tensors and plain values, with state dicts in place of optimisers and
    schedulers.

    Raises pickle.UnpicklingError if the file names anything else, and other errors if it is corrupt.
    """
    with torch.serialization.safe_globals(STAND_INS):
        return plain(torch.load(path, map_location="cpu", weights_only=True))


def read_beside_others(path: Path, mmap: bool = False) -> Any:
    """Load a file of torch.save on the CPU: tensors and plain values as they are, anything else as an inert stand-in,
    whatever class or function the file names; nothing of it is imported or run.

    Raises pickle.UnpicklingError if it is in the format before PyTorch 1.6, and other errors if it is corrupt.
    """
    names = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
    others: list[Callable | tuple[Callable, str]] = [(_Anything, name) for name in names]
    with torch.serialization.safe_globals(others):
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)


def plain(value: Any) -> Any:
    """Replace each stand-in in a value by a dict; containers keep their types."""
    if isinstance(value, StandIn):
        return plain(value.attributes())
    if type(value) is dict:
        return {key: plain(one) for key, one in value.items()}
    if type(value) in (list, tuple):
        return type(value)(plain(one) for one in value)
    return value
