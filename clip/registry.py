"""From a name to a model: which files belong to it and which format they have."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import torch

from . import open_clip_models, pmc_clip_models, sources, transformers_models
from .errors import ModelError
from .interface import FrozenCLIP, ImageSpec, Report

_HUB = {
    "BiomedCLIP": sources.BIOMEDCLIP,
    "CLIP": sources.OPENAI_CLIP,
    "PubMedCLIP": sources.PUBMEDCLIP,
    "PMC-CLIP": sources.PMC_CLIP,
}
_BUNDLED = {"PhantomCLIP": Path(__file__).parent / "phantomclip"}
_HUB_PREFIX = "hf-hub:"


def available_models() -> list[str]:
    """Names that `load` knows, beside folders and "hf-hub:org/name"."""
    return [*_HUB, *_BUNDLED]


def load(name: str | Path, device: str | torch.device = "cpu", report: Report | None = None) -> FrozenCLIP:
    """A frozen model by name, folder or "hf-hub:org/name", on `device`.

    `report(stage, done, total)` is called while files are read. Raises ModelError, in one sentence with the mend, when
    the name is unknown, files are missing and cannot be fetched, or they are damaged or not each other's.
    """
    name = str(name)
    folder = _folder(name, weights=True)
    if name == "CLIP":
        model = open_clip_models.load_folder(name, folder, report, config=open_clip_models.openai_config())
    else:
        model = _format_of(folder).load_folder(_title(name), folder, report)
    return model.to(device)


def image_spec(name: str | Path) -> ImageSpec:
    """Image size, mean and standard deviation that a model wants, from its configuration alone; errors as `load`'s."""
    name = str(name)
    if name == "CLIP":
        return open_clip_models.spec_of(open_clip_models.openai_config())
    if name == "PMC-CLIP":
        return pmc_clip_models.published_spec()
    folder = _folder(name, weights=False)
    return _format_of(folder).folder_spec(folder)


def _title(name: str) -> str:
    return name if name in available_models() else Path(name.removeprefix(_HUB_PREFIX)).resolve().name


def _folder(name: str, weights: bool) -> Path:
    if name in _HUB:
        return sources.from_hub(_HUB[name], weights)
    if name.startswith(_HUB_PREFIX):
        return sources.from_hub(sources.open_clip_repository(name.removeprefix(_HUB_PREFIX)), weights)
    if name in _BUNDLED:
        if not _BUNDLED[name].is_dir():
            raise ModelError(f"{name}'s folder {_BUNDLED[name]} is absent: check it out again or make it anew.")
        return _BUNDLED[name]
    folder = Path(name)
    if not folder.is_dir():
        raise ModelError(
            f'There is no model or folder "{name}": take one of {", ".join(available_models())}, a folder with '
            f'{sources.OPEN_CLIP_CONFIG} and weights, or "hf-hub:org/name".'
        )
    return folder


def _format_of(folder: Path) -> ModuleType:
    if (folder / sources.OPEN_CLIP_CONFIG).is_file():
        return open_clip_models
    if (folder / sources.PMC_WEIGHTS).is_file():
        return pmc_clip_models
    if sources.is_transformers_clip(folder):
        return transformers_models
    raise ModelError(
        f"The model folder {folder} has no configuration: put {sources.OPEN_CLIP_CONFIG} (open_clip), "
        f"{sources.TRANSFORMERS_CONFIG} (a CLIP of transformers) or {sources.PMC_WEIGHTS} (PMC-CLIP) into it."
    )
