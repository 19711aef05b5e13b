"""Checkpoints, and small helpers for modules."""

from __future__ import annotations

import io
import math
import pickle
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ogkd.core.errors import MissingFile, UserError, brief, first_line
from ogkd.core.files import atomic_path, mkdir_if_missing
from ogkd.core.schema import Rule, mismatch, whole
from ogkd.core.stand_ins import read_inert

STATE = Rule(
    lambda state: all(isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()),
    "a dict of tensors by name",
)
_PLAIN = Rule(lambda state: isinstance(state, Mapping), "a dict")
CHECKPOINT = {
    "state_dict": STATE,
    "epoch": Rule(lambda epoch: whole(epoch) and epoch >= 0, "a whole number, 0 or more"),
    "optimizer?": (_PLAIN, None),
    "scheduler?": (_PLAIN, None),
    "val_result?": (float, None),
    "meta?": ({"method?": str, "backbone?": str, "files?": dict, "classes?": [str]}, None),
}


def save_checkpoint(
    state: dict, save_dir: str, is_best: bool = False, remove_module_from_keys: bool = True, model_name: str = ""
) -> str:
    """Save `state` (with keys state_dict and epoch) atomically as <save_dir>/model.pth.tar-<epoch>.

    <save_dir>/checkpoint then names the file; with `is_best` it is also saved as model-best.pth.tar. Returns the path.
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
    print(f"Checkpoint saved to {path}")
    return str(path)


def name_checkpoint(save_dir: str | Path, name: str) -> None:
    """Write the name of a file in <save_dir> to <save_dir>/checkpoint."""
    with atomic_path(Path(save_dir) / "checkpoint") as temporary:
        temporary.write_text(f"{name}\n")


def load_checkpoint(fpath: str) -> dict:
    """Load a checkpoint on the CPU: tensors and plain values only; code in it is never run.

    Checkpoints from Dassl are read too: their pickled schedulers and optimisers become state dicts.

    Raises:
        UserError: the file is missing, corrupt, or holds anything else.
    """
    checkpoint = _read(Path(fpath))
    found = mismatch(checkpoint, CHECKPOINT)
    if found:
        raise UserError(f"{fpath} is not a checkpoint ({found}): delete it and train again.")
    return checkpoint


def _read(path: Path) -> Any:
    """Load a file of torch.save. Raises UserError if it is missing, corrupt or holds code."""
    if not path.is_file():
        raise MissingFile(f"There is no checkpoint {path}.")
    try:
        return read_inert(path)
    except pickle.UnpicklingError:
        raise UserError(
            f"The checkpoint {path} is damaged or holds more than tensors and plain values, so it was not loaded: "
            f"use one from a source you trust, or train again."
        ) from None
    except OSError as error:
        raise UserError(f"The checkpoint {path} cannot be read ({error.strerror or error}).") from None
    except Exception as error:  # a corrupt archive or pickle can make PyTorch raise nearly anything
        reason = first_line(error) if str(error) else "it ends early"
        raise UserError(f"The checkpoint {path} is damaged ({reason}): delete it and train again.") from None


def resume_from_checkpoint(
    fdir: str,
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
) -> int:
    """Load the checkpoint that <fdir>/checkpoint names into model, optimizer and scheduler; return the next epoch."""
    pointer = Path(fdir) / "checkpoint"
    if not pointer.is_file():
        raise MissingFile(f"There is no checkpoint to resume from in {fdir}.")
    path = str(Path(fdir) / pointer.read_text(errors="replace").strip())
    return restore(load_checkpoint(path), model, optimizer, scheduler, path)


def restore(
    checkpoint: dict,
    model: nn.Module,
    optimizer: torch.optim.Optimizer | None = None,
    scheduler: torch.optim.lr_scheduler.LRScheduler | None = None,
    origin: str = "the checkpoint",
) -> int:
    """Restore the states of a loaded checkpoint and return the next epoch.

    Raises:
        UserError: a state does not fit; the sentence names the file, `origin`.
    """
    pieces = (("state_dict", model), ("optimizer", optimizer), ("scheduler", scheduler))
    for name, piece in pieces:
        if piece is None or checkpoint.get(name) is None:
            continue
        fresh = piece.state_dict()
        try:
            piece.load_state_dict(checkpoint[name])
            fits = _alike(fresh, piece.state_dict()) and (piece is not optimizer or _steps_fit(optimizer))
        except Exception as error:  # which error PyTorch raises on a corrupt state depends on the state
            fits, reason = False, f" ({brief(error)})" if str(error) else ""
        else:
            reason = ""
        if not fits:
            raise UserError(
                f"The {name} in {origin} does not fit this run{reason}: resume it with the configuration that wrote "
                f"it, or delete that file and train again."
            )
    return checkpoint["epoch"]


def _alike(fresh: Any, loaded: Any) -> bool:
    """Whether a loaded state has the entries and types of a new one, and finite numbers; extra entries are allowed."""
    if isinstance(fresh, Mapping):
        return isinstance(loaded, Mapping) and all(
            key in loaded and _alike(value, loaded[key]) for key, value in fresh.items()
        )
    if isinstance(fresh, (list, tuple)):
        same = isinstance(loaded, (list, tuple)) and len(loaded) == len(fresh)
        return same and all(map(_alike, fresh, loaded))
    if isinstance(fresh, Tensor):
        return isinstance(loaded, Tensor) and loaded.shape == fresh.shape
    if type(fresh) in (int, float):
        return type(loaded) in (int, float) and math.isfinite(loaded)
    return fresh is None or loaded is None or type(loaded) is type(fresh)


def _steps_fit(optimizer: torch.optim.Optimizer) -> bool:
    """Whether each of an optimiser's states has the shape of its parameter, or is a step count."""
    return all(
        not isinstance(value, Tensor) or value.shape in (parameter.shape, ())
        for parameter, state in optimizer.state.items()
        for value in state.values()
    )


def load_pretrained_weights(model: nn.Module, weight_path: str) -> None:
    """Load the weights of a checkpoint that match by name and shape, and print those that do not."""
    checkpoint = _read(Path(weight_path))
    state = checkpoint.get("state_dict", checkpoint) if isinstance(checkpoint, Mapping) else checkpoint
    if not STATE.allows(state):
        raise UserError(f"{weight_path} holds no weights: it must be {STATE.description}.")
    state = _without_module(state)
    own = model.state_dict()
    fitting = {name: value for name, value in state.items() if name in own and own[name].shape == value.shape}
    left_out = [name for name in state if name not in fitting]
    model.load_state_dict({**own, **fitting})
    if not fitting:
        raise UserError(f"Nothing in {weight_path} fits the model by name and shape.")
    print(f"Successfully loaded pretrained weights from {weight_path}")
    if left_out:
        print(f"Layers discarded due to unmatched keys or size: {left_out}")


def _without_module(state: dict) -> OrderedDict:
    return OrderedDict((name.removeprefix("module."), value) for name, value in state.items())


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
