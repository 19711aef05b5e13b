"""Reads weights files without running anything in them, checks them against the model and uses them without a copy."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from ogkd.core.errors import first_line
from ogkd.core.progress import progress
from ogkd.core.stand_ins import read_beside_others
from ogkd.models.errors import ModelError

_MEND = "replace it with an intact copy"

# Where a training checkpoint holds the state dict, and what wrappers of a model put before its names: DataParallel,
# torch.compile, and trainers that hold it as `model`.
_INSIDE = ("state_dict", "model_state_dict", "model")
_WRAPPERS = re.compile(r"^(?:(?:module|_orig_mod|model)\.)+")

Built = TypeVar("Built", bound=nn.Module)


def read(path: Path, beside_others: bool = False) -> dict[str, Tensor]:
    """Read the state dict of a .safetensors or PyTorch weights file, as fp32; memory-mapped if the file holds fp32.

    A mapped file may be replaced while the model is in use, but not overwritten in place. Only tensors are read: a
    pickle that holds anything else is refused before it runs. Raises ModelError if the file is empty, truncated or not
    a weights file. `beside_others`: what a training checkpoint holds besides its state dict, such as an optimiser, is
    left out instead.
    """
    if path.stat().st_size == 0:
        raise ModelError(f"The weights file {path} is empty: {_MEND}.")
    try:
        if path.suffix == ".safetensors":
            content: Any = load_file(path)
        else:
            mapped = zipfile.is_zipfile(path)
            content = (
                read_beside_others(path, mapped)
                if beside_others and mapped
                else torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
            )
    except (pickle.UnpicklingError, KeyError) as error:  # KeyError: a text, whose letters are no steps of a pickle
        raise ModelError(
            f"The weights file {path} is damaged or holds something other than tensors, so it was not loaded: {_MEND}."
        ) from error
    except (SafetensorError, RuntimeError, EOFError, ValueError, OSError) as error:
        raise ModelError(f"The weights file {path} is damaged ({first_line(error)}): {_MEND}.") from error
    if isinstance(content, Mapping):
        content = next((one for key in _INSIDE if isinstance(one := content.get(key), Mapping)), content)
    named = isinstance(content, Mapping) and all(
        isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items()
    )
    if not named or not content:
        raise ModelError(f"The weights file {path} holds no state dict of tensors: {_MEND}.")
    return {
        _WRAPPERS.sub("", key): value.float() if value.is_floating_point() else value for key, value in content.items()
    }


def require(state: Mapping[str, Tensor], names: Iterable[str], path: Path, model: str) -> None:
    """Raise ModelError unless the state dict of the file `path` has the tensors from which a model's sizes are read."""
    if missing := [name for name in names if name not in state]:
        raise ModelError(
            f"The tensors in {path} are not weights of {model}: {missing[0]} is missing; use its published file."
        )


def built(make: Callable[[], Built], library: str, path: Path) -> Built:
    """The module that `make` builds, without initial values of its parameters, unless a buffer is computed from one or
    on its device, as in some of timm's Swin. Raises ModelError if the configuration `path` cannot be built."""
    try:
        with suppress(RuntimeError), _no_initialisation():  # which PyTorch raises for values of the meta device
            model = make()
            if not any(buffer.is_meta for buffer in model.buffers()):
                return model
        return make()
    except ModelError:
        raise
    except Exception as error:  # a wrong configuration can make open_clip, timm and transformers raise anything
        raise ModelError(
            f"{library} cannot build the model that {path} describes ({first_line(error)}): check its sizes and names."
        ) from error


@contextmanager
def _no_initialisation() -> Iterator[None]:
    """Build modules inside the block with parameters on the meta device, without memory, but with real buffers.

    Buffers that are in no checkpoint, such as position ids, are thus correct without a list of their names.
    """

    def to_meta(_module: nn.Module, _name: str, parameter: nn.Parameter | None) -> nn.Parameter | None:
        if parameter is None or parameter.is_meta:
            return parameter
        return nn.Parameter(parameter.to("meta"), requires_grad=False)

    # PyTorch annotates the hook as returning nothing, but documents that what it returns is registered.
    handle = register_module_parameter_registration_hook(to_meta)  # type: ignore[arg-type]
    try:
        yield
    finally:
        handle.remove()


def fill(model: nn.Module, state: Mapping[str, Tensor], path: Path, name: str, ignored: Iterable[str] = ()) -> None:
    """Use the tensors of `state` as the model's parameters, without copying them.

    `ignored` are names that may be in published files but not in the model. Raises ModelError if any other tensor is
    missing, unexpected or has the wrong shape.
    """
    wanted = model.state_dict()
    state = {key: value for key, value in state.items() if key in wanted or key not in set(ignored)}
    faults = []
    for fault, keys in (
        ("missing", [key for key in wanted if key not in state]),
        ("unexpected", [key for key in state if key not in wanted]),
        ("of another shape", [k for k, v in wanted.items() if k in state and state[k].shape != v.shape]),
    ):
        if keys:
            faults.append(f"{len(keys)} {fault}, first {keys[0]}")
    if faults:
        raise ModelError(
            f"The tensors in {path} are not weights of {name}: {'; '.join(faults)}; use the weights file that belongs "
            "to this configuration."
        )
    model.load_state_dict(state, assign=True)


def fingerprint(weights: Path, config: Mapping | Sequence) -> str:
    """Return the SHA-256 (hex) of the weights file's bytes and the configuration. Raises ModelError if it is
    unreadable."""
    digest = hashlib.sha256()
    try:
        total = weights.stat().st_size
        with weights.open("rb") as file, progress(None, f"read {weights.name}", total, "B") as bar:
            while chunk := file.read(1 << 24):
                digest.update(chunk)
                bar.update(len(chunk))
    except OSError as error:
        raise ModelError(f"The weights file {weights} cannot be read ({first_line(error)}): {_MEND}.") from error
    digest.update(json.dumps(config, sort_keys=True).encode())
    return digest.hexdigest()
