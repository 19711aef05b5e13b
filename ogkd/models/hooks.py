"""What changes a frozen tower for one call: vectors at its layers, and dropout. No tower needs a second forward.

A hook sees a layer's hidden states (N, L, width), which every tower here passes as the first argument or as
`hidden_states`. Whatever is changed is as before when a context ends, also after an exception. Not thread-safe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from numbers import Real

import torch
from torch import Tensor, nn

Change = Tensor | Callable[[Tensor], Tensor]
"""Vectors (n, width) for every row of a batch or (N, n, width), one set per row; or a function of the hidden states
(N, L, width) that returns what the layer sees instead."""

Deep = Mapping[int, Change]
"""Changes of the inputs of layers, by the layer's number from 0."""

# Where transformers' attention modules store the rate for a fused kernel: BERT's until 4.49, and CLIP's.
_ATTENTION_RATES = ("dropout_prob", "dropout")


@contextmanager
def in_text(layers: Sequence[nn.Module], deep: Deep | None, positions: Tensor | None = None) -> Iterator[None]:
    """Inside the context, vectors replace the tokens at `positions` (N, n), by default 1 .. n, of a layer's input."""
    with ExitStack() as stack:
        for number, change in (deep or {}).items():
            if isinstance(change, Tensor):
                change = partial(_replaced, vectors=change, positions=positions)
            _before(stack, layers[number], change)
        yield


@contextmanager
def in_image(layers: Sequence[nn.Module], prompts: Deep | None) -> Iterator[None]:
    """Inside the context, the first vectors are appended to a layer's input, later ones take their place, and the last
    layer's output has the tokens that it has without prompts."""
    with ExitStack() as stack:
        appended = 0
        for number, change in sorted((prompts or {}).items()):
            if isinstance(change, Tensor):
                count = change.shape[-2]
                change, appended = partial(_appended, vectors=change, before=appended), count
            _before(stack, layers[number], change)

        def drop(_module: nn.Module, _args: tuple, output):
            if isinstance(output, tuple):
                return (output[0][:, :-appended], *output[1:])
            return output[:, :-appended]

        if appended:
            stack.callback(layers[-1].register_forward_hook(drop).remove)
        yield


def _before(stack: ExitStack, layer: nn.Module, change: Callable[[Tensor], Tensor]) -> None:
    def hook(_module: nn.Module, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        if args:
            return (change(args[0]), *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": change(kwargs["hidden_states"])}

    stack.callback(layer.register_forward_pre_hook(hook, with_kwargs=True).remove)


def _rows(vectors: Tensor, hidden: Tensor) -> Tensor:
    return vectors.to(hidden.dtype).expand(hidden.shape[0], -1, -1)  # no len, which tracing takes for a constant


def _replaced(hidden: Tensor, vectors: Tensor, positions: Tensor | None) -> Tensor:
    rows = _rows(vectors, hidden)
    if positions is None:
        return torch.cat([hidden[:, :1], rows, hidden[:, 1 + rows.shape[1] :]], dim=1)
    return hidden.scatter(1, positions.to(hidden.device)[..., None].expand_as(rows), rows)


def _appended(hidden: Tensor, vectors: Tensor, before: int) -> Tensor:
    return torch.cat([hidden[:, : hidden.shape[1] - before], _rows(vectors, hidden)], dim=1)


class TextDropout:
    """Dropout of a text tower, which is false without a tower or if the tower has none.

    `modules` are its nn.Dropout modules: for a BERT, 1 + 3 per layer.
    """

    def __init__(self, tower: nn.Module | None = None) -> None:
        everything = [] if tower is None else list(tower.modules())
        self.modules = [module for module in everything if isinstance(module, nn.Dropout)]
        self._rates = [(module, "p") for module in self.modules] + [
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
        """Apply dropout at `rate` inside the context, whatever the tower's configuration says; 0 changes nothing."""
        changed: list[tuple[nn.Module, str, float]] = [(module, "training", True) for module in self._switched]
        changed += [(module, name, rate) for module, name in self._rates]
        changed = changed if rate else []
        before = [(module, name, getattr(module, name)) for module, name, _value in changed]
        try:
            for module, name, value in changed:
                setattr(module, name, value)
            yield
        finally:
            for module, name, value in before:
                setattr(module, name, value)
