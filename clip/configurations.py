"""Reads a model folder's configuration without building the model and without PyTorch.

A model comes in one of three formats: open_clip's, transformers' CLIPModel or PMC-CLIP's checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple, cast

from dassl.utils.rules import Rule, each, number, whole
from dassl.utils.shapes import departure

from .errors import ModelError

OPEN_CLIP_CONFIG = "open_clip_config.json"
TRANSFORMERS_CONFIG = "config.json"
_PREPROCESSOR = "preprocessor_config.json"

# Mean and standard deviation of CLIP's training images: https://github.com/openai/CLIP, clip/clip.py, _transform.
_OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
_OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
_PMC_DEFAULTS = {"image_size": 224, "head_width": 64, "context_length": 77}


_Channels = tuple[float, float, float]


class ImageSpec(NamedTuple):
    """The images a model takes: side in pixels, mean and standard deviation of each RGB channel in [0, 1]."""

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


OPENAI_SPEC = ImageSpec(224, _OPENAI_MEAN, _OPENAI_STD)
"""OpenAI's CLIP ViT-B/16; PMC-CLIP was trained with the same."""


def _size(least: int, most: int) -> Rule:
    return Rule(lambda value: whole(value) and least <= value <= most, f"a whole number from {least} to {most:,}")


# The sizes given in configurations of any format, within bounds that hold for every published model and that can be
# built; `None` leaves a size to the library.
_SIZES = {
    **dict.fromkeys(("image_size", "patch_size"), _size(1, 4096)),
    **dict.fromkeys(("layers", "num_hidden_layers", "num_attention_heads", "heads"), _size(1, 1000)),
    **dict.fromkeys(("context_length", "max_position_embeddings", "n_positions"), _size(1, 8192)),
    **dict.fromkeys(("width", "hidden_size", "intermediate_size", "projection_dim", "head_width"), _size(1, 1_000_000)),
    **dict.fromkeys(("vocab_size", "type_vocab_size"), _size(1, 10_000_000)),
}
_TOWER = {f"{name}?": (rule, [rule], None) for name, rule in _SIZES.items()}
_NAME = (str, None)
_MEAN, _STD = each(number(), 3), each(number(above=0), 3)
_OPEN_CLIP = {
    "model_cfg": {
        "embed_dim": _SIZES["width"],
        "vision_cfg": {**_TOWER, "timm_model_name?": _NAME},
        "text_cfg": {**_TOWER, "hf_model_name?": _NAME, "hf_tokenizer_name?": _NAME, "tokenizer_mode?": _NAME},
    },
    "preprocess_cfg?": ({"mean?": _MEAN, "std?": _STD}, None),
}
_TRANSFORMERS = {**_TOWER, "vision_config?": (_TOWER, None), "text_config?": (_TOWER, None)}
_PREPROCESSING = {"image_mean?": _MEAN, "image_std?": _STD}
_PMC = {"vision_cfg?": _TOWER, "text_cfg?": _TOWER}


def read_json(path: Path, shape: Mapping = _TRANSFORMERS) -> dict:
    """Read a configuration file and check that it has the shape. Raises ModelError if it does not."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = departure(content, shape)
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"The configuration {path} is not readable JSON: replace it with an intact copy.") from error
    if found:
        raise ModelError(f"The configuration {path} is not a model's ({found}): replace it with an intact copy.")
    return content


def is_transformers_clip(folder: Path) -> bool:
    """Whether the folder's config.json describes a transformers CLIPModel."""
    path = folder / TRANSFORMERS_CONFIG
    return path.is_file() and read_json(path).get("model_type") == "clip"


def open_clip_config(folder: Path) -> dict:
    """The folder's open_clip_config.json. Raises ModelError when it lacks what a model is built from."""
    return read_json(folder / OPEN_CLIP_CONFIG, _OPEN_CLIP)


def open_clip_spec(folder: Path) -> ImageSpec:
    """Image size, mean and standard deviation from an open_clip_config.json; by default CLIP's."""
    return image_spec_of(open_clip_config(folder))


def image_spec_of(config: Mapping) -> ImageSpec:
    """The same from the content of an open_clip_config.json. Raises ModelError when images are not square."""
    preprocess = config.get("preprocess_cfg") or {}
    size = config["model_cfg"]["vision_cfg"].get("image_size", OPENAI_SPEC.size)
    if isinstance(size, (list, tuple)):
        if len(set(size)) != 1:
            raise ModelError(f"Images of size {size} are not supported: choose a model with square images.")
        size = size[0]
    return _spec(size or OPENAI_SPEC.size, preprocess.get("mean", _OPENAI_MEAN), preprocess.get("std", _OPENAI_STD))


def transformers_spec(folder: Path) -> ImageSpec:
    """Image size, mean and standard deviation of a transformers CLIPModel; by default CLIP's."""
    vision = read_json(folder / TRANSFORMERS_CONFIG).get("vision_config") or {}
    preprocess = read_json(folder / _PREPROCESSOR, _PREPROCESSING) if (folder / _PREPROCESSOR).is_file() else {}
    mean, std = preprocess.get("image_mean", _OPENAI_MEAN), preprocess.get("image_std", _OPENAI_STD)
    return _spec(vision.get("image_size") or OPENAI_SPEC.size, mean, std)


def pmc_settings(folder: Path) -> dict[str, int]:
    """Return the settings that PMC-CLIP's weights do not reveal: image_size, head_width and context_length.

    They come from the folder's config.json if that is in PMC-CLIP's own format (it has clip_model); otherwise they are
    the published model's.
    """
    path = folder / TRANSFORMERS_CONFIG
    content = read_json(path, _PMC) if path.is_file() else {}
    if "clip_model" not in content:
        return dict(_PMC_DEFAULTS)
    given = {**content.get("vision_cfg", {}), **content.get("text_cfg", {})}
    return {key: given.get(key) or default for key, default in _PMC_DEFAULTS.items()}


def pmc_spec(folder: Path) -> ImageSpec:
    """Image size, mean and standard deviation for PMC-CLIP's checkpoint in a folder."""
    return OPENAI_SPEC._replace(size=pmc_settings(folder)["image_size"])


def without_code(config: Mapping) -> dict:
    """Remove the entries of a transformers configuration that refer to a repository's code: classes, attention
    kernels."""
    return {
        key: without_code(value) if isinstance(value, Mapping) else value
        for key, value in config.items()
        if key != "auto_map" and "attn_implementation" not in key
    }


def _spec(size: int, mean: Iterable[float], std: Iterable[float]) -> ImageSpec:
    return ImageSpec(int(size), cast(_Channels, tuple(map(float, mean))), cast(_Channels, tuple(map(float, std))))
