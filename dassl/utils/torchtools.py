"""Checkpoints as in ogkd/core/torchtools.py, and Dassl's helpers for modules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from torch import nn

from ogkd.core import UserError
from ogkd.core.torchtools import (
    STATE,
    load_checkpoint,
    read_checkpoint,
    resume_from_checkpoint,
    save_checkpoint,
    without_module,
)

__all__ = [
    "count_num_param", "load_checkpoint", "load_pretrained_weights", "resume_from_checkpoint", "save_checkpoint",
]  # fmt: skip


def load_pretrained_weights(model: nn.Module, weight_path: str) -> None:
    """Load the weights of a checkpoint that match by name and shape, and print those that do not."""
    checkpoint = read_checkpoint(Path(weight_path))
    state = checkpoint.get("state_dict", checkpoint) if isinstance(checkpoint, Mapping) else checkpoint
    if not STATE.allows(state):
        raise UserError(f"{weight_path} holds no weights: it must be {STATE.description}.")
    state = without_module(state)
    own = model.state_dict()
    fitting = {name: value for name, value in state.items() if name in own and own[name].shape == value.shape}
    left_out = [name for name in state if name not in fitting]
    model.load_state_dict({**own, **fitting})
    if not fitting:
        raise UserError(f"Nothing in {weight_path} fits the model by name and shape.")
    print(f"Successfully loaded pretrained weights from {weight_path}")
    if left_out:
        print(f"Layers discarded due to unmatched keys or size: {left_out}")


def count_num_param(model: nn.Module | None = None, params: Iterable | None = None) -> int:
    """Count the values in a model, or in an iterable of parameters or of groups {"params"}."""
    if model is not None:
        return sum(parameter.numel() for parameter in model.parameters())
    if params is None:
        raise ValueError("give a model or parameters")
    count = 0
    for item in params:
        group = item["params"] if isinstance(item, dict) else [item]
        count += sum(parameter.numel() for parameter in group)
    return count
