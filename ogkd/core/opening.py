"""Opens every image of a data set, each once, before training begins."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
from PIL import Image

from ogkd.core import UserError, atomic_path, progress
from ogkd.core.hashes import stamp, text_hash
from ogkd.core.images import READING, is_blank, load_image
from ogkd.core.places import command

READERS = 4
SHOWN = 20  # the most unreadable images that an error lists
FEW_COLOURS = 8  # of a mask or label map
NEAR = 24  # grey levels from black or white that JPEG compression adds to a mask
PIXELS = 256  # along an edge that are looked at for a mask
THUMB = 32  # pixels along an edge of a thumbnail
FLAT = 2  # grey levels within which the thumbnail of an image of nearly one colour lies


class Look(NamedTuple):
    """One image file: its size and mode as stored, its number of frames, whether it is blank, looks like a mask or has
    nearly one colour; if asked for, a hash of its pixels, a grey thumbnail of THUMB x THUMB bytes and the file's size
    in bytes; and why it cannot be read ("" if it can)."""

    path: str
    size: tuple[int, int] = (0, 0)
    mode: str = ""
    frames: int = 1
    blank: bool = False
    mask: bool = False
    flat: bool = False
    pixels: str = ""
    thumbnail: bytes = b""
    bytes: int = 0
    problem: str = ""


def look_at(paths: Sequence[str], folder: str | Path = "", frame: int = 0, closely: bool = False) -> list[Look]:
    """Read each of the images below `folder` in full; `closely` for what is compared with other images."""

    def look(path: str) -> Look:
        try:
            image, frames, size, mode = load_image(Path(folder, path), frame)
        except UserError as error:
            return Look(path, problem=str(error))
        small = image.resize((THUMB, THUMB), Image.Resampling.BOX, reducing_gap=2.0).convert("L")
        low, high = cast(tuple[int, int], small.getextrema())
        seen = Look(path, size, mode, frames, is_blank(image), is_mask(image), high - low < FLAT)
        if not closely:
            return seen
        content = f"{image.size}".encode() + image.tobytes()
        return seen._replace(
            pixels=hashlib.blake2b(content, digest_size=16).hexdigest(),
            thumbnail=small.tobytes(),
            bytes=Path(folder, path).stat().st_size,
        )

    with ThreadPoolExecutor(READERS) as pool:
        return list(progress(pool.map(look, paths), "open the images", total=len(paths), unit="image"))


def is_mask(image: Image.Image) -> bool:
    """Whether an RGB image has few colours, or is black and white apart from what compression added; one colour alone
    says nothing."""
    step = max(1, max(image.size) // PIXELS)
    values = np.ascontiguousarray(np.asarray(image)[::step, ::step])
    colours = Image.fromarray(values).getcolors(FEW_COLOURS)
    if colours is not None:
        return 1 < len(colours) < values.size // 12
    dark, light = (values < NEAR).all(-1), (values > 255 - NEAR).all(-1)
    return bool((dark | light).mean() > 0.95 and dark.any() and light.any())


def open_images(paths: Iterable[str], frame: int = 0, cache: str | Path | None = None) -> list[Look]:
    """Read each image in full; return what was seen, by path in sorted order.

    Unchanged images are not opened again in this process nor, with a `cache` folder, later.

    Raises:
        UserError: some images cannot be read; the first twenty are listed, each with its reason.
    """
    paths = tuple(sorted(set(paths)))
    return [*_opened(paths, frame, Path(cache) if cache else None, tuple(map(stamp, paths)))]


@functools.lru_cache(maxsize=4)
def _opened(paths: tuple[str, ...], frame: int, cache: Path | None, stamps: tuple) -> tuple[Look, ...]:
    file = cache / f"opened-{text_hash([READING, frame, paths, stamps])[:32]}.json" if cache else None
    with contextlib.suppress(OSError, ValueError, TypeError, IndexError, RecursionError):  # a cache may be corrupt
        if file:
            rows = json.loads(file.read_text(encoding="utf-8"))
            return tuple(
                Look(path, (width, height), mode, frames, blank, mask, flat)
                for path, ((width, height), mode, frames, blank, mask, flat) in zip(paths, rows, strict=True)
            )
    looks = look_at(paths, frame=frame)
    if problems := [look.problem for look in looks if look.problem]:
        raise UserError(_list(problems, len(paths)))
    with contextlib.suppress(OSError):  # the only consequence: the next run opens the images again
        if file:
            file.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(file) as temporary:
                temporary.write_text(json.dumps([look[1:7] for look in looks]), encoding="utf-8")
    return tuple(looks)


def _list(problems: list[str], number: int) -> str:
    if len(problems) == 1:
        return problems[0]
    more = len(problems) - SHOWN
    rest = [f"... and {more} more: `{command('check-data')} FOLDER` lists all of a folder."] if more > 0 else []
    head = f"{len(problems)} of the {number} images cannot be read: replace or remove them."
    return "\n  ".join([head, *problems[:SHOWN], *rest])
