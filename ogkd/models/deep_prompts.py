"""Deep prompts (MaPLe, arXiv 2210.03117) as hooks on a tower's layers: no tower needs a second copy of its forward.

A hook sees a layer's hidden states (N, L, width), which every tower here passes as the first argument or as
`hidden_states`. All hooks are removed when the context ends, also after an exception.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn


def _with_hidden(args: tuple, kwargs: dict, change) -> tuple[tuple, dict]:
    if args:
        return (change(args[0]), *args[1:]), kwargs
    return args, {**kwargs, "hidden_states": change(kwargs["hidden_states"])}


def _pre_hook(stack: ExitStack, layer: nn.Module, change) -> None:
    handle = layer.register_forward_pre_hook(
        lambda _module, args, kwargs: _with_hidden(args, kwargs, change), with_kwargs=True
    )
    stack.callback(handle.remove)


def _rows(prompt: Tensor, hidden: Tensor) -> Tensor:
    return prompt.to(hidden.dtype).expand(hidden.shape[0], -1, -1)


@contextmanager
def in_text(
    layers: Sequence[nn.Module], prompts: Sequence[Tensor | None] | None, positions: Tensor | None = None
) -> Iterator[None]:
    """Inside the context, prompts[i], (n, width) or (N, n, width), replaces the tokens at `positions` (N, n), by
    default 1 .. n in each row, at the input of layer i + 1; None leaves that layer as it is."""
    with ExitStack() as stack:
        for layer, prompt in zip(layers[1:], prompts or (), strict=False):
            if prompt is None:
                continue

            def replace(hidden: Tensor, prompt: Tensor = prompt) -> Tensor:
                if positions is None:
                    return torch.cat([hidden[:, :1], _rows(prompt, hidden), hidden[:, 1 + prompt.shape[-2] :]], dim=1)
                index = positions.to(hidden.device)[..., None].expand(-1, -1, hidden.shape[-1])
                return hidden.scatter(1, index, _rows(prompt, hidden))

            _pre_hook(stack, layer, replace)
        yield


@contextmanager
def in_image(layers: Sequence[nn.Module], prompts: Sequence[Tensor] | None) -> Iterator[None]:
    """Inside the context, prompts[0] (n, width) is appended to the input of layer 0, prompts[i] takes its place at the
    input of layer i, and the last layer's output has the tokens that it has without prompts."""
    with ExitStack() as stack:
        for index, (layer, prompt) in enumerate(zip(layers, prompts or (), strict=False)):

            def place(hidden: Tensor, prompt: Tensor = prompt, first: bool = index == 0) -> Tensor:
                kept = hidden if first else hidden[:, : hidden.shape[1] - len(prompt)]
                return torch.cat([kept, _rows(prompt, hidden)], dim=1)

            _pre_hook(stack, layer, place)
        if prompts:
            extra = len(prompts[0])

            def drop(_module: nn.Module, _args: tuple, output):
                if isinstance(output, tuple):
                    return (output[0][:, : output[0].shape[1] - extra], *output[1:])
                return output[:, : output.shape[1] - extra]

            stack.callback(layers[-1].register_forward_hook(drop).remove)
        yield
