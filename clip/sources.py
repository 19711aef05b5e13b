"""Where a model's files are: a folder, the bundled folder, or a repository of the Hugging Face hub (cache first)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from .errors import ModelError

OPEN_CLIP_CONFIG = "open_clip_config.json"
TRANSFORMERS_CONFIG = "config.json"
PMC_WEIGHTS = "checkpoint.pt"

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


class Repository(NamedTuple):
    """A repository of the hub, and what is wanted of it: all of `required`, the first of `weights` that it has, and
    what it has of `optional`. A `revision` pins it to one commit, so that its weights cannot change unseen."""

    name: str
    required: tuple[str, ...]
    weights: tuple[str, ...]
    optional: tuple[str, ...] = ()
    revision: str | None = None
    kind: str | None = None
    command: str | None = None


def open_clip_repository(name: str, revision: str | None = None, command: str | None = None) -> Repository:
    """A repository in open_clip's format, "org/name". Raises ModelError for a name that the hub cannot have."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
        _organisation, _name = name.split("/")
    except (HFValidationError, ValueError) as error:
        raise ModelError(f'"{name}" names no repository of the hub: write it as "hf-hub:org/name".') from error
    optional = (*TOKENIZER_FILES, TRANSFORMERS_CONFIG)
    return Repository(name, (OPEN_CLIP_CONFIG,), OPEN_CLIP_WEIGHTS, optional, revision, command=command)


BIOMEDCLIP = open_clip_repository(
    "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
    revision="9f341de24bfb00180f1b847274256e9b65a3a32e",
    command="python scripts/download.py weights",
)
OPENAI_CLIP = Repository("timm/vit_base_patch16_clip_224.openai", (), OPEN_CLIP_WEIGHTS)
PUBMEDCLIP = Repository(
    "flaviagiammarino/pubmed-clip-vit-base-patch32",
    (TRANSFORMERS_CONFIG, "preprocessor_config.json"),
    TRANSFORMERS_WEIGHTS,
    TOKENIZER_FILES,
    revision="26c0c67f6da303ad2a38909130bd35744ea93517",
)
PMC_CLIP = Repository("axiong/pmc_oa", (), (PMC_WEIGHTS,), kind="dataset")


def first_line(error: Exception) -> str:
    """An error's first line, short enough for a sentence."""
    return str(error).strip().split("\n")[0].rstrip(".")[:120] or type(error).__name__


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


def from_hub(repository: Repository, weights: bool = True) -> Path:
    """Folder of the hub's cache with a repository's files, fetched where the cache lacks them.

    Without `weights` only configuration is looked for. Raises ModelError when something is missing and the hub is out
    of reach: it says what is missing, where to put it, and which command fetches it.
    """
    from huggingface_hub import try_to_load_from_cache

    def cached(name: str) -> Path | None:
        found = try_to_load_from_cache(repository.name, name, revision=repository.revision, repo_type=repository.kind)
        return Path(found) if isinstance(found, str) else None

    wanted = [(name,) for name in repository.required]
    if weights:
        wanted.append(repository.weights)
    found = [next(filter(None, map(cached, names)), None) for names in wanted]
    missing = [" or ".join(names) for names, path in zip(wanted, found, strict=True) if path is None]
    if missing:
        return _fetch(repository, weights, missing)
    return found[0].parent


def _fetch(repository: Repository, weights: bool, missing: Sequence[str]) -> Path:
    from huggingface_hub import constants, get_session, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    def download(name: str) -> Path | None:
        try:
            path = hf_hub_download(repository.name, name, revision=repository.revision, repo_type=repository.kind)
        except EntryNotFoundError:
            return None
        return Path(path)

    try:
        # The hub's own client tries again for half a minute before it gives up on a machine without a network.
        get_session().head(constants.ENDPOINT, timeout=_CONNECT_SECONDS)
    except Exception as error:  # of either of the hub's two HTTP libraries, by its version
        command = f"run `{repository.command}`" if repository.command else "run this once"
        raise ModelError(
            f"The hub's cache on this machine lacks {', '.join(missing)} of {repository.name}, and the hub cannot be "
            f"reached: {command} where there is a network, or put a model's configuration, weights and tokenizer into "
            "a folder and name that (BACKBONE=path or --backbone path)."
        ) from error
    try:
        found = [download(name) for name in repository.required]
        if weights:
            found.append(next(filter(None, map(download, repository.weights)), None))
            found += [path for path in map(download, repository.optional) if path]
    except Exception as error:  # as above
        raise ModelError(
            f"The hub does not give {', '.join(missing)} of {repository.name} ({first_line(error)}): check the "
            "name and the network, and run this again."
        ) from error
    if None in found:
        raise ModelError(f"The repository {repository.name} lacks {', '.join(missing)}: name another one.")
    return found[0].parent


def is_transformers_clip(folder: Path) -> bool:
    """Whether the folder's config.json is a transformers CLIPModel's."""
    path = folder / TRANSFORMERS_CONFIG
    return path.is_file() and read_json(path).get("model_type") == "clip"
