"""Locates a model's files: in a folder or in a Hugging Face repository (first its cache, then the network)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, cast

from ogkd.core.network import trouble
from ogkd.models.configurations import OPEN_CLIP_CONFIG, TRANSFORMERS_CONFIG
from ogkd.models.errors import MissingWeights, ModelError

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
VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json")
"""Files that define a tokenizer; any one of them is enough."""

_CONNECT_SECONDS = 5


class Repository(NamedTuple):
    """A repository of the hub and the files to take from it.

    These are all of `required`, the first of `weights` that exists, and those of `optional` that exist. `revision` pins
    one commit, so that the weights cannot change unnoticed. `kind` is the hub's repo_type. `tokenizer` is the
    repository to use if this one has no tokenizer; by default this one itself.
    """

    name: str
    required: tuple[str, ...]
    weights: tuple[str, ...]
    optional: tuple[str, ...] = ()
    revision: str | None = None
    kind: str | None = None
    tokenizer: str | None = None


BIOMEDCLIP = Repository(
    "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
    (OPEN_CLIP_CONFIG,),
    OPEN_CLIP_WEIGHTS,
    (*TOKENIZER_FILES, TRANSFORMERS_CONFIG),
    revision="9f341de24bfb00180f1b847274256e9b65a3a32e",
    tokenizer="microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract",
)
OPENAI_CLIP = Repository("timm/vit_base_patch16_clip_224.openai", (), OPEN_CLIP_WEIGHTS)
PUBMEDCLIP = Repository(
    "flaviagiammarino/pubmed-clip-vit-base-patch32",
    (TRANSFORMERS_CONFIG, "preprocessor_config.json"),
    TRANSFORMERS_WEIGHTS,
    TOKENIZER_FILES,
    revision="26c0c67f6da303ad2a38909130bd35744ea93517",
)
PMC_CLIP = Repository(
    "axiong/pmc_oa",
    (),
    (PMC_WEIGHTS,),
    kind="dataset",
    tokenizer="microsoft/BiomedNLP-PubMedBERT-base-uncased-abstract-fulltext",
)
HUB_MODELS = {"BiomedCLIP": BIOMEDCLIP, "CLIP": OPENAI_CLIP, "PubMedCLIP": PUBMEDCLIP, "PMC-CLIP": PMC_CLIP}
"""The models that have a short name here."""


def open_clip_repository(name: str) -> Repository:
    """The repository "org/name" in open_clip's format. Raises ModelError for a name that is not valid on the hub."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
        _organisation, _name = name.split("/")
    except (HFValidationError, ValueError) as error:
        raise ModelError(f'"{name}" is not the name of a hub repository: write it as "hf-hub:org/name".') from error
    return Repository(name, (OPEN_CLIP_CONFIG,), OPEN_CLIP_WEIGHTS, (*TOKENIZER_FILES, TRANSFORMERS_CONFIG))


def tokenizer_repository(repository: Repository) -> Repository:
    """Return the repository with a model's tokenizer when the files downloaded so far do not include one."""
    files = (), VOCABULARIES, (*TOKENIZER_FILES, TRANSFORMERS_CONFIG)
    if repository.tokenizer is not None:
        return Repository(repository.tokenizer, *files)
    return Repository(repository.name, *files, revision=repository.revision, kind=repository.kind)


def first_file(folder: Path, names: Sequence[str]) -> Path | None:
    """The first of `names` that is a file in the folder."""
    return next((folder / name for name in names if (folder / name).is_file()), None)


def weights_in(folder: Path, names: Sequence[str]) -> Path:
    """The folder's weights file. Raises ModelError when it has none of `names`."""
    path = first_file(folder, names)
    if path is None:
        raise ModelError(f"The model folder {folder} has no weights: put {' or '.join(names)} into it.")
    return path


def from_hub(repository: Repository, weights: bool = True) -> Path:
    """Return the folder in the hub's cache with a repository's files, downloading what is missing.

    Without `weights`, only the required files are looked for. Raises MissingWeights if files are missing and cannot be
    downloaded.
    """
    found = _cached(repository, weights)
    if None in found:
        wanted = _wanted(repository, weights)
        return _fetch(repository, wanted, _lacking(wanted, found), repository.optional if weights else ())
    return cast(Path, found[0]).parent


def in_cache(repository: Repository) -> Path | None:
    """Return the folder in the hub's cache with a repository's files; None if they are not downloaded yet."""
    found = _cached(repository, weights=True)
    return None if None in found else cast(Path, found[0]).parent


def _wanted(repository: Repository, weights: bool) -> list[tuple[str, ...]]:
    return [*((name,) for name in repository.required), *([repository.weights] if weights else [])]


def _cached(repository: Repository, weights: bool) -> list[Path | None]:
    """Return the cached path of each wanted file, or None."""
    from huggingface_hub import try_to_load_from_cache

    def cached(name: str) -> Path | None:
        found = try_to_load_from_cache(repository.name, name, revision=repository.revision, repo_type=repository.kind)
        return Path(found) if isinstance(found, str) else None

    return [next(filter(None, map(cached, names)), None) for names in _wanted(repository, weights)]


def _lacking(wanted: Sequence[Sequence[str]], found: Sequence[Path | None]) -> str:
    return ", ".join(" or ".join(names) for names, path in zip(wanted, found, strict=True) if path is None)


def _fetch(repository: Repository, wanted: Sequence[Sequence[str]], missing: str, optional: Sequence[str]) -> Path:
    from huggingface_hub import constants, get_session, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    def download(name: str) -> Path | None:
        try:
            path = hf_hub_download(repository.name, name, revision=repository.revision, repo_type=repository.kind)
        except LocalEntryNotFoundError:  # the hub did not say that there is no such file
            raise
        except EntryNotFoundError:
            return None
        return Path(path)

    try:
        # The hub's own client retries for half a minute before it gives up on a machine without a network.
        get_session().head(constants.ENDPOINT, timeout=_CONNECT_SECONDS)
    except Exception as error:  # the class depends on which HTTP library the hub's client uses
        reason, mend = trouble(error, "run this once where there is a network")
        raise MissingWeights(
            f"The hub's cache on this machine lacks {missing} of {repository.name}, and the hub cannot be "
            f"reached ({reason}): {mend}, or put the model's configuration, weights and tokenizer into a folder and "
            "give that folder instead of the name.",
            repository.name,
        ) from error
    try:
        found = [next(filter(None, map(download, names)), None) for names in wanted]
        for name in optional:
            download(name)
    except Exception as error:  # as above
        reason, mend = trouble(error)
        raise MissingWeights(
            f"{missing} of {repository.name} cannot be downloaded from the hub ({reason}): {mend}, "
            "and run the same command again.",
            repository.name,
        ) from error
    if None in found:
        raise MissingWeights(
            f"The hub repository {repository.name} has no {_lacking(wanted, found)}: choose another repository, or "
            "put the model into a folder, add that file and give the folder instead of the name.",
            repository.name,
        )
    return cast(Path, found[0]).parent
