"""Checks every image of a data set before training begins."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from ogkd.core import UserError, atomic_path, progress
from ogkd.core.images import READING, Checked, check_image, check_regular
from ogkd.core.places import command

READERS = 4
SHOWN = 20  # the most unreadable images that an error lists


class Opened(NamedTuple):
    """How many images hold several frames, and how many are blank."""

    several_frames: int
    blank: int


def open_images(paths: Iterable[str], frame: int = 0, cache: Path | None = None) -> Opened:
    """Read each image with `check_image`, in full, and count those that hold several frames or are blank.

    The result is kept in `cache` under a hash of all paths, sizes and modification times, so unchanged images are not
    opened again.

    Raises:
        UserError: some images cannot be read; the first twenty are listed, each with its reason.
    """
    paths = sorted(set(paths))
    kept = cache / f"opened-{_state(paths, frame)}.json" if cache else None
    known = _read(kept)
    if known is not None:
        return known
    with ThreadPoolExecutor(READERS) as pool:
        found = pool.map(lambda path: _look(path, frame), paths)
        looks = list(progress(found, "open the images", total=len(paths), unit="image"))
    problems = [look for look in looks if isinstance(look, str)]
    if problems:
        raise UserError(_listed(problems, len(paths)))
    checked = [look for look in looks if isinstance(look, Checked)]
    opened = Opened(sum(look.frames > 1 for look in checked), sum(look.blank for look in checked))
    if kept:
        _keep(kept, opened)
    return opened


def _look(path: str, frame: int) -> Checked | str:
    """Return what an image holds, or why it cannot be read."""
    try:
        return check_image(path, frame)
    except UserError as error:
        return str(error)


def _listed(problems: list[str], number: int) -> str:
    if len(problems) == 1:
        return problems[0]
    more = len(problems) - SHOWN
    rest = [f"... and {more} more: `{command('check-data')} FOLDER` lists all of a folder."] if more > 0 else []
    head = f"{len(problems)} of the {number} images cannot be read: replace or remove them."
    return "\n  ".join([head, *problems[:SHOWN], *rest])


def _state(paths: list[str], frame: int) -> str:
    """Return a hash of everything that decides whether the images can be read."""
    digest = hashlib.blake2b(f"{READING} {frame}".encode(), digest_size=16)
    for path in paths:
        digest.update(os.fsencode(path) + f"\0{_stamp(path)}\0".encode())
    return digest.hexdigest()


def _stamp(path: str) -> str:
    try:
        found = check_regular(Path(path))
    except UserError:
        return "none"
    return f"{found.st_size} {found.st_mtime_ns}"


def _read(file: Path | None) -> Opened | None:
    try:
        found = json.loads(file.read_text(encoding="utf-8")) if file else None
        return found and Opened(*(int(found[name]) for name in Opened._fields))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _keep(file: Path, opened: Opened) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(file) as temporary:
            temporary.write_text(json.dumps(opened._asdict()), encoding="utf-8")
    except OSError:  # the only consequence: the next run opens the images again
        pass
