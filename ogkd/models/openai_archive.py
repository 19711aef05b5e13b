"""Reads the tensors of TorchScript archives, such as OpenAI's published weights, without running anything in them.

An archive is a zip with a pickle of the module tree (data.pkl), the tensors' bytes (data/0, data/1, ...) and the
modules' code as text. The pickle is read with inert stand-ins for every class and function that it names; of the code,
only the lists of each class's parameters and buffers are read, as text.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

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
            root = next(name for name in archive.namelist() if name.endswith("/constants.pkl")).split("/")[0]
            module = _Unpickler(archive, root, only_shapes).load()
            return dict(_tensors(module, "", dict(_declarations(archive, root))))
    except Exception as error:  # a corrupt pickle can raise anything
        raise OpenAIError(
            f"The TorchScript archive {path} is corrupt or has a layout that cannot be read without running it "
            f"({type(error).__name__}): replace it with an intact copy, or, if you trust it, save "
            "torch.jit.load(path).state_dict() with torch.save and give that file."
        ) from error


class _StandIn:
    """Replaces an object of any class, and keeps its attributes."""

    qualified_name: str

    def __init__(self, *_arguments: object) -> None:
        self.attributes: dict[str, object] = {}

    def __setstate__(self, state: object) -> None:
        self.attributes = state if isinstance(state, dict) else {}


def _rebuilt(storage: Tensor, offset: int, size: tuple, stride: tuple, *_others: object) -> Tensor:
    return storage.as_strided(size, stride, offset)


class _Unpickler(pickle.Unpickler):
    def __init__(self, archive: zipfile.ZipFile, root: str, only_shapes: bool) -> None:
        super().__init__(archive.open(f"{root}/data.pkl"))
        self._archive, self._root, self._only_shapes = archive, root, only_shapes
        self._storages: dict[str, Tensor] = {}

    def find_class(self, module: str, name: str) -> torch.dtype | Callable[..., object]:
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuilt
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        return type("StandIn", (_StandIn,), {"qualified_name": f"{module}.{name}"})

    def persistent_load(self, pid: tuple) -> Tensor:
        _storage, dtype, key, _device, count = pid
        if key not in self._storages:
            if self._only_shapes or not count:
                content = torch.empty(count, dtype=dtype, device="meta" if self._only_shapes else "cpu")
            else:
                content = torch.frombuffer(bytearray(self._archive.read(f"{self._root}/data/{key}")), dtype=dtype)
            self._storages[key] = content
        return self._storages[key]


def _tensors(module: _StandIn, prefix: str, declared: Mapping[str, set[str]]) -> Iterator[tuple[str, Tensor]]:
    own = declared.get(module.qualified_name)
    for name, value in module.attributes.items():
        if isinstance(value, _StandIn):
            yield from _tensors(value, f"{prefix}{name}.", declared)
        elif isinstance(value, Tensor) and (own is None or name in own):
            yield prefix + name, value


def _declarations(archive: zipfile.ZipFile, root: str) -> Iterator[tuple[str, set[str]]]:
    """The names of each class's parameters and buffers; its other tensors do not belong to a state dict."""
    start = f"{root}/code/"
    for path in archive.namelist():
        if path.startswith(start) and path.endswith(".py"):
            module = path.removeprefix(start).removesuffix(".py").replace("/", ".")
            text = archive.read(path).decode("utf-8", errors="replace")
            for name, parameters, buffers in _CLASS.findall(text):
                yield f"{module}.{name}", set(re.findall(r'"([^"]+)"', parameters + buffers))
