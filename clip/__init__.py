"""Frozen vision-language models behind one interface: clip.load(name or folder) gives a FrozenCLIP."""

from __future__ import annotations

from .errors import ModelError
from .interface import FrozenCLIP, ImageFeatures, ImageSpec, Tokens
from .registry import available_models, image_spec, load

__all__ = [
    "FrozenCLIP",
    "ImageFeatures",
    "ImageSpec",
    "ModelError",
    "Tokens",
    "available_models",
    "image_spec",
    "load",
]
