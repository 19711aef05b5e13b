"""Reads the tensors of TorchScript archives, such as OpenAI's published weights, without running anything in them.

An archive is a zip with a pickle of the module tree (data.pkl), the tensors' bytes (data/0, data/1, ...) and the
modules' code as text. The pickle is read with inert stand-ins for every class and function that it names; of the code,
only the lists of each class's parameters and buffers are read, as text.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ogkd.models.errors import OpenAIError

_DTYPES = {
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "BoolStorage": torch.bool,
    "ByteStorage": torch.uint8,
    "CharStorage": torch.int8,
    "ShortStorage": torch.int16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
}
_CLASS = re.compile(
    r"^class (\w+)\(Module\):\n  __parameters__ = \[(.*)\]\n(?:  __buffers__ = \[(.*)\]\n)?", re.MULTILINE
)


def is_archive(path: Path) -> bool:
    """Whether a file is a TorchScript archive. A state dict of torch.save is a zip too, but has no constants.pkl."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def read_archive(path: Path, only_shapes: bool = False) -> dict[str, Tensor]:
    """Return the state dict of a TorchScript archive's module, on the CPU, each tensor in its saved precision; with
    `only_shapes` on the meta device.

    Raises OpenAIError, saying how to convert the file, when the archive is corrupt or has an unknown layout.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return dict(_Archive(archive, only_shapes).state())
    except Exception as error:  # a corrupt pickle can raise anything
        raise OpenAIError(
            f"The TorchScript archive {path} is corrupt or has a layout that cannot be read without running it "
            f"({type(error).__name__}): replace it with an intact copy, or, if you trust it, save "
            "torch.jit.load(path).state_dict() with torch.save and give that file."
        ) from error


class _Storage(NamedTuple):
    dtype: torch.dtype
    key: str


class _SavedTensor(NamedTuple):
    """A tensor as the pickle describes it, in elements of its storage."""

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class _StandIn:
    """Replaces an object of any other class: keeps its attributes and does nothing."""

    qualified_name = ""

    def __init__(self, *_arguments: object) -> None:
        self.attributes: dict[str, object] = {}

    def __setstate__(self, state: object) -> None:
        self.attributes = state if isinstance(state, dict) else {}


@cache
def _stand_in(qualified_name: str) -> type[_StandIn]:
    return type("StandIn", (_StandIn,), {"qualified_name": qualified_name})


def _saved_tensor(storage: _Storage, offset: int, size: tuple, stride: tuple, *_others: object) -> _SavedTensor:
    return _SavedTensor(storage, offset, size, stride)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> torch.dtype | Callable[..., object]:
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _saved_tensor
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        return _stand_in(f"{module}.{name}")

    def persistent_load(self, pid: tuple) -> _Storage:
        _storage, dtype, key, *_others = pid
        return _Storage(dtype, key)


class _Archive:
    def __init__(self, archive: zipfile.ZipFile, only_shapes: bool) -> None:
        self._archive, self._only_shapes = archive, only_shapes
        self._root = next(name for name in archive.namelist() if name.endswith("/constants.pkl")).split("/")[0]
        self._storages: dict[_Storage, Tensor] = {}
        self._declared = dict(self._declarations())

    def state(self) -> Iterator[tuple[str, Tensor]]:
        with self._archive.open(f"{self._root}/data.pkl") as file:
            yield from self._tensors(_Unpickler(file).load(), "")

    def _tensors(self, module: _StandIn, prefix: str) -> Iterator[tuple[str, Tensor]]:
        declared = self._declared.get(module.qualified_name)
        for name, value in module.attributes.items():
            if isinstance(value, _StandIn):
                yield from self._tensors(value, f"{prefix}{name}.")
            elif isinstance(value, _SavedTensor) and (declared is None or name in declared):
                yield prefix + name, self._tensor(value)

    def _tensor(self, saved: _SavedTensor) -> Tensor:
        if 0 in saved.size or self._only_shapes:
            device = "meta" if self._only_shapes else "cpu"
            return torch.empty(saved.size, dtype=saved.storage.dtype, device=device)
        if saved.storage not in self._storages:
            content = bytearray(self._archive.read(f"{self._root}/data/{saved.storage.key}"))
            self._storages[saved.storage] = torch.frombuffer(content, dtype=saved.storage.dtype)
        return self._storages[saved.storage].as_strided(saved.size, saved.stride, saved.offset)

    def _declarations(self) -> Iterator[tuple[str, set[str]]]:
        """The names of each class's parameters and buffers; its other tensors do not belong to a state dict."""
        start = f"{self._root}/code/"
        for path in self._archive.namelist():
            if path.startswith(start) and path.endswith(".py"):
                module = path.removeprefix(start).removesuffix(".py").replace("/", ".")
                text = self._archive.read(path).decode("utf-8", errors="replace")
                for name, parameters, buffers in _CLASS.findall(text):
                    yield f"{module}.{name}", set(re.findall(r'"([^"]+)"', parameters + buffers))
