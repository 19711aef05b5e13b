"""Pauses Python's cyclic garbage collection while many objects are created and none is discarded."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_collection() -> Iterator[None]:
    """Pause cyclic garbage collection inside the block: it takes a fifth of the time to import PyTorch and model
    libraries."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
