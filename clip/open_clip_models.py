"""Models in open_clip's format: BiomedCLIP, PhantomCLIP, OpenAI's CLIP and any folder with an open_clip_config.json."""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from torch import Tensor, nn

from . import weights
from .bert import config_of_state
from .errors import ModelError
from .image_towers import tower_of
from .interface import FrozenCLIP, ImageSpec, Report
from .sources import (
    OPEN_CLIP_CONFIG,
    OPEN_CLIP_WEIGHTS,
    TRANSFORMERS_CONFIG,
    TRANSFORMERS_WEIGHTS,
    read_json,
    weights_in,
)
from .text_towers import NativeText, TransformersText

_TEXT = "text.transformer."
# Buffers and heads that published files have and the model, as it is used here, has not.
_IGNORED = (
    f"{_TEXT}embeddings.position_ids",
    f"{_TEXT}pooler.dense.weight",
    f"{_TEXT}pooler.dense.bias",
    "input_resolution",
    "context_length",
    "vocab_size",
)
OPENAI_MODEL = "ViT-B-16-quickgelu"


def folder_config(folder: Path) -> dict:
    """The folder's open_clip_config.json. Raises ModelError when it lacks what a model is built from."""
    path = folder / OPEN_CLIP_CONFIG
    config = read_json(path)
    model = config.get("model_cfg")
    if not isinstance(model, dict) or not {"embed_dim", "vision_cfg", "text_cfg"} <= model.keys():
        raise ModelError(
            f"The configuration {path} lacks model_cfg with embed_dim, vision_cfg and text_cfg: replace it by a "
            "complete copy."
        )
    return config


def openai_config() -> dict:
    """The configuration of OpenAI's CLIP ViT-B/16, which open_clip itself has."""
    import open_clip

    return {"model_cfg": open_clip.get_model_config(OPENAI_MODEL), "preprocess_cfg": {}}


def folder_spec(folder: Path) -> ImageSpec:
    """Image size, mean and standard deviation from the folder's configuration."""
    return spec_of(folder_config(folder))


def spec_of(config: Mapping) -> ImageSpec:
    """What the model wants of an image; open_clip's own defaults where the configuration is silent."""
    from open_clip.constants import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

    preprocess = config.get("preprocess_cfg") or {}
    size = config["model_cfg"]["vision_cfg"].get("image_size", 224)
    if isinstance(size, (list, tuple)):
        if len(set(size)) != 1:
            raise ModelError(f"Images of size {size} are not supported: take a model with square images.")
        size = size[0]
    mean, std = preprocess.get("mean", OPENAI_DATASET_MEAN), preprocess.get("std", OPENAI_DATASET_STD)
    return ImageSpec(int(size), tuple(map(float, mean)), tuple(map(float, std)))


def load_folder(name: str, folder: Path, report: Report | None = None, config: dict | None = None) -> FrozenCLIP:
    """The model of a folder with weights, tokenizer and (unless `config` is given) open_clip_config.json, on the CPU.

    A text tower of transformers is built from the folder's config.json or, as BiomedCLIP has none, from the shapes of
    its weights. Raises ModelError for files that are missing, damaged or do not belong together.
    """
    config = folder_config(folder) if config is None else config
    path = weights_in(folder, (*OPEN_CLIP_WEIGHTS, *TRANSFORMERS_WEIGHTS))
    text_config = _own_text_config(config["model_cfg"], folder)
    fingerprint = weights.fingerprint(path, config if text_config is None else [config, text_config], report)
    state = weights.read(path, report)
    with ExitStack() as stack:
        model_cfg = _offline(config["model_cfg"], folder, state, path, stack)
        model = build(model_cfg, folder, custom_text=any(key.startswith("text.") for key in state))
    weights.fill(model, state, path, name, ignored=_IGNORED)
    text_cfg = model_cfg["text_cfg"]
    context_length = text_cfg.get("context_length") or model.context_length
    return FrozenCLIP(
        name=name,
        image=tower_of(model.visual),
        text=_text_tower(model),
        tokenizer=_tokenizer(config["model_cfg"]["text_cfg"], folder),
        spec=spec_of(config),
        embed_dim=model_cfg["embed_dim"],
        context_length=min(context_length, model.context_length or context_length),
        log_logit_scale=float(model.logit_scale.reshape(())),
        fingerprint=fingerprint,
    )


def _own_text_config(model_cfg: Mapping, folder: Path) -> dict | None:
    """The config.json of the text tower if the folder has one; repositories of timm have another file of that name."""
    path = folder / TRANSFORMERS_CONFIG
    if not model_cfg["text_cfg"].get("hf_model_name") or not path.is_file():
        return None
    content = read_json(path)
    return content if "model_type" in content else None


def _offline(model_cfg: Mapping, folder: Path, state: Mapping[str, Tensor], path: Path, stack: ExitStack) -> dict:
    """The configuration changed so that building the model asks no network for anything."""
    model_cfg = copy.deepcopy(dict(model_cfg))
    model_cfg["vision_cfg"]["timm_model_pretrained"] = False
    text_cfg = model_cfg["text_cfg"]
    text_cfg["hf_model_pretrained"] = False
    if text_cfg.get("hf_model_name"):
        if _own_text_config(model_cfg, folder) is not None:
            text_cfg["hf_model_name"] = str(folder)
        else:
            bert = config_of_state(state, _TEXT, text_cfg["hf_model_name"], path)
            made = stack.enter_context(tempfile.TemporaryDirectory(prefix="clip-text-config-"))
            (Path(made) / TRANSFORMERS_CONFIG).write_text(json.dumps(bert), encoding="utf-8")
            text_cfg["hf_model_name"] = made
    return model_cfg


def build(model_cfg: Mapping, folder: Path, custom_text: bool = False) -> nn.Module:
    """The model of a model_cfg without parameters (meta device). Raises ModelError when open_clip cannot build it."""
    import open_clip

    arguments = dict(model_cfg)
    custom = arguments.pop("custom_text", False) or custom_text or bool(arguments["text_cfg"].get("hf_model_name"))
    try:
        with weights.no_initialisation():
            return (open_clip.CustomTextCLIP if custom else open_clip.CLIP)(**arguments)
    except (TypeError, ValueError, RuntimeError, KeyError, AssertionError, OSError) as error:
        raise ModelError(
            f"open_clip cannot build the model that {folder / OPEN_CLIP_CONFIG} describes ({error}): check its "
            "model_cfg."
        ) from error


def _text_tower(model: nn.Module) -> nn.Module:
    text = getattr(model, "text", None)
    if text is None:
        return NativeText(model)
    if hasattr(text, "pooler"):
        return TransformersText(text.transformer, text.pooler, text.proj)
    return NativeText(text)


def _tokenizer(text_cfg: Mapping, folder: Path) -> Callable[[list[str]], list[list[int]]]:
    if text_cfg.get("tokenizer_mode"):
        raise ModelError(f"The tokenizer mode {text_cfg['tokenizer_mode']!r} of {folder} is not supported.")
    hub_name = text_cfg.get("hf_tokenizer_name") or text_cfg.get("hf_model_name")
    if not hub_name:
        from open_clip.tokenizer import SimpleTokenizer

        native = SimpleTokenizer()
        if text_cfg.get("vocab_size", native.vocab_size) < native.vocab_size:
            raise ModelError(
                f"The text tower of {folder} has {text_cfg['vocab_size']} words but CLIP's tokenizer "
                f"{native.vocab_size}: name its tokenizer as hf_tokenizer_name in {OPEN_CLIP_CONFIG}."
            )
        return lambda texts: [[native.sot_token_id, *native.encode(text), native.eot_token_id] for text in texts]
    from .tokenizers import transformers_tokenizer

    return transformers_tokenizer(folder, hub_name)
