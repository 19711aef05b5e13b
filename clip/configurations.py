"""What a model folder's configuration says, read without building the model and without PyTorch.

A model comes in one of three formats: open_clip's, transformers' CLIPModel or PMC-CLIP's checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from .errors import ModelError

OPEN_CLIP_CONFIG = "open_clip_config.json"
TRANSFORMERS_CONFIG = "config.json"
_PREPROCESSOR = "preprocessor_config.json"

# Mean and standard deviation of CLIP's training images: https://github.com/openai/CLIP, clip/clip.py, _transform.
_OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
_OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
_PMC_DEFAULTS = {"image_size": 224, "head_width": 64, "context_length": 77}


class ImageSpec(NamedTuple):
    """The images a model takes: side in pixels, mean and standard deviation of each RGB channel in [0, 1]."""

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


OPENAI_SPEC = ImageSpec(224, _OPENAI_MEAN, _OPENAI_STD)
"""OpenAI's CLIP ViT-B/16; PMC-CLIP was trained with the same."""


def read_json(path: Path) -> dict:
    """The object in a configuration file. Raises ModelError, naming the file, when there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"The configuration {path} is not readable JSON: replace it with a complete copy.") from error
    if not isinstance(content, dict):
        raise ModelError(f"The configuration {path} is not a JSON object: replace it with a complete copy.")
    return content


def is_transformers_clip(folder: Path) -> bool:
    """Whether the folder's config.json describes a transformers CLIPModel."""
    path = folder / TRANSFORMERS_CONFIG
    return path.is_file() and read_json(path).get("model_type") == "clip"


def open_clip_config(folder: Path) -> dict:
    """The folder's open_clip_config.json. Raises ModelError when it lacks what a model is built from."""
    path = folder / OPEN_CLIP_CONFIG
    config = read_json(path)
    model = config.get("model_cfg")
    if not isinstance(model, dict) or not {"embed_dim", "vision_cfg", "text_cfg"} <= model.keys():
        raise ModelError(
            f"The configuration {path} lacks a model_cfg with embed_dim, vision_cfg and text_cfg: replace it with a "
            "complete copy."
        )
    return config


def open_clip_spec(folder: Path) -> ImageSpec:
    """Image size, mean and standard deviation from an open_clip_config.json; CLIP's own where it gives none."""
    return image_spec_of(open_clip_config(folder))


def image_spec_of(config: Mapping) -> ImageSpec:
    """The same from the content of an open_clip_config.json. Raises ModelError when images are not square."""
    preprocess = config.get("preprocess_cfg") or {}
    size = config["model_cfg"]["vision_cfg"].get("image_size", OPENAI_SPEC.size)
    if isinstance(size, (list, tuple)):
        if len(set(size)) != 1:
            raise ModelError(f"Images of size {size} are not supported: choose a model with square images.")
        size = size[0]
    return _spec(size, preprocess.get("mean", _OPENAI_MEAN), preprocess.get("std", _OPENAI_STD))


def transformers_spec(folder: Path) -> ImageSpec:
    """Image size, mean and standard deviation of a transformers CLIPModel; CLIP's own where its files give none."""
    vision = read_json(folder / TRANSFORMERS_CONFIG).get("vision_config") or {}
    preprocess = read_json(folder / _PREPROCESSOR) if (folder / _PREPROCESSOR).is_file() else {}
    mean, std = preprocess.get("image_mean", _OPENAI_MEAN), preprocess.get("image_std", _OPENAI_STD)
    return _spec(vision.get("image_size", OPENAI_SPEC.size), mean, std)


def pmc_settings(folder: Path) -> dict[str, int]:
    """What PMC-CLIP's weights do not show: image_size, head_width and context_length.

    They come from the folder's config.json if that is one of PMC-CLIP's own format (it has clip_model), and are the
    published model's otherwise.
    """
    path = folder / TRANSFORMERS_CONFIG
    content = read_json(path) if path.is_file() else {}
    if "clip_model" not in content:
        return dict(_PMC_DEFAULTS)
    given = {**content.get("vision_cfg", {}), **content.get("text_cfg", {})}
    return {key: int(given.get(key, default)) for key, default in _PMC_DEFAULTS.items()}


def pmc_spec(folder: Path) -> ImageSpec:
    """Image size, mean and standard deviation for PMC-CLIP's checkpoint in a folder."""
    return OPENAI_SPEC._replace(size=pmc_settings(folder)["image_size"])


def without_code(config: Mapping) -> dict:
    """A transformers configuration without the entries that name code of a repository: classes, attention kernels."""
    return {
        key: without_code(value) if isinstance(value, Mapping) else value
        for key, value in config.items()
        if key != "auto_map" and "attn_implementation" not in key
    }


def _spec(size: int, mean: object, std: object) -> ImageSpec:
    return ImageSpec(int(size), tuple(map(float, mean)), tuple(map(float, std)))
