"""Few-shot drawing and the base/novel cut, so that the published runs' images come out.

The published code seeds Python's `random` once with the run's seed and draws the training part, then the validation
part, before anything else draws. A generator of its own gives the same numbers, whatever else draws.
"""

from __future__ import annotations

import math
import random

from .splits import Item, Split

VAL_SHOTS = 4  # at most so many validation images a class


def draw_shots(split: Split, shots: int, seed: int) -> Split:
    """`shots` training and min(shots, 4) validation images a class; with repeats where a class has fewer.

    Classes are drawn in the order in which the part first names them. A negative seed draws at random.
    """
    generator = random.Random(seed if seed >= 0 else None)
    train = _draw(split["train"], shots, generator)
    val = _draw(split["val"], min(shots, VAL_SHOTS), generator)
    return {"train": train, "val": val, "test": split["test"]}


def _draw(items: list[Item], shots: int, generator: random.Random) -> list[Item]:
    groups: dict[int, list[Item]] = {}
    for item in items:
        groups.setdefault(item.label, []).append(item)
    drawn: list[Item] = []
    for group in groups.values():
        drawn += generator.sample(group, shots) if len(group) >= shots else generator.choices(group, k=shots)
    return drawn


def repeats(drawn: list[Item], shots: int) -> str:
    """A sentence on training images that were drawn more than once; "" where none was."""
    distinct: dict[int, set[str]] = {}
    for item in drawn:
        distinct.setdefault(item.label, set()).add(item.path)
    few = [len(paths) for paths in distinct.values() if len(paths) < shots]
    if not few:
        return ""
    return (
        f"{len(few)} of the {len(distinct)} classes have fewer training images than the {shots} shots, so images are "
        f"drawn with repeats, {sum(map(len, distinct.values()))} different ones in all: 'all' in place of the number "
        "takes every image once."
    )


def take_classes(split: Split, which: str) -> Split:
    """The items of the first ceil(C / 2) classes ("base"), of the rest ("new"), relabelled from 0, or of "all"."""
    if which == "all":
        return split
    labels = sorted({item.label for item in split["train"]})
    cut = math.ceil(len(labels) / 2)
    kept = labels[:cut] if which == "base" else labels[cut:]
    relabelled = {old: new for new, old in enumerate(kept)}
    return {
        part: [item._replace(label=relabelled[item.label]) for item in items if item.label in relabelled]
        for part, items in split.items()
    }
