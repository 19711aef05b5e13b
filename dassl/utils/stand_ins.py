"""Reading the checkpoints that Dassl wrote without running anything in them.

Beside tensors they hold pickled objects: the scheduler that follows a warm-up and, in it, the optimiser. Each becomes a
stand-in that only keeps its attributes; classes other than those listed here are refused as by `weights_only`.
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
    """In place of an object of a listed class."""

    __slots__ = ("state",)

    def __setstate__(self, state: object) -> None:
        self.state = state

    def attributes(self) -> dict:
        """Its attributes as a state dict; the optimiser of a scheduler is not part of one."""
        state = getattr(self, "state", None)
        return {k: v for k, v in state.items() if k != "optimizer"} if isinstance(state, dict) else {}


def _default_dict(*_factory: object) -> dict:
    """In place of collections.defaultdict."""
    return {}


STAND_INS: list[Callable | tuple[Callable, str]] = [
    *((StandIn, name) for name in CLASSES),
    (_default_dict, "collections.defaultdict"),
    (dict, "builtins.dict"),
]


def read_inert(path: Path) -> Any:
    """What a file of torch.save holds, on the CPU: tensors and plain values, with state dicts in place of optimisers
    and schedulers.

    Raises pickle.UnpicklingError for a file that names anything else, other errors for a damaged one.
    """
    with torch.serialization.safe_globals(STAND_INS):
        return plain(torch.load(path, map_location="cpu", weights_only=True))


def plain(value: Any) -> Any:
    """A value with a dict in place of each stand-in; containers of other types stay what they are."""
    if isinstance(value, StandIn):
        return plain(value.attributes())
    if type(value) is dict:
        return {key: plain(one) for key, one in value.items()}
    if type(value) in (list, tuple):
        return type(value)(plain(one) for one in value)
    return value
