"""Checkpoints, and small helpers around modules."""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from .errors import UserError
from .files import atomic_path, mkdir_if_missing
from .stand_ins import read_inert


def save_checkpoint(
    state: dict, save_dir: str, is_best: bool = False, remove_module_from_keys: bool = True, model_name: str = ""
) -> str:
    """Save `state` (with keys state_dict and epoch) atomically as <save_dir>/model.pth.tar-<epoch>.

    <save_dir>/checkpoint names the file; with `is_best` it is saved as model-best.pth.tar too. Returns the path.
    """
    mkdir_if_missing(save_dir)
    if remove_module_from_keys:
        state = {**state, "state_dict": _without_module(state["state_dict"])}
    name = model_name or f"model.pth.tar-{state['epoch']}"
    path = Path(save_dir) / name
    buffer = io.BytesIO()  # PyTorch's own file writer hides why it failed, such as a full disk
    torch.save(state, buffer)
    for target in (path, *([Path(save_dir) / "model-best.pth.tar"] if is_best else [])):
        with atomic_path(target) as temporary:
            temporary.write_bytes(buffer.getbuffer())
    name_checkpoint(save_dir, name)
    return str(path)


def name_checkpoint(save_dir: str | Path, name: str) -> None:
    """Let <save_dir>/checkpoint name a file of that folder."""
    with atomic_path(Path(save_dir) / "checkpoint") as temporary:
        temporary.write_text(f"{name}\n")


def load_checkpoint(fpath: str) -> dict:
    """Load a checkpoint on the CPU; tensors and plain values only, code in it is never run.

    What Dassl wrote is read too: its pickled schedulers and optimisers become state dicts.

    Raises:
        UserError: the file is missing, damaged, or holds anything else.
    """
    path = Path(fpath)
    if not path.is_file():
        raise UserError(f"There is no checkpoint {path}.")
    try:
        checkpoint = read_inert(path)
    except pickle.UnpicklingError:
        raise UserError(
            f"The checkpoint {path} is damaged or holds more than tensors and plain values, so it was not loaded: "
            f"use one from a source you trust, or train again."
        ) from None
    except (RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[0] if str(error) else "it ends early"
        raise UserError(f"The checkpoint {path} is damaged ({reason}): delete it and train again.") from None
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise UserError(f"{path} is not a checkpoint: it has no state_dict.")
    return checkpoint


def resume_from_checkpoint(
    fdir: str,
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
) -> int:
    """Load the checkpoint that <fdir>/checkpoint names into model, optimizer and scheduler; the epoch to go on with."""
    pointer = Path(fdir) / "checkpoint"
    if not pointer.is_file():
        raise UserError(f"There is no checkpoint to resume from in {fdir}.")
    return restore(load_checkpoint(str(Path(fdir) / pointer.read_text().strip())), model, optimizer, scheduler)


def restore(
    checkpoint: dict,
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
) -> int:
    """Put a loaded checkpoint's states into place; the epoch to go on with."""
    model.load_state_dict(checkpoint["state_dict"])
    if optimizer is not None and checkpoint.get("optimizer") is not None:
        optimizer.load_state_dict(checkpoint["optimizer"])
    if scheduler is not None and checkpoint.get("scheduler") is not None:
        scheduler.load_state_dict(checkpoint["scheduler"])
    return checkpoint["epoch"]


def load_pretrained_weights(model: nn.Module, weight_path: str) -> None:
    """Load what fits by name and shape from a checkpoint, and say what did not."""
    checkpoint = read_inert(Path(weight_path))
    state = _without_module(checkpoint.get("state_dict", checkpoint))
    own = model.state_dict()
    fitting = {name: value for name, value in state.items() if name in own and own[name].shape == value.shape}
    left_out = [name for name in state if name not in fitting]
    model.load_state_dict({**own, **fitting})
    if not fitting:
        raise UserError(f"Nothing in {weight_path} fits the model by name and shape.")
    print(f"Loaded {len(fitting)} of {len(state)} tensors from {weight_path}")
    if left_out:
        print(f"Left out, by name or shape: {left_out}")


def _without_module(state: dict) -> OrderedDict:
    return OrderedDict((name.removeprefix("module."), value) for name, value in state.items())


def open_all_layers(model: nn.Module) -> None:
    """Train mode and gradients for everything."""
    model.train()
    for parameter in model.parameters():
        parameter.requires_grad = True


def open_specified_layers(model: nn.Module, open_layers: str | Sequence[str]) -> None:
    """Train mode and gradients for the named children alone."""
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


def count_num_param(model: nn.Module | None = None, params: object = None) -> int:
    """Number of values in a model, or in an iterable of parameters or of groups {"params"}."""
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
