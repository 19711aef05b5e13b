"""Measures the time and peak memory of the parts of a run."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


def peak_memory_bytes() -> int | None:
    """Return this process's peak memory so far: GPU memory if a GPU is used, otherwise resident memory; None on
    Windows, which does not report it."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class Phases:
    """Records `{name: {"seconds", "peak_memory_bytes"}}`; entering a phase again adds to its time."""

    def __init__(self) -> None:
        self.record: dict[str, dict[str, Any]] = {}

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
