"""Images on the page: small copies of a run's images as data URIs, if these are on this machine."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

from ogkd.core import UserError
from ogkd.core.images import read_image
from ogkd.data.splits import is_below
from ogkd.evaluation.collect import Run
from ogkd.evaluation.tested import image_folder

SIDE = 128  # pixels of a thumbnail's longer side


@dataclass(frozen=True)
class Thumbnail:
    """An image's name relative to its data set's folder, its data URI (None if it could not be read) and its size."""

    name: str
    uri: str | None = None
    width: int = SIDE
    height: int = SIDE


def thumbnails_of(run: Run) -> Callable[[str], Thumbnail]:
    """A function from the name of an image of a run's data set to its thumbnail."""
    options = run.results["config"].get("INPUT")
    frame = options.get("FRAME") if isinstance(options, dict) else 0
    return partial(thumbnail, image_folder(run), frame=frame if type(frame) is int else 0)


@lru_cache(maxsize=4096)
def thumbnail(folder: Path | None, name: str, frame: int = 0) -> Thumbnail:
    """A small JPEG of an image in a folder. A name that leads out of the folder is not followed."""
    if folder is None or not name or not is_below(name):
        return Thumbnail(name)
    buffer = io.BytesIO()
    try:
        image = read_image(folder / name, frame)
        image.thumbnail((SIDE, SIDE))
        image.save(buffer, "JPEG", quality=82)
    except (UserError, OSError, ValueError):
        return Thumbnail(name)
    encoded = base64.b64encode(buffer.getvalue()).decode()
    return Thumbnail(name, f"data:image/jpeg;base64,{encoded}", image.width, image.height)
