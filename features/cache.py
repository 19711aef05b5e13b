"""Tensors kept on disk under a key that holds everything which can change their numbers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from dassl.utils import atomic_path, sweep

FORMAT = 1


class FeatureCache:
    """A folder of tensors by key.

    An entry is a safetensors file named by its key's hash, with the whole key and a checksum of the numbers inside. One
    that does not parse, has another key or fails its checksum is computed again. With `folder` None nothing is kept.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        if folder is not None:
            sweep(folder)

    def get(self, key: Mapping[str, object], compute: Callable[[], Tensor]) -> Tensor:
        """The tensor of `key`: from disk if an intact entry is there, otherwise from `compute`, and then kept."""
        if self.folder is None:
            return compute()
        path, text = self._path(key)
        if path.is_file():
            found = self._read(path, text)
            if found is not None:
                return found
            print(f"The cached features in {path} are corrupt; they are computed again.")
        tensor = compute()
        self._write(path, text, tensor)
        return tensor

    def mapped(self, key: Mapping[str, object], compute: Callable[[], Tensor]) -> Tensor:
        """As `get`, but a kept tensor stays in its file, which is mapped into memory: it takes memory only while it is
        used."""
        if self.folder is None:
            return compute()
        self.get(key, compute)  # intact from here on
        with safe_open(self._path(key)[0], framework="pt") as file:
            return file.get_tensor("features")

    def _path(self, key: Mapping[str, object]) -> tuple[Path, str]:
        """The file of a key, and the key as it is written in there."""
        text = json.dumps(dict(key) | {"format": FORMAT}, sort_keys=True)
        return cast(Path, self.folder) / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.safetensors", text

    @staticmethod
    def _read(path: Path, key: str) -> Tensor | None:
        try:
            with safe_open(path, framework="pt") as file:
                metadata, tensor = file.metadata() or {}, file.get_tensor("features")
        except (SafetensorError, OSError, ValueError):
            return None
        intact = metadata.get("key") == key and metadata.get("checksum") == _checksum(tensor)
        # A copy has the alignment of a computed tensor, on which the last digits of a matrix product can depend.
        return tensor.clone() if intact else None

    @staticmethod
    def _write(path: Path, key: str, tensor: Tensor) -> None:
        tensor = tensor.detach().cpu().contiguous()
        path.parent.mkdir(parents=True, exist_ok=True)
        content = save({"features": tensor}, metadata={"key": key, "checksum": _checksum(tensor)})
        with atomic_path(path) as temporary:
            temporary.write_bytes(content)


def _checksum(tensor: Tensor) -> str:
    return hashlib.blake2b(tensor.numpy().data, digest_size=16).hexdigest()
