"""Reads a model folder's configuration without building the model and without PyTorch.

A model comes in one of three formats: open_clip's, transformers' CLIPModel or PMC-CLIP's checkpoint.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple, cast

from ogkd.core.schema import Rule, each, mismatch, number, whole
from ogkd.models.errors import ModelError

OPEN_CLIP_CONFIG = "open_clip_config.json"
TRANSFORMERS_CONFIG = "config.json"
PROCESSORS = ("preprocessor_config.json", "processor_config.json")
"""Where transformers stores an image processor's settings: its own file or, since version 5, the processor's."""
_BILINEAR, _BICUBIC = 2, 3  # Pillow's numbers, which transformers stores
_RESAMPLE = {_BILINEAR: "bilinear", _BICUBIC: "bicubic"}

# Mean and standard deviation of CLIP's training images: https://github.com/openai/CLIP, clip/clip.py, _transform.
_OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
_OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
KEEP_CONTEXT = 256
_PROCESSOR_KINDS = {"clip": "CLIP", "siglip": "Siglip"}  # by model_type
_HALF = (0.5, 0.5, 0.5)
_PMC_DEFAULTS = {"image_size": 224, "head_width": 64, "context_length": 77}


_Channels = tuple[float, float, float]


class ImageSpec(NamedTuple):
    """The images a model takes: side in pixels, mean and standard deviation of each RGB channel in [0, 1].

    `interpolation` is "bicubic" or "bilinear". `resize` is "" if the shorter side is resized and the centre cropped,
    "shortest_down" if the crop rounds half an odd margin down as transformers does, "squash" if both sides are resized,
    "longest" if the longer side is resized and the rest is black.
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str = "bicubic"
    resize: str = ""


OPENAI_SPEC = ImageSpec(224, _OPENAI_MEAN, _OPENAI_STD)
"""OpenAI's CLIP ViT-B/16; PMC-CLIP was trained with the same."""
OPENAI_SIZES = {
    "RN50": 224, "RN101": 224, "RN50x4": 288, "RN50x16": 384, "RN50x64": 448,
    "ViT-B/32": 224, "ViT-B/16": 224, "ViT-L/14": 224, "ViT-L/14@336px": 336,
}  # fmt: skip
"""Image side in pixels of OpenAI's models, by their names in OpenAI's package."""


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
_SHARE = number(least=0, most=1)  # of white: open_clip's images are from 0 to 1, not to 255
_SIDES = (_size(1, 4096), [_size(1, 4096)], None)
_PREPROCESS_CFG = {
    "size?": _SIDES,
    "mode?": _NAME,
    "mean?": (each(_SHARE, 3), _SHARE, None),
    "std?": (_STD, number(above=0), None),
    "interpolation?": _NAME,
    "resize_mode?": _NAME,
    "fill_color?": (_size(0, 255), None),
}
_OPEN_CLIP = {
    "model_cfg": {
        "embed_dim": _SIZES["width"],
        "vision_cfg": {**_TOWER, "timm_model_name?": _NAME},
        "text_cfg": {
            **_TOWER,
            "hf_model_name?": _NAME,
            "hf_tokenizer_name?": _NAME,
            "tokenizer_mode?": _NAME,
            "tokenizer_kwargs?": (dict, None),
        },
    },
    "preprocess_cfg?": (_PREPROCESS_CFG, None),
}
_TOWERS = ("vision_config", "text_config", "vision_config_dict", "text_config_dict")  # the last two are former names
_TRANSFORMERS = _TOWER | {f"{name}?": (_TOWER, None) for name in _TOWERS}
_SWITCH = (bool, None)
_PREPROCESSING = {
    "image_mean?": (_MEAN, None),
    "image_std?": (_STD, None),
    "resample?": (_size(0, 5), None),
    "rescale_factor?": (number(above=0), None),
    "size?": (_size(1, 4096), dict, None),
    "crop_size?": (_size(1, 4096), dict, None),
    **dict.fromkeys(("do_resize?", "do_center_crop?", "do_rescale?", "do_normalize?", "do_pad?"), _SWITCH),
    **dict.fromkeys(("image_processor_type?", "feature_extractor_type?"), _NAME),
}
_PMC = {"vision_cfg?": _TOWER, "text_cfg?": _TOWER}


def read_json(path: Path, shape: Mapping = _TRANSFORMERS) -> dict:
    """Read a configuration file and check that it has the shape. Raises ModelError if it does not."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        found = mismatch(content, shape)
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"The configuration {path} is not readable JSON: replace it with an intact copy.") from error
    if found:
        raise ModelError(f"The configuration {path} is not a model's ({found}): replace it with an intact copy.")
    return content


def is_transformers_clip(folder: Path) -> bool:
    """Whether the folder's config.json describes a transformers CLIPModel or SiglipModel."""
    return model_type(folder) in _PROCESSOR_KINDS


def model_type(folder: Path) -> str:
    """The model_type of a folder's config.json in transformers' format; "" if it has none."""
    path = folder / TRANSFORMERS_CONFIG
    return str(read_json(path).get("model_type") or "") if path.is_file() else ""


def open_clip_config(folder: Path) -> dict:
    """The folder's open_clip_config.json. Raises ModelError when it lacks what a model is built from."""
    return read_json(folder / OPEN_CLIP_CONFIG, _OPEN_CLIP)


def open_clip_spec(folder: Path) -> ImageSpec:
    """How the images of an open_clip_config.json are prepared; what it leaves out is CLIP's."""
    return image_spec_of(open_clip_config(folder), folder / OPEN_CLIP_CONFIG)


def image_spec_of(config: Mapping, path: Path) -> ImageSpec:
    """The same from the content of an open_clip_config.json, which is at `path`.

    Keys and their defaults are those of open_clip's PreprocessCfg. Raises ModelError for any other key, and for what
    cannot be done here.
    """
    preprocess = {key: value for key, value in (config.get("preprocess_cfg") or {}).items() if value is not None}
    unknown = sorted(preprocess.keys() - {key.rstrip("?") for key in _PREPROCESS_CFG})
    if unknown:
        raise unsupported(path, f"preprocess_cfg.{unknown[0]}")
    size = _side(config["model_cfg"]["vision_cfg"].get("image_size") or OPENAI_SPEC.size, path)
    interpolation, resize = preprocess.get("interpolation") or "bicubic", preprocess.get("resize_mode") or "shortest"
    for key, value, known in (
        ("mode", preprocess.get("mode") or "RGB", ("RGB",)),
        ("size", _side(preprocess.get("size") or size, path), (size,)),
        ("interpolation", interpolation, ("bicubic", "bilinear", "random")),
        ("resize_mode", resize, ("shortest", "squash", "longest")),
        ("fill_color", preprocess.get("fill_color", 0), (0,) if resize == "longest" else range(256)),
    ):
        if value not in known:
            raise unsupported(path, f"preprocess_cfg.{key} {value!r}")
    return _spec(
        size,
        _channels(preprocess.get("mean") or _OPENAI_MEAN),
        _channels(preprocess.get("std") or _OPENAI_STD),
        "bilinear" if interpolation == "bilinear" else "bicubic",  # open_clip tests with bicubic where it says random
        "" if resize == "shortest" else resize,
    )


def unsupported(path: Path, what: str) -> ModelError:
    """The error for an entry of a configuration without which the model's features would silently be others."""
    return ModelError(
        f"The configuration {path} asks for {what}, which is not supported here, and without it the features would not "
        "be the model's: choose another model, or remove the entry if the model was trained without it."
    )


def transformers_spec(folder: Path) -> ImageSpec:
    """How the preprocessor_config.json of a CLIPModel or SiglipModel prepares images; what it leaves out is the kind's.

    Raises ModelError for what cannot be done here.
    """
    config = read_json(folder / TRANSFORMERS_CONFIG)
    usual = _PROCESSOR_KINDS[config["model_type"]]
    crops = usual == "CLIP"  # SigLIP's processor squashes images, and has means of its own
    means, deviations = (_OPENAI_MEAN, _OPENAI_STD) if crops else (_HALF, _HALF)
    vision = config.get("vision_config_dict") or config.get("vision_config") or {}  # as CLIPConfig reads them
    size = _side(vision.get("image_size") or OPENAI_SPEC.size, folder / TRANSFORMERS_CONFIG)
    path, settings = _preprocessor(folder)
    square, shortest = {"height": size, "width": size}, {"shortest_edge": size}
    resized, cropped = settings.get("size", shortest if crops else square), settings.get("crop_size", square)
    crops, resample = crops and settings.get("do_center_crop", True), settings.get("resample", _BICUBIC)
    factor = settings.get("rescale_factor", 1 / 255)
    kind = settings.get("image_processor_type") or settings.get("feature_extractor_type") or f"{usual}ImageProcessor"
    for what, follows in (
        (f"the image processor {kind}", kind.startswith((f"{usual}ImageProcessor", f"{usual}FeatureExtractor"))),
        ("do_resize false", settings.get("do_resize", True)),
        ("do_rescale false", settings.get("do_rescale", True)),
        ("do_center_crop true", usual == "CLIP" or not settings.get("do_center_crop")),
        ("do_pad true", not settings.get("do_pad", False)),
        (f"rescale_factor {factor}", abs(factor * 255 - 1) < 1e-3),
        (f"resample {resample}", resample in _RESAMPLE),
        (f"size {resized}", resized == square or (resized in (size, shortest) and crops)),
        (f"crop_size {cropped}", not crops or cropped in (size, square)),
    ):
        if not follows:
            raise unsupported(path, what)
    normalises = settings.get("do_normalize", True)
    return _spec(
        size,
        settings.get("image_mean", means) if normalises else (0, 0, 0),
        settings.get("image_std", deviations) if normalises else (1, 1, 1),
        _RESAMPLE[resample],
        "squash" if resized == square else "shortest_down",
    )


def _preprocessor(folder: Path) -> tuple[Path, dict]:
    """The file with the settings of transformers' image processor, and those that are set; a step whose switch is null
    is left out, as transformers does."""
    (path, nesting), settings = (folder / name for name in PROCESSORS), {}
    if path.is_file():
        settings = read_json(path, _PREPROCESSING)
    elif nesting.is_file():
        path = nesting
        settings = read_json(path, {"image_processor?": (_PREPROCESSING, None)}).get("image_processor") or {}
    return path, {key: value for key, value in settings.items() if value is not None or key.startswith("do_")}


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


def keep_spec(folder: Path) -> ImageSpec:
    """How KEEP's images are prepared, as its README says; the side is the configuration's, if it gives one."""
    vision = read_json(folder / TRANSFORMERS_CONFIG).get("vision_config") or {}
    return ImageSpec(
        vision.get("image_size") or vision.get("img_size") or OPENAI_SPEC.size, _IMAGENET_MEAN, _IMAGENET_STD
    )


def without_code(config: Mapping) -> dict:
    """Remove the entries of a transformers configuration that refer to a repository's code: classes, attention
    kernels."""
    return {
        key: without_code(value) if isinstance(value, Mapping) else value
        for key, value in config.items()
        if key != "auto_map" and "attn_implementation" not in key
    }


def _side(size: int | Iterable[int], path: Path) -> int:
    """The side of square images, given as one number or as both sides."""
    sides = set(size) if isinstance(size, Iterable) else {size}
    if len(sides) != 1:
        raise unsupported(path, f"images of size {size}, which are not square")
    return sides.pop()


def _channels(values: float | Iterable[float]) -> Iterable[float]:
    return values if isinstance(values, Iterable) else (values,) * 3


def _spec(size: int, mean: Iterable[float], std: Iterable[float], interpolation: str, resize: str) -> ImageSpec:
    mean, std = cast(_Channels, tuple(map(float, mean))), cast(_Channels, tuple(map(float, std)))
    return ImageSpec(int(size), mean, std, interpolation, resize)
