"""The frozen model of a run, loaded once per process."""

from __future__ import annotations

import functools

from ogkd import models
from ogkd.models import FrozenCLIP


@functools.lru_cache(maxsize=1)
def load_backbone(name: str, device: str) -> FrozenCLIP:
    """The frozen model `name`, shared by all runs in a process."""
    return models.load(name, device)
