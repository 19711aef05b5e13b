#!/usr/bin/env python3
"""Kill runs in the middle of a write, restart them, and check that they end as if nothing had happened.

    python -m benchmarks.faults [--methods CoOp OGKD] [--kills 2]

Each method executes a small run on Phantom with an empty cache, and all its changes of the file system are counted; so
are those of generating the images. Then the run is killed (SIGKILL) at one of the changes and restarted, for --kills
evenly spread changes (0: every change). A run survives a kill if the restart succeeds, ends with the same results,
predictions and parameters, bit for bit, and leaves the same files.
"""

from __future__ import annotations

import argparse
import functools
import os
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file
from tabulate import tabulate

from ogkd.core import UserError, progress, read_json, run_program
from ogkd.core.torchtools import load_checkpoint
from ogkd.evaluation.protocol import PLACES
from ogkd.phantom.dataset import ensure_dataset
from ogkd.runs.config import flat, method_config
from ogkd.runs.execute import execute
from ogkd.runs.registry import benchmark_methods, method_class
from ogkd.runs.spec import RunSpec
from ogkd.tuning.backbone import load_backbone

DRAWING = "drawing Phantom"
COUNTS = {"train": 2, "val": 1, "test": 1}  # images per class
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir"}  # names of Python's audit events
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
TIMES = ("seconds", "phases")


def spec_of(method: str, folder: Path, data: Path) -> RunSpec:
    """A run of two epochs on one image per class."""
    short = {
        "OPTIM.MAX_EPOCH": 2,
        "DATALOADER.TRAIN_X.BATCH_SIZE": 4,
        "DATALOADER.NUM_WORKERS": 0,
        "FEATURES.CACHE_DIR": folder / "cache",
        "USE_CUDA": False,  # a forked process cannot use a GPU
    }
    return RunSpec(
        method=method,
        folder=str(folder / "run"),
        dataset="phantom",
        shots=1,
        seed=1,
        backbone="PhantomCLIP",
        data=str(data),
        method_file=method_config(method, "few_shot", "phantom"),
        pairs=tuple(str(word) for pair in short.items() for word in pair),
    )


class Watch:
    """Numbers the file system changes below a folder, and calls `at` before each one.

    A change is opening a file for writing, flushing it, renaming or removing a file, or creating or removing a folder.
    """

    def __init__(self, folder: Path, at: Callable[[int, Path | None], None]) -> None:
        self.folder, self.at, self.busy, self.count = folder.resolve(), at, False, 0
        sys.addaudithook(self._hear)  # cannot be undone: use it in a short-lived process

    def _hear(self, event: str, values: tuple) -> None:
        if self.busy or (event != "open" and event not in CHANGES) or not isinstance(values[0], str | os.PathLike):
            return
        path = Path(values[0])
        if self.folder not in path.parents or (event == "open" and not self._changes(path, *values[1:3])):
            return
        self.busy, self.count = True, self.count + 1
        self.at(self.count, path if event == "open" else None)
        self.busy = False

    @staticmethod
    def _changes(path: Path, mode: str | None, flags: int) -> bool:
        return any(letter in mode for letter in "wax+") if mode else bool(flags & WRITING) or path.suffix == ".part"


def forked(work: Callable[[], object], log: Path) -> int:
    """Do something in a fork of this process that prints to a file. Returns the status from `os.waitpid`."""
    sys.stdout.flush()
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    try:
        with log.open("w") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        sys.exit(run_program(work))
    except SystemExit as end:
        os._exit(cast(int, end.code))
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


def killed(work: Callable[[Path], object], folder: Path, number: int) -> bool:
    """Do some work and kill it at a change. A file being opened is left half written. Returns whether it got there."""

    def kill(count: int, opened: Path | None) -> None:
        if count == number:
            if opened is not None and not opened.exists():
                opened.write_bytes(b"half a file")
            os.kill(os.getpid(), signal.SIGKILL)

    def until_killed() -> None:
        Watch(folder, kill)
        work(folder)

    status = forked(until_killed, folder / "killed.txt")
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def counted(work: Callable[[Path], object], folder: Path) -> int:
    """Do some work without interruption. Returns its number of changes."""
    start, end = os.pipe()

    def and_count() -> None:
        watch = Watch(folder, lambda *_: None)
        work(folder)
        os.write(end, str(watch.count).encode())

    status = forked(and_count, folder / "whole.txt")
    os.close(end)
    with os.fdopen(start) as pipe:
        number = pipe.read()
    if status:
        raise UserError(f"The uninterrupted run failed: {(folder / 'whole.txt').read_text()}")
    return int(number)


def survives(work: Callable[[Path], object], folder: Path, whole: Path, number: int) -> tuple[bool, str]:
    """Do some work, kill it at a change and repeat it. Returns whether it was killed, and what differs from `whole`."""
    folder.mkdir()
    try:
        came_so_far = killed(work, folder, number)
        if forked(lambda: work(folder), folder / "again.txt"):
            return came_so_far, (folder / "again.txt").read_text()[-2000:]
        return came_so_far, difference(whole, folder)
    finally:
        shutil.rmtree(folder)


def difference(whole: Path, again: Path) -> str:
    """How a run that was killed and restarted differs from an uninterrupted one; "" if it does not."""
    mine, theirs = _files(again), _files(whole)
    if mine.keys() != theirs.keys():
        return f"the files differ: {', '.join(sorted(mine.keys() ^ theirs.keys()))}"
    for name, path in mine.items():
        if ".pth.tar" in name:
            same = _equal(load_checkpoint(str(path)), load_checkpoint(str(theirs[name])))
        elif path.suffix == ".safetensors":
            same = _equal(load_file(path), load_file(theirs[name]))
        elif path.name == "results.json":
            same = _results_agree(read_json(path), read_json(theirs[name]))
        else:
            same = path.name == "config.yaml" or path.read_bytes() == theirs[name].read_bytes()
        if not same:
            return f"{name} differs"
    return ""


def _files(folder: Path) -> dict[str, Path]:
    """The files to compare: all except logs and the cache of hashes, which depends on the files' ages."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {
        path.relative_to(folder).as_posix(): path
        for path in files
        if path.suffix != ".txt" and not path.name.startswith("log.txt") and path.parent.name != "hashes"
    }


def _results_agree(mine: dict, theirs: dict) -> bool:
    configs = [dict(flat(results.pop("config"))) for results in (mine, theirs)]
    if any(configs[0].get(key) != configs[1].get(key) for key in (configs[0].keys() | configs[1].keys()) - {*PLACES}):
        return False
    return all(mine.get(name) == theirs.get(name) for name in mine.keys() | theirs.keys() if name not in TIMES)


def _equal(mine: Any, theirs: Any) -> bool:
    if isinstance(mine, torch.Tensor):
        return torch.equal(mine, theirs)
    if isinstance(mine, dict):
        return mine.keys() == theirs.keys() and all(_equal(mine[name], theirs[name]) for name in mine)
    if isinstance(mine, list | tuple):
        return len(mine) == len(theirs) and all(map(_equal, mine, theirs))
    return mine == theirs


def spread(total: int, number: int) -> list[int]:
    """`number` evenly spread whole numbers in 1..total; all of them if `number` is 0 or larger than `total`."""
    if number == 0 or number >= total:
        return list(range(1, total + 1))
    return [1 + int((2 * i + 1) * total / (2 * number)) for i in range(number)]


def tried(name: str, work: Callable[[Path], object], number: int, failures: list[str]) -> list[Any]:
    """The table row for some work; kills that it did not survive are added to `failures`."""
    with tempfile.TemporaryDirectory(prefix="faults-") as made:
        whole, again = Path(made).resolve() / "whole", Path(made).resolve() / "again"
        whole.mkdir()
        total = counted(work, whole)
        changes, reached, survived = spread(total, number), 0, 0
        for change in progress(changes, name, unit="kill"):
            came_so_far, reason = survives(work, again, whole, change)
            reached, survived = reached + came_so_far, survived + (came_so_far and not reason)
            failures += [f"{name}, killed at change {change} of {total}: {reason}"] if reason else []
    print(f"{name}: {survived} of {len(changes)}", flush=True)
    return [name, total, reached, survived]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", metavar="METHOD", help="default: all, and generating the images")
    parser.add_argument("--kills", type=int, default=2, help="kills per method; 0: one at every write (default: 2)")
    args = parser.parse_args(argv)
    for method in args.methods or ():
        method_class(method)
    torch.set_num_threads(1)  # a forked process has no other threads
    failures: list[str] = []
    rows = []
    if not args.methods:
        rows.append(tried(DRAWING, lambda folder: ensure_dataset(folder, counts=COUNTS), args.kills, failures))
    with tempfile.TemporaryDirectory(prefix="faults-data-") as data:
        ensure_dataset(data, counts=COUNTS)
        load_backbone("PhantomCLIP", "cpu")
        for method in args.methods or benchmark_methods():
            work = functools.partial(do_run, method, Path(data))
            rows.append(tried(method, work, args.kills, failures))
    print("\n" + tabulate(rows, ["", "writes", "killed", "survived"]))
    print(f"\n{sum(row[-1] for row in rows)} of {sum(row[-2] for row in rows)} kills survived.")
    print(*failures, sep="\n", end="\n" if failures else "")
    return 1 if failures else 0


def do_run(method: str, data: Path, folder: Path) -> None:
    execute(spec_of(method, folder, data))


if __name__ == "__main__":
    sys.exit(run_program(main))
