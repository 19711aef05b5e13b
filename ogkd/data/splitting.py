"""Makes splits: as folders or a table say; or by patient, since one in both training and test would make results look
too good; or image by image."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from ogkd.core import UserError
from ogkd.core.places import command
from ogkd.core.words import counted, listed
from ogkd.data.catalogue import PARTS
from ogkd.data.listing import SUFFIXES
from ogkd.data.names import class_words
from ogkd.data.patients import one_each
from ogkd.data.splits import Item, Split

SHARES = {"train": 0.5, "val": 0.2, "test": 0.3}  # of each class's images, as in the published splits
SHARES_WITHOUT_TEST = {"train": 0.8, "val": 0.2}
BLOCK = 10  # patients among whom the shares come out even
DRAWS = 10_000  # of which the first with all classes in all parts is used; nearly always the very first

Images = Mapping[str, Sequence[str]]  # class folder or name -> images


def divide(
    folder: str | Path,
    images: Images,
    patients: Mapping[str, str],
    parts: Mapping[str, str] | None = None,
    seed: int = 0,
) -> Split:
    """Split the images of each class as `parts` (image -> train, val or test) says; without parts by patient; without
    patients image by image. An image without a patient counts as one of its own.

    Images without a part are left out. If none is for validation, these are drawn from those for training.
    Raises UserError if a class has too few patients or images.
    """
    patients = one_each(patients, [path for paths in images.values() for path in paths]) if patients else {}

    def sample(images: Images, shares: Mapping[str, float]) -> Split:
        return split_by_patient(images, patients, seed, shares) if patients else make_split(folder, images, shares)

    if not parts:
        return sample(images, SHARES)
    split = _split(images, parts)
    for part in ("train", "test"):
        if lacking := _lacking(split, images, part):
            raise UserError(f"The part {part} has no image of {listed(lacking)}: every class needs some in each part.")
    if split["val"]:
        return split
    train = {name: [path for path in paths if parts.get(path) == "train"] for name, paths in images.items()}
    return {**sample(train, SHARES_WITHOUT_TEST), "test": split["test"]}


def make_split(folder: str | Path, images: Images, shares: Mapping[str, float] = SHARES) -> Split:
    """Split each class: half for training, a fifth for validation, the rest for testing, as in the published splits; or
    a fifth for validation and the rest for training.

    Each part gets at least one image per class; where an image goes depends only on the images' paths.
    Raises UserError if a class has fewer images than there are parts.
    """
    sizes = {"train": 2, "val": 5} if "test" in shares else {"val": 5}  # the part is one of so many images
    rest = "test" if "test" in shares else "train"
    part_of: dict[str, str] = {}
    for name, paths in images.items():
        if len(paths) < len(shares):
            number = counted(len(paths), "image") if paths else "no images"
            raise UserError(
                f"The class folder {Path(folder, name)} has {number} ({', '.join(SUFFIXES)}) to divide: it needs at "
                f"least {len(shares)}, one each for {listed(shares)}, or remove it."
            )
        mixed = iter(shuffled(paths))
        for part, divisor in sizes.items():
            part_of |= dict.fromkeys(islice(mixed, max(1, len(paths) // divisor)), part)
        part_of |= dict.fromkeys(mixed, rest)
    return _split(images, part_of)


def _split(images: Images, part_of: Mapping[str, str]) -> Split:
    """Return the images of each part, with labels in the order of `images`; those without a part are left out."""
    items = [
        Item(path, label, class_words(name) or name)
        for label, (name, paths) in enumerate(images.items())
        for path in paths
    ]
    return {part: [item for item in items if part_of.get(item.path) == part] for part in PARTS}


def _lacking(split: Split, images: Images, part: str) -> list[str]:
    """Return the classes of `images` that have none in a part."""
    labels = {item.label for item in split[part]}
    return [name for label, name in enumerate(images) if label not in labels]


def shuffled(paths: Sequence[str]) -> list[str]:
    """Return paths in an order that depends on nothing but themselves."""
    return sorted(paths, key=lambda path: hashlib.sha256(os.fsencode(path)).digest())


def split_by_patient(
    images: Images,
    patients: Mapping[str, str],
    seed: int = 0,
    shares: Mapping[str, float] = SHARES,
) -> Split:
    """Split the images so that each patient is in only one part, by randomisation in blocks stratified by class.

    A patient's stratum is the rarest of the classes that its images have. The patients of a stratum, sorted by their
    number of images, are assigned in blocks of ten in random order, so that each is in a part with the probability of
    the part's share, whatever its number of images, and each part gets large and small patients of each class alike.
    Every part gets images of each class; a part without a share is empty.

    Raises UserError if a class has fewer patients than parts and so cannot be in each, or if no such split was found.
    """
    people: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(len(images), dtype=int))  # images in each class
    for label, (name, paths) in enumerate(images.items()):
        for path in paths:
            people[patients[path]][label] += 1
        number = len({patients[path] for path in paths})
        if number < len(shares):
            raise UserError(
                f"The class {name} has images of {counted(number, 'patient')}: it needs at least {len(shares)}, one "
                f"each for {', '.join(shares)}, or remove it. With --by-image, {command('split')} ignores patients, "
                "but then the test may be of patients seen in training."
            )
    counts = np.array([people[patient] for patient in sorted(people)])
    generator = np.random.default_rng(seed)
    for _ in range(DRAWS):
        places = _draw(counts, generator, [*shares.values()])
        if all((counts[places == place] > 0).any(0).all() for place in range(len(shares))):
            break
    else:
        raise UserError(
            "No split was found that has images of each class in each part, since patients have images of several "
            "classes: try another --seed, or write the split file by hand."
        )
    part_of = {patient: [*shares][place] for patient, place in zip(sorted(people), places, strict=True)}
    return _split(images, {path: part_of[patients[path]] for paths in images.values() for path in paths})


def _draw(counts: np.ndarray, generator: np.random.Generator, shares: Sequence[float]) -> np.ndarray:
    """Return the part of each patient, (N,), from their images per class (N, C) and the parts' shares (P,)."""
    of_class = np.where(counts > 0, (counts > 0).sum(0), len(counts) + 1)  # patients in each class of a patient
    stratum, places = of_class.argmin(1), np.empty(len(counts), dtype=int)
    bounds = np.cumsum(shares)
    for one in np.unique(stratum):
        order = generator.permutation(np.flatnonzero(stratum == one))
        order = order[np.argsort(-counts[order].sum(1), kind="stable")]
        for start in range(0, len(order), BLOCK):
            block = order[start : start + BLOCK]
            # rounded up or down at random, so that the parts' sizes in an incomplete block are right on average
            ends = np.floor(np.round(bounds * len(block), 9) + generator.random()).astype(int)
            places[block] = generator.permutation(np.searchsorted(ends, np.arange(len(block)), side="right"))
    return places


def table(split: Split, patients: Mapping[str, str]) -> str:
    """Return a text table of images, and of patients where they are known, per class and part."""
    from tabulate import tabulate

    def cell(items: Sequence[Item]) -> str:
        return f"{len(items)} ({len({patients[item.path] for item in items})})" if patients else f"{len(items)}"

    names = {item.label: item.classname for part in PARTS for item in split[part]}
    rows = [
        [name, *(cell([item for item in split[part] if item.label == label]) for part in PARTS)]
        for label, name in sorted(names.items())
    ]
    rows.append(["all", *(cell(split[part]) for part in PARTS)])
    return tabulate(rows, headers=["images (patients)" if patients else "images", *PARTS])
