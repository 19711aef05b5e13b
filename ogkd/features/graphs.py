"""The text tower's step as one CUDA graph: its forward and backward pass are recorded once and then replayed, so that a
step waits for its kernels and not for the launching of hundreds of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor

from ogkd.models import FrozenCLIP
from ogkd.models.hooks import Deep

Step = Callable[[Tensor, Tensor], Tensor]
Capture = Callable[[Step, tuple[Tensor, Tensor]], Step]


def with_graphs(model: FrozenCLIP, on: bool) -> FrozenCLIP:
    """`model` itself, or on a CUDA device, if `on`, a view of it that replays its text tower's steps."""
    if not on or model.device.type != "cuda":
        return model
    return cast(FrozenCLIP, ReplayedCLIP(model, cast(Capture, torch.cuda.make_graphed_callables)))


class ReplayedCLIP:
    """A frozen model with FrozenCLIP's interface, whose `encode_text` replays a recorded step where it can.

    `capture(step, example inputs)` returns a function of inputs of the same shapes, as
    torch.cuda.make_graphed_callables does: its memory is used again by its next call, which therefore has to wait for
    the backward pass. Until then, and for texts without a gradient or changed inside the tower, the tower itself runs.
    There is one recording per shape and dropout rate. Where recording fails, a sentence says why, once, and the tower
    itself runs from then on.
    """

    def __init__(self, model: FrozenCLIP, capture: Capture) -> None:
        self._model = model
        self._capture: Capture | None = capture
        self._steps: dict[tuple, Step] = {}
        self._waiting: set[tuple] = set()  # steps whose backward pass is still to come

    def __getattr__(self, name: str) -> Any:
        if name == "_model":  # not made yet, as while unpickling
            raise AttributeError(name)
        return getattr(self._model, name)

    def encode_text(
        self, embeddings: Tensor, mask: Tensor, deep: Deep | None = None, *more: Any, **named: Any
    ) -> Tensor:
        """As FrozenCLIP.encode_text."""

        def step(embeddings: Tensor, mask: Tensor) -> Tensor:
            return self._model.encode_text(embeddings, mask, deep, *more, **named)

        if deep:
            return step(embeddings, mask)
        key = (tuple(embeddings.shape), embeddings.dtype, *more[1:], *sorted(named.items()))  # without positions
        learns = torch.is_grad_enabled() and embeddings.requires_grad
        mask = mask.to(embeddings.device)
        if not learns or key in self._waiting or not self._recorded(key, step, embeddings, mask):
            return step(embeddings, mask)
        entry = embeddings.view_as(embeddings)
        entry.register_hook(torch.clone)  # the gradient lies in memory that the next replay overwrites
        text = self._steps[key](entry, mask).clone()
        self._waiting.add(key)
        text.register_hook(lambda _gradient: self._waiting.discard(key))
        return text

    def _recorded(self, key: tuple, step: Step, embeddings: Tensor, mask: Tensor) -> bool:
        """Whether the step is recorded, now or before. The run's random numbers are not used for it."""
        if key in self._steps or self._capture is None:
            return key in self._steps
        example = embeddings.detach().clone().requires_grad_(), mask.clone()
        devices = [embeddings.device] if embeddings.device.type == "cuda" else []
        try:
            with torch.random.fork_rng(devices):
                self._steps[key] = self._capture(step, example)
        except RuntimeError as error:
            print(f"Note: FEATURES.CUDA_GRAPHS has no effect, since recording the text tower failed: {error}")
            self._capture = None
        return key in self._steps
