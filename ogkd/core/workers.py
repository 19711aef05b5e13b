"""Loaders of batches: how many processes load images, and when they are started."""

from __future__ import annotations

import functools
import math
import multiprocessing
import os
import shutil
import sys
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset
from yacs.config import CfgNode

SHARED_MEMORY = Path("/dev/shm")
_PREFETCHED = 2  # batches that each worker prepares ahead, PyTorch's default
_SHARE = 0.5  # of the free shared memory that one loader may fill


def worker_options(cfg: CfgNode, batch_size: int) -> dict[str, Any]:
    """DataLoader's arguments for up to DATALOADER.NUM_WORKERS processes that load batches of images.

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


class Loader(DataLoader):
    """A DataLoader that hands its batches to processes once loading them here has cost more than starting those would.

    The processes are at most `num_workers` and one less than the cores. They stay for later epochs, until another
    loader of this process starts its own. On a CPU, which encodes the images too, only the time by which loading takes
    longer than what is done with the batches counts.

    A batch does not depend on who loads it, provided that item i depends on i and the dataset's `epoch_seed` alone.
    Without that seed, random views depend on the number of processes: there are `num_workers` then, in every epoch.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._loading = self._using = 0.0  # seconds so far
        self._pending: list[list[tuple[int | None, int]]] = []
        self._processes: DataLoader | None = None

    def __iter__(self) -> Iterator:  # type: ignore[override]
        dataset: Any = self.dataset
        if hasattr(dataset, "before_pass"):
            dataset.before_pass()
        seed = getattr(dataset, "epoch_seed", None)
        if not self.num_workers or (seed is None and getattr(dataset, "is_train", True)):
            return super().__iter__()
        torch.empty((), dtype=torch.int64).random_(generator=self.generator)  # what PyTorch's iterator draws
        return self._batches(seed)

    def _batches(self, seed: int | None) -> Iterator:
        rows = list(self.batch_sampler)  # type: ignore[arg-type]
        here = iter(self._over(self.dataset, rows))
        for done in range(len(rows)):
            if self._processes or self._pays():
                yield from self._by_processes(rows[done:], seed)
                return
            begin = time.perf_counter()
            batch = next(here)
            loaded = time.perf_counter()
            yield batch
            self._loading += loaded - begin
            self._using += time.perf_counter() - loaded

    def _pays(self) -> bool:
        saved = self._loading - (0 if self.pin_memory else self._using)
        return saved > 0 and self._most > 0 and saved > self._most * _seconds_to_start()

    @property
    def _most(self) -> int:
        return min(self.num_workers, _cores() - 1)

    def _by_processes(self, rows: list[list[int]], seed: int | None) -> Iterator:
        global _owner
        if self._processes is None:
            if (former := _owner()) is not None:
                former.end_processes()
            _owner = weakref.ref(self)
            options: dict[str, Any] = {
                "num_workers": self._most,
                "multiprocessing_context": "fork",
                "persistent_workers": True,
            }
            self._processes = self._over(_Seeded(self.dataset), self._pending, **options)
        self._pending[:] = [[(seed, row) for row in batch] for batch in rows]
        yield from self._processes
        if seed is None:  # a pass over images that are tested, which may be the only one
            self.end_processes()

    def end_processes(self) -> None:
        self._processes, self._loading, self._using = None, 0.0, 0.0

    def _over(self, dataset: Any, rows: list, **options: Any) -> DataLoader:
        """PyTorch's loader of these batches, which leaves the random state alone."""
        common: dict[str, Any] = {
            "collate_fn": self.collate_fn,
            "pin_memory": self.pin_memory,
            "generator": torch.Generator(),
        }
        return DataLoader(dataset, batch_sampler=rows, **common, **options)


class _Seeded(Dataset):
    """The items (epoch_seed, i) of a dataset, for processes that outlive an epoch."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __getitem__(self, key: tuple[int | None, int]) -> object:
        self.dataset.epoch_seed, index = key
        return self.dataset[index]


_owner: Any = lambda: None  # noqa: E731  a reference to the loader whose processes run
_share_of_cores: int | None = None


def share_cores(number: int) -> None:
    """Use no more cores than these in this process, since others run beside it."""
    global _share_of_cores
    _share_of_cores = number
    torch.set_num_threads(number)


def _cores() -> int:
    return _share_of_cores or len(os.sched_getaffinity(0))


@functools.cache
def _seconds_to_start() -> float:
    """What it takes here to start a process and end it."""
    begin = time.perf_counter()
    process = multiprocessing.get_context("fork").Process(target=int)
    process.start()
    process.join()
    return time.perf_counter() - begin
