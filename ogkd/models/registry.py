"""Finds a model by name: which files belong to it and which format they have."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ogkd.core.files import did_you_mean
from ogkd.core.garbage import no_collection
from ogkd.models import configurations, sources
from ogkd.models.configurations import OPEN_CLIP_CONFIG, OPENAI_SIZES, OPENAI_SPEC, TRANSFORMERS_CONFIG, ImageSpec
from ogkd.models.errors import ModelError

if TYPE_CHECKING:
    import torch

    from ogkd.models.interface import FrozenCLIP, Report

_BUNDLED = {"PhantomCLIP": Path(__file__).parent / "phantomclip"}
_HUB_PREFIX = "hf-hub:"


class _Format(NamedTuple):
    """A format of model folders; `module` has load_folder and needs PyTorch, so only `load` imports it."""

    module: str
    matches: Callable[[Path], bool]
    image_spec: Callable[[Path], ImageSpec]


_FORMATS = (
    _Format("open_clip_models", lambda folder: (folder / OPEN_CLIP_CONFIG).is_file(), configurations.open_clip_spec),
    _Format("pmc_clip_models", lambda folder: (folder / sources.PMC_WEIGHTS).is_file(), configurations.pmc_spec),
    _Format("transformers_models", configurations.is_transformers_clip, configurations.transformers_spec),
)


def available_models() -> list[str]:
    """The names that `load` accepts, besides folders and "hf-hub:org/name"."""
    return [*sources.HUB_MODELS, *_BUNDLED]


def model_named(word: str) -> str:
    """Return the name in `available_models` that is meant, whatever its case and hyphens; any other word, and that of a
    folder, as it is."""
    if not word or Path(word).is_dir():
        return word
    return {_spelling(name): name for name in available_models()}.get(_spelling(word), word)


def _spelling(name: str) -> str:
    return name.replace("-", "").replace("_", "").casefold()


def load(name: str | Path, device: str | torch.device = "cpu", report: Report | None = None) -> FrozenCLIP:
    """Load a frozen model by name, folder, file in OpenAI's format or "hf-hub:org/name" onto `device`.

    `report(stage, done, total)` is called while files are read. Raises ModelError, in one sentence that says how to
    fix it, if the name is unknown or files are corrupt or do not belong together, and its subclass MissingWeights if
    files are missing and cannot be downloaded.
    """
    name = model_named(str(name))
    repository, folder = _repository(name), locate(name)
    with no_collection():  # the formats import open_clip or transformers, and timm
        if folder.is_file():
            from ogkd.models import openai_models

            model = openai_models.load(name if name in OPENAI_SIZES else folder.stem, folder, report)
        elif repository is sources.OPENAI_CLIP:
            from ogkd.models.open_clip_models import load_openai

            model = load_openai(name, folder, report)
        else:
            module = import_module(f".{_format_of(folder).module}", __package__)
            model = module.load_folder(_title(name), folder, report, repository)
    return model.to(device)


def locate(name: str) -> Path:
    """Return the folder with a model's files, or a file in OpenAI's format; those missing from the cache are
    downloaded. Errors as for `load`."""
    name = model_named(name)
    if _is_openai(name):
        from ogkd.models.openai_models import file_of

        return file_of(name)
    repository = _repository(name)
    return _folder(name) if repository is None else sources.from_hub(repository)


def folder_of(name: str | Path) -> Path | None:
    """Return the folder with a model's files on this machine, or its file; None if they are not downloaded yet.
    ModelError as for `load`."""
    name = model_named(str(name))
    if _is_openai(name):
        return Path(name) if Path(name).is_file() else None
    repository = _repository(name)
    return _folder(name) if repository is None else sources.in_cache(repository)


def image_spec(name: str | Path) -> ImageSpec:
    """Return a model's image size, mean and standard deviation, from its configuration alone; errors as for `load`."""
    name = model_named(str(name))
    if Path(name).is_file():
        from ogkd.models import openai_models

        return openai_models.image_spec(Path(name))
    if name in OPENAI_SIZES:
        return OPENAI_SPEC._replace(size=OPENAI_SIZES[name])
    repository = _repository(name)
    if repository in (sources.OPENAI_CLIP, sources.PMC_CLIP):
        return OPENAI_SPEC
    folder = _folder(name) if repository is None else sources.from_hub(repository, weights=False)
    return _format_of(folder).image_spec(folder)


def _title(name: str) -> str:
    return name if name in available_models() else Path(name.removeprefix(_HUB_PREFIX)).resolve().name


def _is_openai(name: str) -> bool:
    """Whether a name is one of OpenAI's, or a file."""
    return name in OPENAI_SIZES or Path(name).is_file()


def _repository(name: str) -> sources.Repository | None:
    if name.startswith(_HUB_PREFIX):
        return sources.open_clip_repository(name.removeprefix(_HUB_PREFIX))
    return sources.HUB_MODELS.get(name)


def _folder(name: str) -> Path:
    folder = _BUNDLED.get(name, Path(name))
    if folder.is_dir():
        return folder
    if name in _BUNDLED:
        raise ModelError(f"{name}'s folder {folder} is missing: check it out or create it again.")
    near = did_you_mean(name, available_models())
    raise ModelError(
        f'There is no model or folder "{name}"{near}: choose one of {", ".join(available_models())}, a folder with '
        f'{OPEN_CLIP_CONFIG} and weights, or "hf-hub:org/name".'
    )


def _format_of(folder: Path) -> _Format:
    for candidate in _FORMATS:
        if candidate.matches(folder):
            return candidate
    raise ModelError(
        f"The model folder {folder} has no configuration: put {OPEN_CLIP_CONFIG} (open_clip), {TRANSFORMERS_CONFIG} "
        f"(transformers' CLIPModel) or {sources.PMC_WEIGHTS} (PMC-CLIP) into it."
    )
