"""From a name to a model: which files belong to it and which format they have."""

from __future__ import annotations

from pathlib import Path

import torch

from . import open_clip_models, sources
from .errors import ModelError
from .interface import FrozenCLIP, ImageSpec, Report

_PHANTOMCLIP = Path(__file__).parent / "phantomclip"
_HUB_PREFIX = "hf-hub:"


def available_models() -> list[str]:
    """Names that `load` knows, beside folders and "hf-hub:org/name"."""
    return ["BiomedCLIP", "CLIP", "PubMedCLIP", "PMC-CLIP", "PhantomCLIP"]


def load(name: str | Path, device: str | torch.device = "cpu", report: Report | None = None) -> FrozenCLIP:
    """A frozen model by name, folder or "hf-hub:org/name", on `device`.

    `report(stage, done, total)` is called while files are read. Raises ModelError, in one sentence with the mend, when
    the name is unknown, files are missing and cannot be fetched, or they are damaged or not each other's.
    """
    folder, config = _locate(str(name), weights=True)
    model = open_clip_models.load_folder(_title(str(name)), folder, config, report)
    return model.to(device)


def image_spec(name: str | Path) -> ImageSpec:
    """Image size, mean and standard deviation that a model wants, from its configuration alone; errors as `load`'s."""
    folder, config = _locate(str(name), weights=False)
    return open_clip_models.spec_of(open_clip_models.folder_config(folder) if config is None else config)


def _title(name: str) -> str:
    return name if name in available_models() else name.rstrip("/").rsplit("/", 1)[-1]


def _locate(name: str, weights: bool) -> tuple[Path, dict | None]:
    if name == "BiomedCLIP":
        return sources.from_hub(sources.BIOMEDCLIP, sources.OPEN_CLIP_FILES, weights=weights), None
    if name == "PhantomCLIP":
        return _folder(_PHANTOMCLIP), None
    if name.startswith(_HUB_PREFIX):
        return sources.from_hub(name.removeprefix(_HUB_PREFIX), sources.OPEN_CLIP_FILES, weights=weights), None
    if name not in available_models() and not Path(name).is_dir():
        raise ModelError(
            f'There is no model or folder "{name}": take one of {", ".join(available_models())}, a folder with '
            f'{sources.OPEN_CLIP_CONFIG} and weights, or "hf-hub:org/name".'
        )
    return _folder(Path(name)), None


def _folder(folder: Path) -> Path:
    if not (folder / sources.OPEN_CLIP_CONFIG).is_file():
        raise ModelError(f"The model folder {folder} has no {sources.OPEN_CLIP_CONFIG}: put it beside the weights.")
    return folder
