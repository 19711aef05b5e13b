"""Makes splits: as folders or a table say; or by patient, since one in both training and test would make results look
too good; or image by image."""

from __future__ import annotations

import hashlib
import os
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
MISSING = 10.0  # the cost of a part without images of a class, compared with squared deviations of shares
ROUNDS = 50  # of moving single patients; the search ends sooner when no move helps

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
    """Split the images of each class so that each patient is in only one part.

    Each class is divided as close to the `shares` of parts as possible; a part without a share is empty.
    Patients are assigned in order of their number of images (ties by the seed), each to the part that keeps the squared
    deviations of all shares smallest; then single patients are moved as long as that helps. Every part gets images of
    each class.

    Raises UserError if a class has fewer patients than parts and so cannot be in each, or if no such split was found.
    """
    people = sorted({patients[path] for paths in images.values() for path in paths})
    row_of = {patient: row for row, patient in enumerate(people)}
    counts = np.zeros((len(people), len(images)))  # images of each patient in each class
    for label, (name, paths) in enumerate(images.items()):
        np.add.at(counts, ([row_of[patients[path]] for path in paths], label), 1)
        number = len({patients[path] for path in paths})
        if number < len(shares):
            raise UserError(
                f"The class {name} has images of {counted(number, 'patient')}: it needs at least {len(shares)}, one "
                f"each for {', '.join(shares)}, or remove it. With --by-image, {command('split')} ignores patients, "
                "but then the test may be of patients seen in training."
            )
    places = _assign(counts, seed, np.array([*shares.values()]))
    parts = [PARTS[place] for place in places]
    split = _split(images, {path: parts[row_of[patients[path]]] for paths in images.values() for path in paths})
    for part in shares:
        if lacking := _lacking(split, images, part):
            raise UserError(
                f"No split was found that has images of {lacking[0]} in the part '{part}' too, since its patients have "
                "images of other classes: try another --seed, or write the split file by hand."
            )
    return split


def _assign(counts: np.ndarray, seed: int, wanted: np.ndarray) -> np.ndarray:
    """Return the part of each patient, (N,), from their images per class (N, C) and each part's wanted share (P,)."""
    generator = np.random.default_rng(seed)
    shares = counts / counts.sum(0)
    order = generator.permutation(len(counts))
    order = order[np.argsort(-shares[order].max(1), kind="stable")]
    filled, part_of = np.zeros((len(wanted), counts.shape[1])), np.full(len(counts), -1)
    for _ in range(1 + ROUNDS):  # the first assigns them
        moved = False
        for row in order:
            before = part_of[row]
            if before >= 0:
                filled[before] -= shares[row]
            costs = [_cost(filled, part, shares[row], wanted) for part in range(len(wanted))]
            best = int(np.argmin(costs))
            if before < 0 or costs[best] < costs[before] - 1e-12:
                part_of[row], moved = best, True
            filled[part_of[row]] += shares[row]
        if not moved:
            break
    return part_of


def _cost(filled: np.ndarray, part: int, share: np.ndarray, wanted: np.ndarray) -> float:
    """Return the cost of the shares (P, C) with one patient's images (C,) added to a part."""
    filled = filled.copy()
    filled[part] += share
    deviation = np.square(filled - wanted[:, None]).sum()
    return float(deviation + MISSING * (filled < 1e-9).sum())


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
