"""Checkpoints as in ogkd/core/torchtools.py, and Dassl's helpers for modules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
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
    "adjust_learning_rate", "count_num_param", "init_network_weights", "load_checkpoint", "load_pretrained_weights",
    "open_all_layers", "open_specified_layers", "resume_from_checkpoint", "save_checkpoint", "set_bn_to_eval",
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


def adjust_learning_rate(
    optimizer: torch.optim.Optimizer,
    base_lr: float,
    epoch: int,
    stepsize: int = 20,
    gamma: float = 0.1,
    linear_decay: bool = False,
    final_lr: float = 0,
    max_epoch: int = 100,
) -> None:
    """Set an epoch's learning rate: base_lr * gamma^(epoch // stepsize), or linear from base_lr to final_lr."""
    done = epoch / max_epoch
    lr = (1 - done) * base_lr + done * final_lr if linear_decay else base_lr * gamma ** (epoch // stepsize)
    for group in optimizer.param_groups:
        group["lr"] = lr


def set_bn_to_eval(m: nn.Module) -> None:
    """For `model.apply`: freeze the running statistics of batch normalisation; scale and shift are still learned."""
    if isinstance(m, nn.modules.batchnorm._BatchNorm):
        m.eval()


def open_all_layers(model: nn.Module) -> None:
    """Set train mode and enable gradients everywhere."""
    model.train()
    for parameter in model.parameters():
        parameter.requires_grad = True


def open_specified_layers(model: nn.Module, open_layers: str | Sequence[str]) -> None:
    """Set train mode and enable gradients only for the named children."""
    if isinstance(model, nn.DataParallel):
        model = model.module
    names = [open_layers] if isinstance(open_layers, str) else list(open_layers)
    for name in names:
        if not hasattr(model, name):
            raise ValueError(f"'{name}' is not an attribute of the model")
    for name, module in model.named_children():
        opened = name in names
        module.train(opened)
        for parameter in module.parameters():
            parameter.requires_grad = opened


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


def init_network_weights(model: nn.Module, init_type: str = "normal", gain: float = 0.02) -> None:
    """Initialise convolutions and linear layers: normal, xavier, kaiming or orthogonal; norms to 1 and 0."""
    initialise = {
        "normal": lambda w: nn.init.normal_(w, 0.0, gain),
        "xavier": lambda w: nn.init.xavier_normal_(w, gain=gain),
        "kaiming": lambda w: nn.init.kaiming_normal_(w, a=0, mode="fan_in"),
        "orthogonal": lambda w: nn.init.orthogonal_(w, gain=gain),
    }
    if init_type not in initialise:
        raise NotImplementedError(f"initialisation '{init_type}' is none of {', '.join(initialise)}")
    for module in model.modules():
        if isinstance(module, (nn.modules.conv._ConvNd, nn.Linear)):
            initialise[init_type](module.weight.data)
        elif isinstance(module, (nn.modules.batchnorm._BatchNorm, nn.InstanceNorm2d)) and module.affine:
            nn.init.constant_(module.weight.data, 1.0)
        else:
            continue
        if module.bias is not None:
            nn.init.constant_(module.bias.data, 0.0)
