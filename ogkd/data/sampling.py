"""Few-shot sampling and the base/novel split; the balanced draw gives the same images as the published runs.

The published code seeds Python's `random` once with the run's seed, then draws from the training part and the
validation part before anything else is drawn. A separate generator gives the same numbers, whatever else draws.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence

from ogkd.core.words import listed
from ogkd.data.splits import Item, Split

VAL_SHOTS = 4  # the most validation images per class
BALANCED, PROPORTIONAL, MISSING = DRAWS = ("balanced", "proportional", "proportional_missing")
BY_SHARE = "drawn by label share"


def draw_shots(split: Split, shots: int, seed: int, draw: str = BALANCED) -> Split:
    """Draw training and validation images: `shots` and min(shots, 4) per class.

    draw: "balanced": so many of each class; of a class with fewer, each once. "proportional": that number times the
        number of classes in all, by the classes' shares of the part (see `apportion`), but at least one of each class.
        "proportional_missing": the same, where a class can go without.
    Classes are drawn in the order of their first appearance in the part. A negative seed draws at random.
    """
    generator = random.Random(seed if seed >= 0 else None)
    train = _draw(split["train"], shots, generator, draw)
    val = _draw(split["val"], min(shots, VAL_SHOTS), generator, draw)
    return {"train": train, "val": val, "test": split["test"]}


def _draw(items: Sequence[Item], shots: int, generator: random.Random, draw: str) -> list[Item]:
    groups: dict[int, list[Item]] = {}
    for item in items:
        groups.setdefault(item.label, []).append(item)
    labels = sorted(groups)
    numbers = dict.fromkeys(labels, shots)
    if draw != BALANCED:
        sizes = [len(groups[label]) for label in labels]
        numbers = dict(zip(labels, apportion(sizes, shots * len(labels), draw == PROPORTIONAL), strict=True))
    sampled: list[Item] = []
    for label, group in groups.items():
        sampled += generator.sample(group, numbers[label]) if len(group) >= numbers[label] else group
    return sampled


def apportion(sizes: Sequence[int], number: int, least: bool = False) -> list[int]:
    """Share out `number` images, at most all, to classes of these sizes by largest remainders: each gets its quota
    number * size / total rounded down, and those with the largest remainders one more, the first in a tie.

    least: a class that would get none gets one, and the others share what is left in the same way.
    """
    total, number = sum(sizes), min(number, sum(sizes))
    result = [number * size // total for size in sizes]
    largest = sorted(range(len(sizes)), key=lambda place: -(number * sizes[place] % total))
    for place in largest[: number - sum(result)]:
        result[place] += 1
    if not least or all(result):
        return result
    others = [size for size, images in zip(sizes, result, strict=True) if images]
    of_others = iter(apportion(others, number - result.count(0), least))
    return [next(of_others) if images else 1 for images in result]


def notes_on_draw(sampled: Sequence[Item], classnames: Sequence[str], shots: int, draw: str) -> list[str]:
    """Return sentences that readers of results must know about the training images."""
    if shots < 0 or draw == BALANCED:
        return [sentence] if (sentence := shortage(sampled, shots)) else []
    counts = Counter(item.label for item in sampled)
    wanted, most = shots * len(classnames), max(counts.values())
    short = "" if len(sampled) == wanted else f", which are all there are instead of {wanted}"
    absent = [name for label, name in enumerate(classnames) if not counts[label]]
    return [
        f"The training images were {BY_SHARE} (DATASET.DRAW {draw}): {min(counts.values())} to {most} images "
        f"of a class, {len(sampled)} in all{short}.",
        *([f"None of them shows {listed(absent, len(absent), 'or')}."] if absent else []),
    ]


def shortage(sampled: Sequence[Item], shots: int) -> str:
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
