"""Folders of images: what is in them, and a split made of it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from dassl.utils import UserError

from .catalogue import PARTS
from .splits import Item, Split, class_words

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".dcm")


def find_images(folder: str | Path) -> dict[str, list[str]]:
    """Class folder -> its images' paths below `folder`, sorted; hidden files, hidden folders and other files left out.

    Raises UserError when there is no class folder or a folder cannot be listed.
    """

    folder = Path(folder)
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir() and _shown(path.name))
    if not classes:
        raise UserError(f"{folder} has no class folders: put the images of each class into a folder of its own there.")
    return {name: [f"{name}/{path}" for path in images_below(folder / name)] for name in classes}


def images_below(folder: str | Path) -> list[str]:
    """The images in a folder and its subfolders, as paths below it, sorted; hidden ones and other files left out.

    Raises UserError when a folder cannot be listed.
    """

    def refuse(error: OSError) -> None:
        raise UserError(f"Cannot list the folder {error.filename}: {error.strerror}.") from error

    found = []
    for place, subfolders, files in os.walk(folder, onerror=refuse):
        subfolders[:] = filter(_shown, subfolders)
        below = Path(place).relative_to(folder)
        found += [(below / f).as_posix() for f in files if _shown(f) and f.lower().endswith(SUFFIXES)]
    return sorted(found)


def _shown(name: str) -> bool:
    return not name.startswith(".") and name != "__MACOSX"


def make_split(folder: str | Path, images: dict[str, list[str]]) -> Split:
    """Half of each class for training, a fifth for validation, the rest for testing, as in the published splits.

    Each part has at least one image of each class; which image goes where depends on nothing but the images' paths.
    Raises UserError when a class has less than three images or two folders give the same class name.
    """
    split: Split = {part: [] for part in PARTS}
    folders: dict[str, str] = {}
    for label, (name, paths) in enumerate(images.items()):
        classname = class_words(name) or name
        if folders.setdefault(classname, name) != name:
            raise UserError(
                f"The folders {folders[classname]!r} and {name!r} in {folder} both give the class {classname!r}: "
                "rename or join them."
            )
        if len(paths) < 3:
            raise UserError(
                f"The class folder {Path(folder, name)} has {len(paths) or 'no'} image{'s' * (len(paths) != 1)} "
                f"({', '.join(SUFFIXES)}): it needs at least 3, one each to train, validate and test, or remove it."
            )
        shuffled = sorted(paths, key=lambda path: hashlib.sha256(os.fsencode(path)).digest())
        train, val = max(1, len(paths) // 2), max(1, len(paths) // 5)
        for part, chosen in zip(
            PARTS, (shuffled[:train], shuffled[train : train + val], shuffled[train + val :]), strict=True
        ):
            split[part] += [Item(path, label, classname) for path in sorted(chosen)]
    return split
