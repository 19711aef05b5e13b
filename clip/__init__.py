"""OpenAI's clip package under its own names, for trainers written against it; see clip/clip.py.

This project's own interface to every model is ogkd.models. Its names are still found here for one version.
"""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path
from typing import Any

__all__ = ["available_models", "load", "tokenize"]


def load(name: str | Path, *arguments: Any, **options: Any) -> Any:
    """OpenAI's function for a name or file of OpenAI's, see clip/clip.py; ogkd.models.load for any other."""
    openai = importlib.import_module("clip.clip")
    if str(name) in openai.available_models() or Path(name).is_file():
        return openai.load(name, *arguments, **options)
    return _former("load")(name, *arguments, **options)


def _former(name: str) -> Any:
    warnings.warn(f"clip.{name} is now ogkd.models.{name}", DeprecationWarning, stacklevel=3)
    return getattr(importlib.import_module("ogkd.models"), name)


def __getattr__(name: str) -> Any:
    if name in ("available_models", "tokenize"):
        return getattr(importlib.import_module("clip.clip"), name)
    if name in importlib.import_module("ogkd.models").__all__:
        return _former(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
