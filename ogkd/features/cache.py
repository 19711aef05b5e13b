"""Tensors cached on disk under a key that includes everything that can change their values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ogkd.core import atomic_path, sweep

FORMAT = 1


class FeatureCache:
    """A folder of tensors by key.

    An entry is a safetensors file named by its key's hash; it contains the whole key and a checksum of the values. An
    entry that does not parse, has another key or fails its checksum is recomputed. With `folder` None nothing is kept.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        if folder is not None:
            sweep(folder)

    def get(self, key: Mapping[str, object], compute: Callable[[], Tensor]) -> Tensor:
        """The tensor of `key`: from disk if there is an intact entry, otherwise from `compute` and then stored."""
        if self.folder is None:
            return compute()
        path, text = self._path(key)
        if path.is_file():
            cached = self._read(path, text)
            if cached is not None:
                return cached
            print(f"The cached features in {path} are corrupt; recomputing them.")
        tensor = compute()
        self._write(path, text, tensor)
        return tensor

    def mapped(self, key: Mapping[str, object], compute: Callable[[], Tensor]) -> Tensor:
        """As `get`, but a cached tensor stays in its file, which is memory-mapped, so it takes memory only while in
        use."""
        if self.folder is None:
            return compute()
        self.get(key, compute)  # intact from here on
        with safe_open(self._path(key)[0], framework="pt") as file:
            return file.get_tensor("features")

    def _path(self, key: Mapping[str, object]) -> tuple[Path, str]:
        """The file for a key, and the key as stored in it."""
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
        # A copy is aligned like a computed tensor; the last digits of a matrix product can depend on alignment.
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
