"""Models in open_clip's format: BiomedCLIP, PhantomCLIP, OpenAI's CLIP, and folders with an open_clip_config.json."""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from . import weights
from .bert import config_of_state
from .configurations import (
    OPEN_CLIP_CONFIG,
    TRANSFORMERS_CONFIG,
    image_spec_of,
    open_clip_config,
    read_json,
    without_code,
)
from .errors import ModelError
from .image_towers import tower_of
from .interface import FrozenCLIP, Report
from .sources import OPEN_CLIP_WEIGHTS, TRANSFORMERS_WEIGHTS, Repository, first_line, weights_in
from .text_towers import NativeText, TransformersText

_TEXT = "text.transformer."
# Buffers and heads in published files that the model, as it is used here, does not have.
_IGNORED = (
    f"{_TEXT}embeddings.position_ids",
    f"{_TEXT}pooler.dense.weight",
    f"{_TEXT}pooler.dense.bias",
    "input_resolution",
    "context_length",
    "vocab_size",
)
_OPENAI_MODEL = "ViT-B-16-quickgelu"


def load_folder(
    name: str, folder: Path, report: Report | None = None, repository: Repository | None = None
) -> FrozenCLIP:
    """Load the model of a folder with open_clip_config.json, weights and tokenizer, on the CPU.

    `repository` is the hub repository that the folder is a copy of, if any. A text tower from transformers is built
    from the folder's config.json or, if there is none (as for BiomedCLIP), from the shapes of its weights.
    Raises ModelError if files are missing, corrupt or do not belong together.
    """
    return _load(name, folder, open_clip_config(folder), report, repository)


def load_openai(name: str, folder: Path, report: Report | None = None) -> FrozenCLIP:
    """Load OpenAI's CLIP ViT-B/16 from a folder with its weights alone, on the CPU; open_clip itself provides the
    configuration and the tokenizer. Raises ModelError as load_folder does."""
    import open_clip

    config = {"model_cfg": open_clip.get_model_config(_OPENAI_MODEL), "preprocess_cfg": {}}
    return _load(name, folder, config, report, None)


def _load(name: str, folder: Path, config: dict, report: Report | None, repository: Repository | None) -> FrozenCLIP:
    path = weights_in(folder, (*OPEN_CLIP_WEIGHTS, *TRANSFORMERS_WEIGHTS))
    text_config = _own_text_config(config["model_cfg"], folder)
    with ExitStack() as stack:
        # Hash in a separate thread while open_clip is imported and the model is built.
        thread = stack.enter_context(ThreadPoolExecutor(1))
        identity = config if text_config is None else [config, text_config]
        fingerprint = thread.submit(weights.fingerprint, path, identity, report)
        state = weights.read(path, report)
        model_cfg = _self_contained(config["model_cfg"], folder, state, path, stack)
        model: Any = build(model_cfg, folder, custom_text=any(key.startswith("text.") for key in state))
    weights.fill(model, state, path, name, ignored=_IGNORED)
    text_cfg = model_cfg["text_cfg"]
    context_length = text_cfg.get("context_length") or model.context_length
    return FrozenCLIP(
        name=name,
        image=tower_of(model.visual),
        text=_text_tower(model),
        tokenizer=_tokenizer(config["model_cfg"]["text_cfg"], folder, repository),
        spec=image_spec_of(config),
        embed_dim=model_cfg["embed_dim"],
        context_length=min(context_length, model.context_length or context_length),
        log_logit_scale=float(model.logit_scale.reshape(())),
        fingerprint=fingerprint.result(),
    )


def _own_text_config(model_cfg: Mapping, folder: Path) -> dict | None:
    """Return the text tower's config.json if the folder has one; in timm's repositories that name means something
    else."""
    path = folder / TRANSFORMERS_CONFIG
    if not model_cfg["text_cfg"].get("hf_model_name") or not path.is_file():
        return None
    content = read_json(path)
    return content if "model_type" in content else None


def _self_contained(
    model_cfg: Mapping, folder: Path, state: Mapping[str, Tensor], path: Path, stack: ExitStack
) -> Mapping:
    """Change the configuration so that building the model downloads nothing and runs no code from a repository.

    Raises ModelError if it gives a repository or folder instead of an architecture for the image tower.
    """
    model_cfg = copy.deepcopy(dict(model_cfg))
    trunk = str(model_cfg["vision_cfg"].get("timm_model_name") or "")
    if ":" in trunk or "/" in trunk:
        raise ModelError(
            f'The configuration {folder / OPEN_CLIP_CONFIG} takes its image tower from "{trunk}", which is another '
            "repository or folder: set timm_model_name to the name of a timm architecture."
        )
    model_cfg["vision_cfg"]["timm_model_pretrained"] = False
    text_cfg = model_cfg["text_cfg"]
    text_cfg["hf_model_pretrained"] = False
    if text_cfg.get("hf_model_name"):
        content = _own_text_config(model_cfg, folder)
        if content is None:
            content = config_of_state(state, _TEXT, text_cfg["hf_model_name"], path)
        # open_clip reads the text tower's configuration from a folder and has no trust_remote_code to pass on
        made = stack.enter_context(tempfile.TemporaryDirectory(prefix="clip-text-config-"))
        (Path(made) / TRANSFORMERS_CONFIG).write_text(json.dumps(without_code(content)), encoding="utf-8")
        text_cfg["hf_model_name"] = made
    return model_cfg


def build(model_cfg: Mapping, folder: Path, custom_text: bool = False) -> nn.Module:
    """Build the model of a model_cfg on the meta device. Raises ModelError if open_clip cannot build it."""
    import open_clip

    arguments = dict(model_cfg)
    custom = arguments.pop("custom_text", False) or custom_text or bool(arguments["text_cfg"].get("hf_model_name"))
    try:
        with weights.no_initialisation():
            return (open_clip.CustomTextCLIP if custom else open_clip.CLIP)(**arguments)
    except Exception as error:  # a wrong configuration can make open_clip, timm and transformers raise anything
        raise ModelError(
            f"open_clip cannot build the model that {folder / OPEN_CLIP_CONFIG} describes ({first_line(error)}): check "
            "its model_cfg."
        ) from error


def _text_tower(model: nn.Module) -> nn.Module:
    text = getattr(model, "text", None)
    if text is None:
        return NativeText(model)
    if hasattr(text, "pooler"):
        return TransformersText(text.transformer, text.pooler, text.proj)
    return NativeText(text)


def _tokenizer(
    text_cfg: Mapping, folder: Path, repository: Repository | None
) -> Callable[[list[str]], list[list[int]]]:
    if text_cfg.get("tokenizer_mode"):
        raise ModelError(f"The tokenizer mode {text_cfg['tokenizer_mode']!r} of {folder} is not supported.")
    from .tokenizers import native_tokenizer, transformers_tokenizer

    published_name = text_cfg.get("hf_tokenizer_name") or text_cfg.get("hf_model_name")
    if not published_name:
        native = native_tokenizer()
        size = len(native.words())
        if text_cfg.get("vocab_size", size) < size:
            raise ModelError(
                f"The text tower of {folder} has {text_cfg['vocab_size']} words but CLIP's tokenizer has {size}: name "
                f"its tokenizer as hf_tokenizer_name in {OPEN_CLIP_CONFIG} and put tokenizer.json beside the weights."
            )
        return native
    return transformers_tokenizer(folder, repository, published_name)
