"""Finds images that two data sets share, by their content."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ogkd.core.hashes import content_hash
from ogkd.data.catalogue import load, own_folder
from ogkd.data.splits import read_split


def identical(images: Iterable[Path], others: Iterable[Path]) -> list[Path]:
    """Return the `images` whose bytes equal those of one of `others`. Only files of equal size are read.

    Raises OSError if a file cannot be read.
    """
    images, others = list(images), list(others)
    sizes = {path.stat().st_size for path in images}
    hashes = {content_hash(path) for path in others if path.stat().st_size in sizes}
    shared = {path.stat().st_size for path in others}
    return [path for path in images if path.stat().st_size in shared and content_hash(path) in hashes]


def overlap(source: str, target: str, root: str | Path) -> tuple[int, int]:
    """Count (test images of `target` that are byte-identical to a training image of `source`, test images of `target`).

    Both are names from the catalogue or folders of images below `root`. All training images count, not only those that
    a few-shot run draws.

    Raises:
        UserError: a split file is missing or invalid.
    """
    trained, tested = _images(source, root, "train"), _images(target, root, "test")
    return len(identical(tested, trained)), len(tested)


def _images(dataset: str, root: str | Path, part: str) -> list[Path]:
    facts = load().find(dataset)
    folder = facts.image_folder(root) if facts else Path(root, own_folder(dataset))
    split = read_split(facts.split_file(root) if facts else folder / f"split_{folder.name}.json")
    return [folder / path for path in dict.fromkeys(item.path for item in split[part])]
