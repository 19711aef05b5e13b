"""The frozen model of a run, loaded once per process."""

from __future__ import annotations

import functools
from importlib import import_module
from threading import Thread

from ogkd import models
from ogkd.models import FrozenCLIP


def import_ahead() -> None:
    """Begin to import what nearly every model needs, which takes a second, while this thread opens images."""
    Thread(target=import_module, args=("open_clip",), daemon=True).start()


@functools.lru_cache(maxsize=1)
def load_backbone(name: str, device: str) -> FrozenCLIP:
    """The frozen model `name`, shared by all runs in a process."""
    return models.load(name, device)
