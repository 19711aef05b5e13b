"""OpenAI's CLIP models under OpenAI's names ("ViT-B/16") or as files in their format.

A file is a TorchScript archive, as published, or a state dict. Nothing in it is run.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ogkd.core.files import atomic_path
from ogkd.core.hashes import file_sha256
from ogkd.core.network import trouble
from ogkd.models import open_clip_models, weights
from ogkd.models.checkpoints import sizes
from ogkd.models.configurations import OPENAI_SPEC, ImageSpec
from ogkd.models.errors import ModelError, OpenAIError
from ogkd.models.interface import FrozenCLIP
from ogkd.models.openai_archive import is_archive, read_archive
from ogkd.models.tokenizers import native_tokenizer
from ogkd.models.towers import image_tower_of

CACHE = Path("~/.cache/clip")
"""OpenAI's own cache."""
_OPEN_CLIP_NAMES = {"ViT-L/14@336px": "ViT-L-14-336"}
SIZES = ("input_resolution", "context_length", "vocab_size")
"""Buffers of the archives that are no weights."""


def load(name: str, path: Path) -> FrozenCLIP:
    """Load the model of a file in OpenAI's format, in fp32, on the CPU. Raises ModelError if it has another format."""
    state = {key: value.float() for key, value in read(path).items() if key not in SIZES}
    config = config_of(state)
    model: Any = open_clip_models.build(config, path)
    weights.fill(model, state, path, name)
    tokenizer = native_tokenizer("lower")
    return FrozenCLIP(
        name=name,
        image=image_tower_of(model.visual),
        text=open_clip_models.text_tower_of(model, tokenizer, path),
        tokenizer=tokenizer,
        spec=OPENAI_SPEC._replace(size=config["vision_cfg"]["image_size"]),
        embed_dim=config["embed_dim"],
        context_length=config["text_cfg"]["context_length"],
        log_logit_scale=float(model.logit_scale),
        fingerprint=weights.fingerprint(path, config),
    )


def image_spec(path: Path) -> ImageSpec:
    """The image size and normalisation of a file's model."""
    return OPENAI_SPEC._replace(size=config_of(read(path, only_shapes=True))["vision_cfg"]["image_size"])


def config_of(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """open_clip's model_cfg of a state dict in OpenAI's format. Raises ModelError if the state dict is of another."""
    try:
        return {**sizes(state), "quick_gelu": True}
    except KeyError as error:
        raise not_openai(f"it lacks {error.args[0]}") from None


def not_openai(reason: str) -> ModelError:
    return OpenAIError(f"The weights are not those of a CLIP in OpenAI's format ({reason}): use a file that holds one.")


# Files


def download(url: str, folder: Path) -> Path:
    """Return the file in `folder` of an address .../<SHA-256>/<name>, downloading it unless an intact copy is there.

    A file appears under its name only if its SHA-256 matches. Raises ModelError if it cannot be downloaded or written.
    """
    *_, expected, name = url.split("/")
    target = folder / name
    if not re.fullmatch(r"[0-9a-f]{64}", expected):
        raise OpenAIError(
            f"The address {url} has no SHA-256 to check {name} against: download it yourself and give the path."
        )
    if target.is_file():
        if file_sha256(target) == expected:
            return target
        warnings.warn(f"{target} is not the published file (its SHA-256 differs), so it is replaced.", stacklevel=3)
    try:
        from huggingface_hub.file_download import http_get

        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(target) as temporary:
            with open(temporary, "wb") as file:
                http_get(url, file, displayed_filename=name)
            if file_sha256(temporary) != expected:
                raise OpenAIError(
                    f"{url} did not send the published {name} (its SHA-256 differs): try again, or put an intact copy "
                    f"at {target}."
                )
    except ModelError:
        raise
    except Exception as error:  # the class depends on which HTTP library the hub's client uses
        reason, mend = trouble(error)
        raise OpenAIError(
            f"{name} cannot be downloaded from {url} to {folder} ({reason}): {mend}, or put an intact copy at {target}."
        ) from error
    return target


def read(path: Path, only_shapes: bool = False) -> dict[str, Tensor]:
    """Return the tensors of a file in OpenAI's format: of a state dict in fp32, of an archive as they are saved.

    `only_shapes` may leave them on the meta device. Raises ModelError if the file is corrupt.
    """
    return read_archive(path, only_shapes) if is_archive(path) else weights.read(path)


def file_of(name: str) -> Path:
    """The file of a model with one of OpenAI's names, downloaded unless it is in OpenAI's cache; `name` itself if it is
    a file. Raises ModelError if it cannot be downloaded."""
    return Path(name) if Path(name).is_file() else download(address(name), CACHE.expanduser())


def address(name: str) -> str:
    """The address of a model that OpenAI published."""
    from open_clip import get_pretrained_url

    return get_pretrained_url(_OPEN_CLIP_NAMES.get(name, name.replace("/", "-")), "openai")
