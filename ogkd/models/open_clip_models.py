"""Models in open_clip's format: BiomedCLIP, PhantomCLIP, OpenAI's CLIP, and folders with an open_clip_config.json."""

from __future__ import annotations

import copy
import json
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ogkd.models import checkpoints, weights
from ogkd.models.bert import config_of_state
from ogkd.models.configurations import (
    OPEN_CLIP_CONFIG,
    TRANSFORMERS_CONFIG,
    image_spec_of,
    open_clip_config,
    read_json,
    unsupported,
    without_code,
)
from ogkd.models.errors import ModelError
from ogkd.models.interface import FrozenCLIP
from ogkd.models.sources import OPEN_CLIP_WEIGHTS, OPENAI_CLIP, TRANSFORMERS_WEIGHTS, Repository, weights_in
from ogkd.models.tokenizers import (
    CLEANINGS,
    Tokenizer,
    native_tokenizer,
    require_pooling_at_end,
    transformers_tokenizer,
)
from ogkd.models.towers import NativeText, TransformersText, image_tower_of

_TEXT = "text.transformer."
# Buffers and heads in published files that the model, as it is used here, does not have.
IGNORED = (
    f"{_TEXT}embeddings.position_ids",
    f"{_TEXT}pooler.dense.weight",
    f"{_TEXT}pooler.dense.bias",
    "input_resolution",
    "context_length",
    "vocab_size",
)
_OPENAI_MODEL = "ViT-B-16-quickgelu"
_UNSET: tuple = (None, False, "", [], {})
_CONTEXT_LENGTH = 77  # where a configuration gives none


def load_folder(name: str, folder: Path, repository: Repository | None = None) -> FrozenCLIP:
    """Load the model of a folder with open_clip_config.json, weights and tokenizer, on the CPU.

    `repository` is the hub repository that the folder is a copy of, if any; OpenAI's has weights alone, and open_clip
    has the rest. A text tower from transformers is built from the folder's config.json or, if there is none (as for
    BiomedCLIP), from the shapes of its weights.
    Raises ModelError if files are missing, corrupt or do not belong together.
    """
    if repository and repository.checkpoint:
        path = weights_in(folder, repository.weights)
        state = checkpoints.read(path, repository.checkpoint)
        return of_state(name, folder, path, checkpoints.config(repository.checkpoint, state, path), state, repository)
    config = open_clip_config(folder) if repository != OPENAI_CLIP else _openai_config()
    path = weights_in(folder, (*OPEN_CLIP_WEIGHTS, *TRANSFORMERS_WEIGHTS))
    return of_state(name, folder, path, config, repository=repository)


def of_state(
    name: str,
    folder: Path,
    path: Path,
    config: Mapping[str, Any],
    state: Mapping[str, Tensor] | None = None,
    repository: Repository | None = None,
) -> FrozenCLIP:
    """The model of an open_clip_config.json's content and the tensors `state`, by default those of the weights `path`,
    on the CPU. Arguments and errors as for `load_folder`."""
    spec = image_spec_of(config, folder / OPEN_CLIP_CONFIG)
    text_config = _own_text_config(config["model_cfg"], folder)
    with ExitStack() as stack:
        # Hash in a separate thread while open_clip is imported and the model is built.
        thread = stack.enter_context(ThreadPoolExecutor(1))
        fingerprint = thread.submit(weights.fingerprint, path, [config, text_config] if text_config else config)
        state = weights.read(path) if state is None else state
        model_cfg = _self_contained(config["model_cfg"], folder, state, path, stack)
        if "logit_bias" in state:
            model_cfg = {"init_logit_bias": 0.0, **model_cfg}
        model: Any = build(model_cfg, folder, custom_text=any(key.startswith("text.") for key in state))
    weights.fill(model, state, path, name, ignored=IGNORED)
    # The length to which open_clip's tokenizer cuts a text.
    context_length = model_cfg["text_cfg"].get("context_length") or _CONTEXT_LENGTH
    tokenizer = _tokenizer(config["model_cfg"]["text_cfg"], folder, repository)
    return FrozenCLIP(
        name=name,
        image=image_tower_of(model.visual),
        text=text_tower_of(model, tokenizer, folder / OPEN_CLIP_CONFIG),
        tokenizer=tokenizer,
        spec=spec,
        embed_dim=model_cfg["embed_dim"],
        context_length=min(context_length, model.context_length or context_length),
        log_logit_scale=float(model.logit_scale.reshape(())),
        logit_bias=float(0 if model.logit_bias is None else model.logit_bias.reshape(())),
        fingerprint=fingerprint.result(),
    )


def _openai_config() -> dict:
    import open_clip

    return {"model_cfg": open_clip.get_model_config(_OPENAI_MODEL), "preprocess_cfg": {}}


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
    kind = open_clip.CustomTextCLIP if custom else open_clip.CLIP
    return weights.built(lambda: kind(**arguments), "open_clip", folder / OPEN_CLIP_CONFIG)


def text_tower_of(model: Any, tokenizer: Tokenizer, path: Path) -> nn.Module:
    """The text tower of a model.

    Raises ModelError if it would not read the tokenizer's texts as open_clip does: a tower of transformers ignores the
    padding that it knows, and one of CLIP's own kind is pooled at a certain token.
    """
    from open_clip.hf_model import MaxPooler

    text = getattr(model, "text", None)
    if text is not None and hasattr(text, "pooler"):
        if isinstance(text.pooler, MaxPooler):  # it fails in open_clip itself
            raise unsupported(path, "hf_pooler_type max_pooler")
        padding = text.config.pad_token_id
        if padding != tokenizer.padding:
            raise unsupported(path, f"a text tower that pads with {padding} and a tokenizer with {tokenizer.padding}")
        return TransformersText(text.transformer, text.pooler, text.proj)
    tower = NativeText(model if text is None else text, tokenizer.padding)
    if tower.pooling == "last":
        return tower
    eos = None  # older versions of open_clip know neither it nor the pooling that needs it
    if tower.pooling != "argmax":
        eos = model.text_eos_id if text is None else text.eos_id
    require_pooling_at_end(tokenizer, eos, path)
    return tower


def _tokenizer(text_cfg: Mapping, folder: Path, repository: Repository | None) -> Tokenizer:
    """The tokenizer that a text_cfg describes. Raises ModelError for tokenizer_kwargs that cannot be followed."""
    path = folder / OPEN_CLIP_CONFIG
    if text_cfg.get("tokenizer_mode"):
        raise ModelError(f"The tokenizer mode {text_cfg['tokenizer_mode']!r} of {folder} is not supported.")
    published_name = text_cfg.get("hf_tokenizer_name") or text_cfg.get("hf_model_name")
    options = {key: value for key, value in (text_cfg.get("tokenizer_kwargs") or {}).items() if value not in _UNSET}
    clean, strips = options.get("clean"), options.get("strip_sep_token", False)
    # How texts that are too long are shortened; here they are an error.
    shortening = ("simple", "random", "shuffle") if not published_name else ()
    for key, value in options.items():
        known = {"clean": CLEANINGS, "reduction_mask": shortening, "strip_sep_token": (True,) if published_name else ()}
        if value not in known.get(key, ()):
            raise unsupported(path, f"text_cfg.tokenizer_kwargs.{key} {value!r}")
    if strips and not text_cfg.get("hf_model_name"):
        raise unsupported(path, "text_cfg.tokenizer_kwargs.strip_sep_token without a text tower of transformers")
    if not published_name:
        native = native_tokenizer(clean or "lower")
        size = len(native.words())
        if text_cfg.get("vocab_size", size) < size:
            raise ModelError(
                f"The text tower of {folder} has {text_cfg['vocab_size']} words but CLIP's tokenizer has {size}: name "
                f"its tokenizer as hf_tokenizer_name in {OPEN_CLIP_CONFIG} and put tokenizer.json beside the weights."
            )
        return native
    tokenizer = transformers_tokenizer(folder, repository, published_name, clean or "whitespace", strips)
    if strips and tokenizer.padding != 0:  # open_clip replaces the token by 0
        raise unsupported(path, f"text_cfg.tokenizer_kwargs.strip_sep_token where {tokenizer.padding} is the padding")
    return tokenizer
