"""Folders of images: what is in them, and a split made of it."""

from __future__ import annotations

import hashlib
import os
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from dassl.utils import UserError
from dassl.utils.images import has_preamble

from .catalogue import PARTS, load
from .splits import Item, Split, class_words

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".dcm")


def find_images(folder: str | Path) -> dict[str, list[str]]:
    """Class folder -> its images' paths below `folder`, sorted; hidden files, hidden folders and other files left out.

    Raises UserError when there is no class folder, a folder cannot be listed, or a name is no text.
    """
    folder = Path(folder)
    classes = class_folders(folder)
    if not classes:
        raise UserError(f"{folder} has no class folders: put the images of each class into a folder of its own there.")
    found = {name: [f"{name}/{path}" for path in images_below(folder / name)] for name in classes}
    for name in (name for of_class in ([*found], *found.values()) for name in of_class):
        _check_name(name, folder)
    return found


def class_folders(folder: Path) -> list[str]:
    """The names of a folder's subfolders, sorted; hidden ones left out."""
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and _shown(path.name))


def own_classes(name: str, root: Path) -> list[str]:
    """The class folders in root/name where that is the name of a set of the catalogue whose files are not there, so
    that they are someone's own images; [] otherwise."""
    facts, folder = load().find(name), Path(root, name)
    if facts is None or facts.split_file(root).is_file() or not folder.is_dir():
        return []
    return [found for found in class_folders(folder) if found != facts.name and images_below(folder / found)]


def _check_name(name: str, folder: Path) -> None:
    """Raise UserError for a name of bytes that are no text, which neither a split file nor a prompt can hold."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        encoding = sys.getfilesystemencoding()
        raise UserError(
            f"The name {os.fsencode(name)!r} in {folder} is no text in {encoding}, which file names are read as here: "
            f"rename it{'' if encoding == 'utf-8' else ', or set PYTHONUTF8=1'}."
        ) from None


def images_below(folder: str | Path) -> list[str]:
    """The images in a folder and its subfolders, as paths below it, sorted; hidden ones and other files left out.

    Images are the files with a suffix of `SUFFIXES`, and those of any name that begin as DICOM does.
    Raises UserError when a folder cannot be listed.
    """
    return files_below(folder)[0]


def files_below(folder: str | Path) -> tuple[list[str], list[str]]:
    """What `images_below` finds, and the files that it leaves out, hidden ones apart."""

    def refuse(error: OSError) -> None:
        raise UserError(f"Cannot list the folder {error.filename}: {error.strerror}.") from error

    images: list[str] = []
    others: list[str] = []
    for place, subfolders, files in os.walk(folder, onerror=refuse):
        subfolders[:] = filter(_shown, subfolders)
        below = Path(place).relative_to(folder)
        for name in filter(_shown, files):
            is_image = name.lower().endswith(SUFFIXES) or has_preamble(Path(place, name))
            (images if is_image else others).append((below / name).as_posix())
    return sorted(images), sorted(others)


def left_out(folder: Path, classes: Iterable[str]) -> str:
    """A sentence on the files in class folders that are no images; "" where there are none."""
    others = [f"{name}/{path}" for name in classes for path in files_below(folder / name)[1]]
    if not others:
        return ""
    kinds = Counter(Path(path).suffix.lower() or "no suffix" for path in others)
    listed = ", ".join(f"{kind} {number}" for kind, number in kinds.most_common(5))
    return f"{len(others)} files in {folder} are no images and not used ({listed}), the first is {others[0]}."


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
