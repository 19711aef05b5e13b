"""Finds a model by name and fetches it: in a folder, or in a Hugging Face repository (its cache first)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

from ogkd.core.files import did_you_mean
from ogkd.core.network import Trouble, trouble
from ogkd.models import checkpoints, configurations
from ogkd.models.configurations import OPEN_CLIP_CONFIG, OPENAI_SIZES, OPENAI_SPEC, TRANSFORMERS_CONFIG, ImageSpec
from ogkd.models.errors import MissingWeights, ModelError
from ogkd.models.named import (
    HUB,
    OPEN_CLIP_WEIGHTS,
    PMC_WEIGHTS,
    SOURCE,
    TOKENIZER_FILES,
    TRANSFORMERS_WEIGHTS,
    VOCABULARIES,
    NamedModel,
    Repository,
    named_model,
    named_models,
    spelling,
)

if TYPE_CHECKING:
    import torch

    from ogkd.models.interface import FrozenCLIP

_BUNDLED = {"PhantomCLIP": Path(__file__).parent / "phantomclip"}
_HUB_PREFIX = "hf-hub:"
_ON_HUB = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_CONNECT_SECONDS = 5

BIOMEDCLIP, OPENAI_CLIP, PMC_CLIP = (named_models()[name].on_hub() for name in ("BiomedCLIP", "CLIP", "PMC-CLIP"))


# By name


def available_models() -> list[str]:
    """The names that `load` accepts, besides folders and "org/name" on the hub."""
    return [*(one.name for one in named_models().values() if one.repository and not one.unsupported), *_BUNDLED]


def model_named(word: str) -> str:
    """Return the name here that is meant, whatever its case and hyphens; "hf-hub:org/name" for "org/name", unless that
    is a file or folder; any other word as it is."""
    if not word or Path(word).exists() or word in OPENAI_SIZES:
        return word
    by_spelling = {spelling(name): name for name in (*named_models(), *_BUNDLED)}
    if spelling(word) in by_spelling:
        return by_spelling[spelling(word)]
    return _HUB_PREFIX + word if _ON_HUB.fullmatch(word) else word


def facts_of(name: str | Path) -> NamedModel | None:
    """The facts about a model, given its name, its repository, or a folder that `ogkd download` or `ogkd convert`
    wrote."""
    record = _record(Path(name))
    return named_model(str(record.get("name") or name).removeprefix(_HUB_PREFIX))


def revision_of(name: str | Path) -> str | None:
    """The commit of the hub from which a model's files come: the pinned one, else that of the files on this machine, if
    it is known."""
    facts = named_models().get(str(name))
    if facts and facts.revision:
        return facts.revision
    try:
        folder = folder_of(name)
    except ModelError:  # a folder that is gone
        return None
    if folder is None:
        return None
    return folder.name if folder.parent.name == "snapshots" else _record(folder).get("revision")


def _record(folder: Path) -> dict:
    path = folder / SOURCE
    return configurations.read_json(path, {"name": str, "revision?": (str, None)}) if path.is_file() else {}


def load(name: str | Path, device: str | torch.device = "cpu") -> FrozenCLIP:
    """Load a frozen model by name, folder, file in OpenAI's format or "hf-hub:org/name" (or "org/name") onto `device`.

    Raises ModelError, in one sentence that says how to fix it, if the name is unknown or files are corrupt or do not
    belong together, and its subclass MissingWeights if files are missing and cannot be downloaded.
    """
    name = model_named(str(name))
    repository, folder = _repository(name), locate(name)
    title = name if name in available_models() else Path(name.removeprefix(_HUB_PREFIX)).resolve().name
    if folder.is_file():
        return _openai().load(name if name in OPENAI_SIZES else folder.stem, folder).to(device)
    module = import_module(f"{__package__}.{_format_of(folder, repository).module}")
    return module.load_folder(title, folder, repository).to(device)


def locate(name: str | Path) -> Path:
    """Return the folder with a model's files, or a file in OpenAI's format; those missing from the cache are
    downloaded. Errors as for `load`."""
    repository = _repository(name := model_named(str(name)))
    if _is_openai(name):
        return _openai().file_of(name)
    return _folder(name) if repository is None else from_hub(repository)


def folder_of(name: str | Path) -> Path | None:
    """Return the folder with a model's files on this machine, or its file; None if they are not downloaded yet.
    ModelError as for `load`."""
    repository = _repository(name := model_named(str(name)))
    if _is_openai(name):
        return Path(name) if Path(name).is_file() else None
    return _folder(name) if repository is None else _in_cache(repository, _wanted(repository))


def image_spec(name: str | Path) -> ImageSpec:
    """Return a model's image size, mean and standard deviation, from its configuration alone; errors as for `load`."""
    repository = _repository(name := model_named(str(name)))
    if _is_openai(name):
        size = OPENAI_SIZES.get(name)
        return OPENAI_SPEC._replace(size=size) if size else _openai().image_spec(Path(name))
    if repository in (OPENAI_CLIP, PMC_CLIP):
        return OPENAI_SPEC
    if repository and repository.checkpoint:
        return checkpoints.image_spec(repository.checkpoint)
    folder = _folder(name) if repository is None else from_hub(repository, weights=False)
    return _format_of(folder).image_spec(folder)


def _is_openai(name: str) -> bool:
    """Whether a name is one of OpenAI's, or a file."""
    return name in OPENAI_SIZES or Path(name).is_file()


def _openai() -> ModuleType:
    return import_module(f"{__package__}.openai_models")  # with PyTorch


def _repository(name: str) -> Repository | None:
    """The hub's repository of a model. Raises ModelError for a name that is not valid on the hub."""
    if not name.startswith(_HUB_PREFIX):
        facts = named_models().get(name)
        return facts.on_hub() if facts and (name in available_models() or not Path(name).is_dir()) else None
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    name = name.removeprefix(_HUB_PREFIX)
    try:
        validate_repo_id(name)
        _organisation, _name = name.split("/")
    except (HFValidationError, ValueError) as error:
        raise ModelError(f'"{name}" is not the name of a hub repository: write it as "hf-hub:org/name".') from error
    facts = named_model(name)
    if facts and facts.format in ("checkpoint", "keep", ""):  # whose files a general look would not understand
        return facts.on_hub()
    return Repository(
        name,
        (),
        (*OPEN_CLIP_WEIGHTS, *TRANSFORMERS_WEIGHTS),
        (*TOKENIZER_FILES, TRANSFORMERS_CONFIG),
        # In transformers' format a model's images are described in a second file.
        choices=((OPEN_CLIP_CONFIG, TRANSFORMERS_CONFIG), (OPEN_CLIP_CONFIG, *configurations.PROCESSORS)),
    )


def _folder(name: str) -> Path:
    folder = _BUNDLED.get(name, Path(name))
    if folder.is_dir():
        return folder
    near = did_you_mean(name, available_models())
    raise ModelError(
        f'There is no model or folder "{name}"{near}: choose one of {", ".join(available_models())}, a folder with '
        f'{OPEN_CLIP_CONFIG} and weights, or "org/name" of a repository on the hub.'
    )


# In a folder


class _Format(NamedTuple):
    """A format of model folders; `module` has load_folder and needs PyTorch, so only `load` imports it."""

    module: str
    matches: Callable[[Path], bool]
    image_spec: Callable[[Path], ImageSpec]


_FORMATS = (
    _Format("open_clip_models", lambda folder: (folder / OPEN_CLIP_CONFIG).is_file(), configurations.open_clip_spec),
    _Format("pmc_clip_models", lambda folder: (folder / PMC_WEIGHTS).is_file(), configurations.pmc_spec),
    _Format("keep_models", lambda folder: configurations.model_type(folder) == "keep", configurations.keep_spec),
    _Format("transformers_models", configurations.is_transformers_clip, configurations.transformers_spec),
)


def _format_of(folder: Path, repository: Repository | None = None) -> _Format:
    if repository == OPENAI_CLIP or (repository and repository.checkpoint):  # weights alone
        return _FORMATS[0]
    for candidate in _FORMATS:
        if candidate.matches(folder):
            return candidate
    if kind := configurations.model_type(folder):
        raise ModelError(other_kind(folder, kind))
    raise ModelError(
        f"The model folder {folder} has no configuration: put {OPEN_CLIP_CONFIG} (open_clip), {TRANSFORMERS_CONFIG} "
        f"(transformers' CLIPModel) or {PMC_WEIGHTS} (PMC-CLIP) into it."
    )


def other_kind(folder: Path, kind: str) -> str:
    """Why a model of transformers of a kind that is none of ours is refused."""
    if kind == "siglip2":
        return (
            f"The model in {folder} is a SigLIP 2 of variable image size (model_type siglip2), which is not supported: "
            "choose one of a fixed size, such as SigLIP2-B-16 or google/siglip2-base-patch16-224."
        )
    return (
        f"The model in {folder} is of transformers' model_type {kind}, which is not supported: choose one of "
        "model_type clip or siglip, or one in open_clip's format."
    )


def first_file(folder: Path, names: Sequence[str]) -> Path | None:
    """The first of `names` that is a file in the folder."""
    return next((folder / name for name in names if (folder / name).is_file()), None)


def weights_in(folder: Path, names: Sequence[str]) -> Path:
    """The folder's weights file. Raises ModelError when it has none of `names`."""
    path = first_file(folder, names)
    if path is None:
        if index := first_file(folder, [f"{name}.index.json" for name in names]):
            raise ModelError(
                f"The weights in {folder} are in several files ({index.name}), which is not supported: save the model "
                'there again with save_pretrained(..., max_shard_size="100GB"), which makes one file.'
            )
        raise ModelError(f"The model folder {folder} has no weights: put {' or '.join(names)} into it.")
    return path


# On the hub


def from_hub(repository: Repository, weights: bool = True) -> Path:
    """Return the folder in the hub's cache with a repository's files, downloading what is missing.

    Without `weights`, only the required files are looked for. Raises MissingWeights if files are missing and cannot be
    downloaded.
    """
    wanted = _wanted(repository, weights)
    return _in_cache(repository, wanted) or _fetch(repository, wanted, repository.optional if weights else ())


def tokenizer_folder(repository: Repository) -> Path:
    """The folder with a model's tokenizer, when the files downloaded so far do not include one. As from_hub."""
    files = (), VOCABULARIES, (*TOKENIZER_FILES, TRANSFORMERS_CONFIG)
    if repository.tokenizer is not None:
        return from_hub(Repository(repository.tokenizer, *files))
    return from_hub(Repository(repository.name, *files, revision=repository.revision, kind=repository.kind))


def _wanted(repository: Repository, weights: bool = True) -> list[tuple[str, ...]]:
    """The files of a repository that are needed, each by the names that it may have."""
    required = [(name,) for name in repository.required]
    return [*required, *repository.choices, *([repository.weights] if weights else [])]


def _in_cache(repository: Repository, wanted: Sequence[Sequence[str]]) -> Path | None:
    """The folder in the hub's cache, if it has every wanted file."""
    paths = [cached(repository, names) for names in wanted]
    return None if None in paths else next(path.parent for path in paths if path)


def cached(repository: Repository, names: Sequence[str], cache: Path | None = None) -> Path | None:
    """The first of `names` that the hub's cache has; `cache` replaces the default one."""
    from huggingface_hub import try_to_load_from_cache

    place: Any = {"revision": repository.revision, "repo_type": repository.kind, "cache_dir": cache}
    paths = (try_to_load_from_cache(repository.name, name, **place) for name in names)
    return next((Path(path) for path in paths if isinstance(path, str)), None)


def download(repository: Repository, name: str, cache: Path | None = None, endpoint: str | None = None) -> bool:
    """Download a file to the hub's cache; whether the repository has it. Passes on the errors of the hub's client."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    place: Any = {"revision": repository.revision, "repo_type": repository.kind, "cache_dir": cache}
    try:
        hf_hub_download(repository.name, name, endpoint=endpoint, **place)
    except LocalEntryNotFoundError:  # the hub did not say that there is no such file
        raise
    except EntryNotFoundError:
        return False
    return True


def refusal(repository: Repository, error: BaseException) -> Trouble:
    """Why the hub does not give a repository, and what to do: where to ask for access, or that it may have moved."""
    reason, mend = trouble(error)
    facts, gated = named_model(repository.name), "Gated" in type(error).__name__
    page = facts.card if facts else f"{HUB}{repository.name}"
    if gated or (facts and facts.gated and ("401" in reason or "403" in reason)):
        return Trouble(
            f"{reason}, since it is gated",
            f"ask for access on {page} with an account of the hub, and set HF_TOKEN to a token of that account (or run "
            "`hf auth login`)",
        )
    if facts and ("401" in reason or "404" in reason):
        token = ", or the token that is set may be wrong" if "401" in reason else ""
        return Trouble(
            reason, f"look at {page}, since it may have been renamed (give its new org/name) or removed{token}"
        )
    return Trouble(reason, mend)


def _fetch(repository: Repository, wanted: Sequence[Sequence[str]], optional: Sequence[str]) -> Path:
    from huggingface_hub import constants, get_session

    def lacking() -> str:
        return ", ".join(" or ".join(names) for names in wanted if cached(repository, names) is None)

    try:
        # The hub's own client retries for half a minute before it gives up on a machine without a network.
        get_session().head(constants.ENDPOINT, timeout=_CONNECT_SECONDS)
    except Exception as error:  # the class depends on which HTTP library the hub's client uses
        reason, mend = trouble(error, "run this once where there is a network")
        raise MissingWeights(
            f"The hub's cache on this machine lacks {lacking()} of {repository.name}, and the hub cannot be "
            f"reached ({reason}): {mend}, or put the repository's files into a folder and "
            "give that folder instead of the name.",
            repository.name,
        ) from error
    try:
        for names in wanted:
            any(download(repository, name) for name in names)
        for name in optional:
            download(repository, name)
    except Exception as error:  # as above
        reason, mend = refusal(repository, error)
        unsure = len(repository.choices) > 1 and "403" not in reason and "gated" not in reason
        no_folder = ", and there is no folder of that name here" if unsure else ""
        raise MissingWeights(
            f"{lacking()} of {repository.name} cannot be downloaded from the hub ({reason}){no_folder}: {mend}, "
            "and run the same command again.",
            repository.name,
        ) from error
    folder = _in_cache(repository, wanted)
    if folder is None:
        raise MissingWeights(
            f"The hub repository {repository.name} has no {lacking()}: choose another repository, or "
            "put the model into a folder, add that file and give the folder instead of the name.",
            repository.name,
        )
    return folder
