"""The images of a trial of a search for settings: it is tested on validation or training images, never on test images.

DATASET.TRIAL is "" for a run that is no trial, "val" for a test on the validation images that were drawn, or "2/5" for
a test on the second of five folds of the drawn training images and training on the others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from ogkd.core import UserError
from ogkd.core.words import counted
from ogkd.data.splits import Item, Split

VAL = "val"
FOLD = re.compile(r"([1-9]\d*)/([1-9]\d*)")


def is_trial(value: str) -> bool:
    """Whether a value of DATASET.TRIAL names validation images or a fold."""
    fold = FOLD.fullmatch(value)
    return value == VAL or bool(fold and int(fold[1]) <= int(fold[2]) > 1)


def without_test(split: Split, trial: str) -> Split:
    """The split as read, for a trial without its test images, so that nothing later can see them."""
    return {**split, "test": []} if trial else split


def with_trial(split: Split, trial: str, seed: int, patients: Mapping[str, str]) -> Split:
    """The drawn images of a split with those that a trial is tested on as the test part.

    Folds are stratified by class, and all images of a patient are in one fold.

    Raises:
        UserError: there are no validation images, or too few images (or patients) of a class for the folds.
    """
    if not trial:
        return split
    if trial == VAL:
        if not split["val"]:
            raise UserError("There are no validation images to search on: use cross-validation, such as --folds 4.")
        return {**split, "test": split["val"]}
    number, folds = map(int, trial.split("/"))
    tested = set(_folds(split["train"], folds, max(seed, 0), patients)[number - 1])
    parts = {part: [item for at, item in enumerate(split["train"]) if (at in tested) is (part == "test")]
             for part in ("train", "test")}  # fmt: skip
    return {**split, **parts}


def _folds(items: Sequence[Item], folds: int, seed: int, patients: Mapping[str, str]) -> list[list[int]]:
    """The places of each fold's images."""
    from sklearn.model_selection import StratifiedGroupKFold

    labels = np.array([item.label for item in items])
    owners = [patients.get(item.path, item.path) for item in items]
    what = "patient" if len(set(owners)) < len(items) else "training image"
    for label, name in sorted({item.label: item.classname for item in items}.items()):
        number = len({owner for owner, of in zip(owners, labels, strict=True) if of == label})
        if number < folds:
            raise UserError(
                f"{folds} folds need at least {folds} {what}s of each class, but '{name}' has "
                f"{counted(number, what)}: take fewer folds or more shots."
            )
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed % 2**32)
    parts = list(splitter.split(labels, labels, owners))
    if any(len(set(labels[trained])) < len(set(labels)) for trained, _ in parts):  # patients with several classes
        raise UserError(f"The patients cannot be divided into {folds} folds that each leave every class: take fewer.")
    return [tested.tolist() for _, tested in parts]
