"""Jobs for tests of the engines: short runs on the small Phantom data set, and jobs that do as they are told."""

from __future__ import annotations

import errno
import os
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ogkd.core import Diverged
from ogkd.runs.protocols import Job, Places, job
from ogkd.runs.spec import RunSpec


def phantom_job(
    method: str,
    data: Path,
    output: Path,
    cache: Path,
    pairs: Sequence[str] = (),
    protocol: str = "few_shot",
    seed: int = 1,
) -> Job:
    """A protocol of a method with 2 shots (base-to-novel: 2 too) and a few epochs."""
    short = ("FEATURES.CACHE_DIR", str(cache), "DATALOADER.NUM_WORKERS", "0", "OPTIM.MAX_EPOCH", "3")
    places = Places(data=data, output=output, backbone="PhantomCLIP")
    return job(protocol, method, "phantom", 2, seed, places, (*short, *pairs))


@dataclass(frozen=True)
class Scripted(Job):
    """A job that does what its first KEY says, with VALUE a folder for notes: a line with its process in each."""

    def __call__(self) -> list[dict]:
        deed, folder = self.specs[0].pairs
        notes = Path(folder) / self.specs[0].method
        with notes.open("a") as file:
            file.write(f"{os.getpid()}\n")
        first = len(notes.read_text().splitlines()) == 1
        if deed == "die" or (deed == "die once" and first):
            os.kill(os.getpid(), signal.SIGKILL)
        if deed == "need imports" and sys.platform == "linux":
            assert "ogkd.runs.execute" in sys.modules
        if deed == "full":
            raise OSError(errno.ENOSPC, "No space left on device", "prompt.pt")
        if deed == "diverge":
            raise Diverged("the loss is not finite")
        if deed == "fault":
            raise KeyError("ours")
        if deed == "fill" or (deed == "fill once" and first):
            import torch

            raise torch.OutOfMemoryError("CUDA out of memory.")
        while deed == "wait" and not (Path(folder) / "go").exists():
            time.sleep(0.05)
        return [{"accuracy": 71.44}]


def scripted(name: str, deed: str, folder: Path) -> Scripted:
    """A scripted job without results; `name` stands for its method."""
    place = str(folder / "runs" / name)
    spec = RunSpec(method=name, folder=place, dataset="phantom", shots=2, pairs=(deed, str(folder)))
    return Scripted("few_shot", (spec,))


def completed(job: Job) -> Job:
    """The same job, whose runs have results."""
    for folder in job.folders():
        folder.mkdir(parents=True)
        (folder / "results.json").write_text("{}")
    return job


def processes(folder: Path, name: str) -> list[int]:
    """The processes that have begun a scripted job."""
    path = folder / name
    return [int(line) for line in path.read_text().splitlines()] if path.exists() else []


def alive(pid: int) -> bool:
    """Whether a process of this machine runs."""
    try:
        os.kill(pid, 0)
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False


def wait_for(condition, seconds: float = 60) -> bool:
    """Whether a condition becomes true in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True
