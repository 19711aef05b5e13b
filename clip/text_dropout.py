"""Dropout in a frozen text tower, for one call at a time: no tower needs a second copy of its forward."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Real

from torch import nn

# Where attention modules of transformers keep the rate that they hand to a fused kernel: BERT's until 4.49, CLIP's.
_ATTENTION_RATES = ("dropout_prob", "dropout")


class TextDropout:
    """The dropout modules of one text tower, found once; without a tower, or in one that defines none, it is false.

    `modules` are its nn.Dropout modules: for a BERT, 1 + 3 per layer.
    """

    def __init__(self, tower: nn.Module | None = None) -> None:
        everything = [] if tower is None else list(tower.modules())
        self.modules = [module for module in everything if isinstance(module, nn.Dropout)]
        self._rates: list[tuple[nn.Module, str]] = [(module, "p") for module in self.modules]
        self._rates += [
            (module, name)
            for module in everything
            for name in _ATTENTION_RATES
            if isinstance(getattr(module, name, None), Real)
        ]
        # Attention asks its own `training` flag, not that of the nn.Dropout that it owns.
        owners = [m for m in everything if any(isinstance(child, nn.Dropout) for child in m.children())]
        self._switched = list(dict.fromkeys([*owners, *(module for module, _name in self._rates)]))

    def __bool__(self) -> bool:
        return bool(self._rates)

    @contextmanager
    def at(self, rate: float) -> Iterator[None]:
        """Inside the context the tower drops at `rate`, whatever its configuration says; at 0 it is left alone.

        Modes and rates are what they were when the context ends, also after an exception. One thread at a time.
        """
        if rate == 0 or not self:
            yield
            return
        before = [(module, "training", module.training) for module in self._switched]
        before += [(module, name, getattr(module, name)) for module, name in self._rates]
        try:
            for module in self._switched:
                module.training = True
            for module, name in self._rates:
                setattr(module, name, rate)
            yield
        finally:
            for module, name, value in before:
                setattr(module, name, value)
