"""How many processes load images, and how they are started."""

from __future__ import annotations

import math
import multiprocessing
import shutil
import sys
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

SHARED_MEMORY = Path("/dev/shm")
_PREFETCHED = 2  # batches that each worker prepares ahead, PyTorch's default
_SHARE = 0.5  # of the free shared memory that one loader may fill


def worker_options(cfg: CfgNode, batch_size: int) -> dict[str, Any]:
    """DataLoader's arguments for DATALOADER.NUM_WORKERS processes that load batches of images.

    There are no processes where they would fail or cost more than they save: where they are not forked but started
    afresh in every epoch, which also runs the main script again; below a process that may have no children; and where
    their batches do not fit into shared memory (64 MB in a container of Docker). What a batch holds does not depend on
    them.
    """
    workers = cfg.DATALOADER.NUM_WORKERS
    views = cfg.DATALOADER.K_TRANSFORMS + cfg.DATALOADER.RETURN_IMG0
    waiting = 4 * 3 * math.prod(cfg.INPUT.SIZE) * views * batch_size * _PREFETCHED * workers  # bytes, as float32
    if workers == 0 or not _forks() or waiting > _SHARE * _free_shared_memory():
        return {"num_workers": 0}
    return {"num_workers": workers, "multiprocessing_context": "fork"}


def _forks() -> bool:
    """Whether this process may fork: on Linux, unless the caller has chosen another start method (as joblib does)."""
    methods = multiprocessing.get_all_start_methods()
    chosen = multiprocessing.get_start_method(allow_none=True)
    usual = chosen in (None, "fork", methods[0])  # the first is the default, "forkserver" since Python 3.14
    return sys.platform == "linux" and usual and not multiprocessing.current_process().daemon


def _free_shared_memory() -> float:
    """Free bytes of the shared memory, as far as the system reports it."""
    return shutil.disk_usage(SHARED_MEMORY).free if SHARED_MEMORY.is_dir() else math.inf
