"""Switches dropout on in a frozen text tower for one call at a time, without a copy of the tower's forward."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from numbers import Real

from torch import nn

# Where transformers' attention modules store the rate for a fused kernel: BERT's until 4.49, and CLIP's.
_ATTENTION_RATES = ("dropout_prob", "dropout")


class TextDropout:
    """The dropout modules of a text tower, found once. It is false without a tower or if the tower has no dropout.

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
        # Attention reads its own `training` flag, not that of its nn.Dropout.
        owners = [m for m in everything if any(isinstance(child, nn.Dropout) for child in m.children())]
        self._switched = list(dict.fromkeys([*owners, *(module for module, _name in self._rates)]))

    def __bool__(self) -> bool:
        return bool(self._rates)

    @contextmanager
    def at(self, rate: float) -> Iterator[None]:
        """Apply dropout at `rate` inside the context, whatever the tower's configuration says; 0 changes nothing.

        Modes and rates are restored when the context ends, also after an exception. Not thread-safe.
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
