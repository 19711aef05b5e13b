"""Lists the images in a folder and makes a split of them."""

from __future__ import annotations

import hashlib
import os
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from dassl.utils import UserError
from dassl.utils.images import has_preamble
from dassl.utils.words import counted

from .catalogue import PARTS, load
from .splits import Item, Split, class_words

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp", ".dcm")


def find_images(folder: str | Path) -> dict[str, list[str]]:
    """Return class folder -> sorted paths of its images, relative to `folder`. Hidden and other files are left out.

    Raises UserError if there is no class folder, a folder cannot be listed, or a name is not valid text.
    """
    folder = Path(folder)
    classes = class_folders(folder)
    if not classes:
        raise UserError(f"{folder} has no class folders: put the images into one folder per class there.")
    found = {name: [f"{name}/{path}" for path in images_below(folder / name)] for name in classes}
    for name in (name for of_class in ([*found], *found.values()) for name in of_class):
        _check_name(name, folder)
    return found


def class_folders(folder: Path) -> list[str]:
    """Return the names of a folder's subfolders, sorted, without hidden ones."""
    return sorted(path.name for path in folder.iterdir() if path.is_dir() and _shown(path.name))


def own_classes(name: str, root: Path) -> list[str]:
    """Return the class folders in root/name if `name` is a catalogued data set whose files are absent, so that these
    are the user's own images; otherwise []."""
    facts, folder = load().find(name), Path(root, name)
    if facts is None or facts.split_file(root).is_file() or not folder.is_dir():
        return []
    return [found for found in class_folders(folder) if found != facts.name and images_below(folder / found)]


def _check_name(name: str, folder: Path) -> None:
    """Raise UserError for a name whose bytes are not valid text: neither a split file nor a prompt can hold it."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        encoding = sys.getfilesystemencoding()
        raise UserError(
            f"The name {os.fsencode(name)!r} in {folder} is not valid {encoding}, the encoding of file names here: "
            f"rename it{'' if encoding == 'utf-8' else ', or set PYTHONUTF8=1'}."
        ) from None


def images_below(folder: str | Path) -> list[str]:
    """Return the images in a folder and its subfolders as sorted relative paths, without hidden and other files.

    Images are files with a suffix in `SUFFIXES`, and files of any name that begin with a DICOM preamble.
    Raises UserError if a folder cannot be listed.
    """
    return files_below(folder)[0]


def files_below(folder: str | Path) -> tuple[list[str], list[str]]:
    """Return what `images_below` finds, and the other files (but not the hidden ones)."""

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
    """Return a sentence about files in class folders that are not images; "" if there are none."""
    others = [f"{name}/{path}" for name in classes for path in files_below(folder / name)[1]]
    if not others:
        return ""
    kinds = Counter(Path(path).suffix.lower() or "no suffix" for path in others)
    listed = ", ".join(f"{kind} {number}" for kind, number in kinds.most_common(5))
    what = "is no image and not used" if len(others) == 1 else "are not images and are not used"
    return f"{counted(len(others), 'file')} in {folder} {what} ({listed}); the first is {others[0]}."


def _shown(name: str) -> bool:
    return not name.startswith(".") and name != "__MACOSX"


def make_split(folder: str | Path, images: dict[str, list[str]]) -> Split:
    """Split each class: half for training, a fifth for validation, the rest for testing, as in the published splits.

    Each part gets at least one image per class; where an image goes depends only on the images' paths.
    Raises UserError if a class has fewer than three images or two folders give the same class name.
    """
    split: Split = {part: [] for part in PARTS}
    folders: dict[str, str] = {}
    for label, (name, paths) in enumerate(images.items()):
        classname = class_words(name) or name
        if folders.setdefault(classname, name) != name:
            raise UserError(
                f"The folders {folders[classname]!r} and {name!r} in {folder} both give the class {classname!r}: "
                "rename or merge them."
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
