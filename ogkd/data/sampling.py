"""Few-shot sampling and the base/novel split, which give the same images as the published runs.

The published code seeds Python's `random` once with the run's seed, then draws from the training part and the
validation part before anything else is drawn. A separate generator gives the same numbers, whatever else draws.
"""

from __future__ import annotations

import math
import random
from collections import Counter

from ogkd.data.splits import Item, Split

VAL_SHOTS = 4  # the most validation images per class


def draw_shots(split: Split, shots: int, seed: int) -> Split:
    """Draw `shots` training and min(shots, 4) validation images per class; of a class with fewer, take each once.

    Classes are drawn in the order of their first appearance in the part. A negative seed draws at random.
    """
    generator = random.Random(seed if seed >= 0 else None)
    train = _draw(split["train"], shots, generator)
    val = _draw(split["val"], min(shots, VAL_SHOTS), generator)
    return {"train": train, "val": val, "test": split["test"]}


def _draw(items: list[Item], shots: int, generator: random.Random) -> list[Item]:
    groups: dict[int, list[Item]] = {}
    for item in items:
        groups.setdefault(item.label, []).append(item)
    sampled: list[Item] = []
    for group in groups.values():
        sampled += generator.sample(group, shots) if len(group) >= shots else group
    return sampled


def shortage(sampled: list[Item], shots: int) -> str:
    """Return a sentence about classes with fewer training images than shots; "" if there is none."""
    counts = Counter(item.label for item in sampled).values()
    few = sum(count < shots for count in counts)
    if not few:
        return ""
    return (
        f"{few} of the {len(counts)} classes have fewer training images than the {shots} shots: each of theirs is "
        f"taken once, {len(sampled)} images in all."
    )


def take_classes(split: Split, which: str) -> Split:
    """Return the items of the first ceil(C / 2) classes ("base") or of the rest ("new"), relabelled from 0, or of
    "all"."""
    if which == "all":
        return split
    labels = sorted({item.label for item in split["train"]})
    cut = math.ceil(len(labels) / 2)
    chosen = labels[:cut] if which == "base" else labels[cut:]
    relabelled = {old: new for new, old in enumerate(chosen)}
    return {
        part: [item._replace(label=relabelled[item.label]) for item in items if item.label in relabelled]
        for part, items in split.items()
    }
