"""The frozen model of a run, loaded once per process."""

from __future__ import annotations

import functools
from pathlib import Path

from ogkd import models
from ogkd.core import progress
from ogkd.models import FrozenCLIP


@functools.lru_cache(maxsize=1)
def load_backbone(name: str, device: str) -> FrozenCLIP:
    """The frozen model `name`, shared by all runs in a process."""
    bars = {}

    def report(stage: str, done: int, total: int) -> None:
        if stage not in bars:
            bars[stage] = progress(None, f"load {Path(name).name}: {stage}", total=total)
            bars[stage].__enter__()
        bars[stage].update(done - bars[stage].n)
        if done >= total:
            bars.pop(stage).__exit__(None, None, None)

    return models.load(name, device, report=report)
