#!/usr/bin/env python3
"""Kill runs in the middle of a write, start them again, and see whether they end as if nothing had happened.

    python -m benchmarks.faults [--methods CoOp OGKD] [--kills 2]

Each method does a small run on Phantom with an empty cache, and every change of the file system that it makes is
counted; so is the drawing of the images. Then it is killed (SIGKILL) at one of the changes and started again, for as
many of them as --kills says, evenly spread; 0 means at every one. A kill survives if the second start ends well, with
the same results, predictions and parameters, bit for bit, and leaves the same files.
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

from dassl.utils import UserError, load_checkpoint, progress, read_json, run_program
from phantom.dataset import ensure_dataset
from runs.config import method_config
from runs.execute import execute
from runs.folder import differences
from runs.registry import benchmark_methods, method_class
from runs.spec import RunSpec
from trainers.parts.clip_trainer import load_backbone

DRAWING = "drawing Phantom"
COUNTS = {"train": 2, "val": 1, "test": 1}  # images per class
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir"}  # of the events that Python raises for auditing
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
TIMES = ("seconds", "phases")


def spec_of(method: str, folder: Path, data: Path) -> RunSpec:
    """A run of two epochs on one image per class."""
    short = {
        "OPTIM.MAX_EPOCH": 2,
        "DATALOADER.TRAIN_X.BATCH_SIZE": 4,
        "DATALOADER.NUM_WORKERS": 0,
        "FEATURES.CACHE_DIR": folder / "cache",
        "USE_CUDA": False,  # a copy of a process cannot use a GPU
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
    """Numbers the changes of the file system below a folder, and calls `at` with each before it happens.

    A change is a file opened for writing, the flush of a written file, a rename, a removal, a folder made or removed.
    """

    def __init__(self, folder: Path, at: Callable[[int, Path | None], None]) -> None:
        self.folder, self.at, self.busy, self.count = folder.resolve(), at, False, 0
        sys.addaudithook(self._hear)  # for good: use it in a process that ends soon

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
    """Do something in a copy of this process, which prints to a file; its exit status as `os.waitpid` gives it."""
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
    """Do a work that is killed at a change; whether it came so far. A file that was being opened is half written."""

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
    """Do a work undisturbed; the number of its changes."""
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
        raise UserError(f"The undisturbed run failed: {(folder / 'whole.txt').read_text()}")
    return int(number)


def survives(work: Callable[[Path], object], folder: Path, whole: Path, number: int) -> tuple[bool, str]:
    """Do a work that is killed at a change, and do it again: whether it was killed, and what is not as in `whole`."""
    folder.mkdir()
    try:
        came_so_far = killed(work, folder, number)
        if forked(lambda: work(folder), folder / "again.txt"):
            return came_so_far, (folder / "again.txt").read_text()[-2000:]
        return came_so_far, difference(whole, folder)
    finally:
        shutil.rmtree(folder)


def difference(whole: Path, again: Path) -> str:
    """What of a run that was killed and started again is not as in an undisturbed one; "" where nothing is."""
    mine, theirs = _files(again), _files(whole)
    if mine.keys() != theirs.keys():
        return f"there are other files: {', '.join(sorted(mine.keys() ^ theirs.keys()))}"
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
    """The files of an outcome: all but logs, and the memory of hashes, which depends on the files' ages."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {
        path.relative_to(folder).as_posix(): path
        for path in files
        if path.suffix != ".txt" and not path.name.startswith("log.txt") and path.parent.name != "hashes"
    }


def _results_agree(mine: dict, theirs: dict) -> bool:
    if differences(mine.pop("config"), theirs.pop("config")):
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
    """`number` of the whole numbers 1..total, evenly spread; all of them where it is 0 or more than there are."""
    if number == 0 or number >= total:
        return list(range(1, total + 1))
    return [1 + int((2 * i + 1) * total / (2 * number)) for i in range(number)]


def tried(name: str, work: Callable[[Path], object], number: int, failures: list[str]) -> list[Any]:
    """The table's row of a work; what did not survive is added to `failures`."""
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
    parser.add_argument("--methods", nargs="+", metavar="METHOD", help="default: all, and the drawing of the images")
    parser.add_argument("--kills", type=int, default=2, help="of each; 0: one at every write (default: 2)")
    args = parser.parse_args(argv)
    for method in args.methods or ():
        method_class(method)
    torch.set_num_threads(1)  # a copy of a process has no other threads
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
