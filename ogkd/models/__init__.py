"""Frozen vision-language models behind one interface: ogkd.models.load(name or folder) returns a FrozenCLIP.

Importing the package is cheap: PyTorch is imported by the first use of a name that needs it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from ogkd.models.configurations import ImageSpec
from ogkd.models.errors import MissingWeights, ModelError
from ogkd.models.sources import available_models, folder_of, image_spec, load, locate, model_named

if TYPE_CHECKING:
    from ogkd.models.interface import FrozenCLIP, ImageFeatures, Tokens

__all__ = [
    "FrozenCLIP",
    "ImageFeatures",
    "ImageSpec",
    "MissingWeights",
    "ModelError",
    "Tokens",
    "available_models",
    "folder_of",
    "image_spec",
    "load",
    "locate",
    "model_named",
]

_FROM_INTERFACE = ("FrozenCLIP", "ImageFeatures", "Tokens")


def __getattr__(name: str) -> object:
    if name not in _FROM_INTERFACE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(".interface", __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
