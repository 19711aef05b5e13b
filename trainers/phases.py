"""How long each part of a run took and how much memory it had needed by its end."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def peak_memory_bytes() -> int:
    """Peak memory of this process so far: of the GPU where one is used, otherwise resident memory."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class Phases:
    """Records `{name: {"seconds", "peak_memory_bytes"}}`; a phase entered again adds to its seconds."""

    def __init__(self) -> None:
        self.record: dict[str, dict[str, float]] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            if torch.cuda.is_available() and torch.cuda.is_initialized():
                torch.cuda.synchronize()
            entry = self.record.setdefault(name, {"seconds": 0.0, "peak_memory_bytes": 0})
            entry["seconds"] += time.perf_counter() - start
            entry["peak_memory_bytes"] = peak_memory_bytes()
