"""Short jobs on the small Phantom data set, for tests of the engines that start commands."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ogkd.runs.protocols import Job, Places, job


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
    epochs = () if "OPTIM.MAX_EPOCH" in pairs else ("OPTIM.MAX_EPOCH", "3")
    short = ("FEATURES.CACHE_DIR", str(cache), "DATALOADER.NUM_WORKERS", "0", *epochs)
    places = Places(data=data, output=output, backbone="PhantomCLIP")
    return job(protocol, method, "phantom", 2, seed, places, (*short, *pairs))


def trains(job: Job) -> bool:
    """Whether a run of the job has stored an epoch."""
    return any(any(folder.rglob("model.pth.tar-*")) for folder in job.folders())
