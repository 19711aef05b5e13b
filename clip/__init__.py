"""OpenAI's clip package under its own names, for trainers written against it: see clip/compat.

This project's own interface to every model is ogkd.models.
"""

from __future__ import annotations

import importlib
import warnings


def __getattr__(name: str) -> object:
    models = importlib.import_module("ogkd.models")
    if name not in models.__all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(f"clip.{name} is now ogkd.models.{name}", DeprecationWarning, stacklevel=2)
    return getattr(models, name)
