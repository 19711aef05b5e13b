"""Lists the images of a folder by class and makes a split of them."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from ogkd.core import UserError
from ogkd.data.catalogue import PARTS, load
from ogkd.data.layout import Layout, read_layout
from ogkd.data.listing import SUFFIXES, images_below, shown
from ogkd.data.names import class_words
from ogkd.data.splits import Item, Split


def find_images(folder: str | Path) -> dict[str, list[str]]:
    """Return class folder -> sorted paths of its images, relative to `folder`. Hidden files, other files and those that
    belong to an image, such as masks, are left out.

    Raises UserError if it is not clear which folders are the classes, a folder cannot be listed, or a name is not valid
    text.
    """
    layout = read_layout(folder)
    layout.check()
    return layout.classes


def own_classes(name: str, root: Path) -> list[str]:
    """Return the class folders in root/name if `name` is a catalogued data set whose files are absent, so that these
    are the user's own images; otherwise []."""
    facts, folder = load().find(name), Path(root, name)
    if facts is None or facts.split_file(root).is_file() or not folder.is_dir():
        return []
    folders = sorted(path for path in folder.iterdir() if path.is_dir() and shown(path.name))
    return [path.name for path in folders if path.name != facts.name and images_below(path)]


def split_of(layout: Layout) -> Split:
    """Return the split that the folders are, or one made of all images.

    Raises UserError if the layout has faults, or a class has too few images.
    """
    layout.check()
    return _split_of_parts(layout) if layout.parts else make_split(layout.folder, layout.classes)


def _split_of_parts(layout: Layout) -> Split:
    """Return the parts as a split; if none is for validation, a fifth of each class's training images are drawn."""
    split: Split = {part: [] for part in PARTS}
    for label, (name, paths) in enumerate(layout.classes.items()):
        of = {part: [path for path in paths if layout.parts[path] == part] for part in PARTS}
        if "val" not in layout.parts.values():
            if len(of["train"]) < 2:
                raise UserError(
                    f"The class {name} in {layout.folder} has 1 image for training: it needs 2 or more, since one is "
                    "taken for validation."
                )
            mixed, number = shuffled(of["train"]), max(1, len(of["train"]) // 5)
            of["val"], of["train"] = sorted(mixed[:number]), sorted(mixed[number:])
        for part in PARTS:
            split[part] += [Item(path, label, class_words(name) or name) for path in of[part]]
    return split


def make_split(folder: str | Path, images: dict[str, list[str]]) -> Split:
    """Split each class: half for training, a fifth for validation, the rest for testing, as in the published splits.

    Each part gets at least one image per class; where an image goes depends only on the images' paths.
    Raises UserError if a class has fewer than three images.
    """
    split: Split = {part: [] for part in PARTS}
    for label, (name, paths) in enumerate(images.items()):
        if len(paths) < 3:
            raise UserError(
                f"The class folder {Path(folder, name)} has {len(paths) or 'no'} image{'s' * (len(paths) != 1)} "
                f"({', '.join(SUFFIXES)}): it needs at least 3, one each to train, validate and test, or remove it."
            )
        mixed = shuffled(paths)
        train, val = max(1, len(paths) // 2), max(1, len(paths) // 5)
        for part, chosen in zip(PARTS, (mixed[:train], mixed[train : train + val], mixed[train + val :]), strict=True):
            split[part] += [Item(path, label, class_words(name) or name) for path in sorted(chosen)]
    return split


def shuffled(paths: list[str]) -> list[str]:
    """Return paths in an order that depends on nothing but themselves."""
    return sorted(paths, key=lambda path: hashlib.sha256(os.fsencode(path)).digest())
