"""Checkpoints, random numbers and the environment of a run."""

from __future__ import annotations

import io
import math
import os
import pickle
import platform
import random
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
import torchvision
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from ogkd.core.errors import MissingFile, UserError, brief, first_line
from ogkd.core.files import atomic_path
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
    Path(save_dir).mkdir(parents=True, exist_ok=True)
    if remove_module_from_keys:
        state = {**state, "state_dict": without_module(state["state_dict"])}
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
    checkpoint = read_checkpoint(Path(fpath))
    result = mismatch(checkpoint, CHECKPOINT)
    if result:
        raise UserError(f"{fpath} is not a checkpoint ({result}): delete it and train again.")
    return checkpoint


def read_checkpoint(path: Path) -> Any:
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
    scheduler: LRScheduler | None = None,
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
    scheduler: LRScheduler | None = None,
    origin: str = "the checkpoint",
) -> int:
    """Restore the states of a loaded checkpoint and return the next epoch.

    Raises:
        UserError: a state does not fit; the sentence names the file, `origin`.
    """
    pieces: tuple[tuple[str, Any], ...] = (("state_dict", model), ("optimizer", optimizer), ("scheduler", scheduler))
    for name, piece in pieces:
        if piece is None or checkpoint.get(name) is None:
            continue
        kind: Any = type(piece)
        state_of: Any = schedule_state if piece is scheduler else kind.state_dict
        load: Any = _load_schedule if piece is scheduler else kind.load_state_dict
        fresh = state_of(piece)
        try:
            load(piece, checkpoint[name])
            fits = _alike(fresh, state_of(piece)) and (piece is not optimizer or _steps_fit(optimizer))
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


def schedule_state(scheduler: LRScheduler) -> dict:
    """Return a schedule's state in plain values; that of a schedule inside it, which follows a warm-up, is nested."""
    state = scheduler.state_dict()
    return {key: schedule_state(value) if isinstance(value, LRScheduler) else value for key, value in state.items()}


def _load_schedule(scheduler: LRScheduler, state: dict) -> None:
    if type(scheduler).load_state_dict is LRScheduler.load_state_dict:  # it would replace a schedule by its state
        inner = {key: value for key, value in vars(scheduler).items() if isinstance(value, LRScheduler)}
        for key, schedule in inner.items():
            _load_schedule(schedule, state[key])
        state = {**state, **inner}
    scheduler.load_state_dict(state)


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
    if fresh is None:  # a switch of an optimiser that was left to PyTorch
        return loaded is None or type(loaded) in (bool, int, float)
    return loaded is None or type(loaded) is type(fresh)


def _steps_fit(optimizer: torch.optim.Optimizer) -> bool:
    """Whether each of an optimiser's states has the shape of its parameter, or is a step count."""
    return all(
        not isinstance(value, Tensor) or value.shape in (parameter.shape, ())
        for parameter, state in optimizer.state.items()
        for value in state.values()
    )


def without_module(state: dict) -> OrderedDict:
    return OrderedDict((name.removeprefix("module."), value) for name, value in state.items())


def set_random_seed(seed: int) -> None:
    """Seed python, numpy and torch (all devices)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    torch.cuda.manual_seed_all(seed)


def random_states() -> dict[str, Any]:
    """Return the states of all random number generators, as tensors and plain values for a checkpoint."""
    state: Any = np.random.get_state()
    name, keys, *rest = state
    return {
        "python": random.getstate(),
        "numpy": (name, torch.from_numpy(keys.astype(np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
    }


def restore_random_states(states: dict[str, Any]) -> None:
    """Restore the states from `random_states`; those of absent GPUs are ignored."""
    version, internal, gauss = states["python"]
    name, keys, *rest = states["numpy"]
    random.setstate((version, tuple(internal), gauss))
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    if states["cuda"] and len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])


def collect_env_info() -> str:
    """Describe the hardware and versions in use, one per line, for the log."""
    on_gpu = torch.cuda.is_available()
    facts = {
        "Python": platform.python_version(),
        "System": platform.platform(),
        "PyTorch": torch.__version__,
        "torchvision": torchvision.__version__,
        "NumPy": np.__version__,
        "Pillow": PIL.__version__,
        "CUDA": torch.version.cuda if on_gpu else "not in use",
        "GPU": ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())) if on_gpu else "none",
        "CPU cores": os.cpu_count(),
        "Threads": torch.get_num_threads(),
    }
    return "\n".join(f"{name}: {value}" for name, value in facts.items())
