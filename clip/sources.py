"""Where a model's files are: a folder, the bundled folder, or a repository of the Hugging Face hub (cache first)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from .errors import ModelError

OPEN_CLIP_CONFIG = "open_clip_config.json"
TRANSFORMERS_CONFIG = "config.json"
BIOMEDCLIP = "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224"
OPENAI_CLIP = "timm/vit_base_patch16_clip_224.openai"
PUBMEDCLIP = "flaviagiammarino/pubmed-clip-vit-base-patch32"

OPEN_CLIP_WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
TRANSFORMERS_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
)

_CONNECT_SECONDS = 5


class Files(NamedTuple):
    """What a repository is asked for: `required`, the first of `weights` that it has, and what it has of `optional`."""

    required: tuple[str, ...]
    weights: tuple[str, ...]
    optional: tuple[str, ...] = TOKENIZER_FILES


OPEN_CLIP_FILES = Files((OPEN_CLIP_CONFIG,), OPEN_CLIP_WEIGHTS, (*TOKENIZER_FILES, TRANSFORMERS_CONFIG))
OPENAI_FILES = Files((), OPEN_CLIP_WEIGHTS, ())
TRANSFORMERS_FILES = Files((TRANSFORMERS_CONFIG,), TRANSFORMERS_WEIGHTS)


def read_json(path: Path) -> dict:
    """A configuration file's object. Raises ModelError, naming the file, when it cannot be read as one."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"The configuration {path} is not readable JSON: replace it by a complete copy.") from error
    if not isinstance(content, dict):
        raise ModelError(f"The configuration {path} is not a JSON object: replace it by a complete copy.")
    return content


def first_file(folder: Path, names: Sequence[str]) -> Path | None:
    """The first of the names that is a file of the folder."""
    return next((folder / name for name in names if (folder / name).is_file()), None)


def weights_in(folder: Path, names: Sequence[str]) -> Path:
    """The folder's weights file. Raises ModelError when it has none of the names."""
    path = first_file(folder, names)
    if path is None:
        raise ModelError(f"The model folder {folder} has no weights: put {' or '.join(names)} into it.")
    return path


def from_hub(repository: str, files: Files, revision: str | None = None, weights: bool = True) -> Path:
    """Folder of the hub's cache with a repository's files, fetched where the cache lacks them.

    Without `weights` only configuration is looked for. Raises ModelError when something is missing and the hub is out
    of reach: it says what is missing, where to put it, and which command fetches it.
    """
    from huggingface_hub import try_to_load_from_cache

    def cached(name: str) -> Path | None:
        found = try_to_load_from_cache(repository, name, revision=revision)
        return Path(found) if isinstance(found, str) else None

    needed = [(name,) for name in files.required] + ([files.weights] if weights else [])
    folder = None
    for names in needed:
        path = next(filter(None, map(cached, names)), None)
        if path is None:
            return _fetch(repository, files, revision, weights)
        folder = path.parent
    return folder if folder is not None else _fetch(repository, files, revision, weights)


def _fetch(repository: str, files: Files, revision: str | None, weights: bool) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    def fetch(name: str) -> Path | None:
        try:
            return Path(hf_hub_download(repository, name, revision=revision, etag_timeout=_CONNECT_SECONDS))
        except LocalEntryNotFoundError:  # the hub is out of reach: the cache has no such file either
            raise
        except EntryNotFoundError:
            return None

    try:
        found = [fetch(name) for name in files.required]
        if weights:
            found += [next(filter(None, map(fetch, files.weights)), None), *map(fetch, files.optional)]
    except (OSError, HfHubHTTPError, ValueError) as error:
        missing = [*files.required, " or ".join(files.weights)] if weights else list(files.required)
        raise ModelError(
            f"The files of {repository} ({', '.join(missing)}) are not on this machine and the hub cannot be reached: "
            "run `python scripts/download.py weights` where there is a network, or put them and the tokenizer's files "
            "into a folder and name it (BACKBONE=path or --backbone path)."
        ) from error
    present = [path for path in found if path is not None]
    if not present:
        raise ModelError(f"The repository {repository} has none of {', '.join(files.required + files.weights)}.")
    return present[0].parent


def is_transformers_clip(config: Mapping) -> bool:
    return config.get("model_type") == "clip"
