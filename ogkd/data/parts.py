"""Recognises folders that are parts of a data set, not classes: train, Validation, test_images, fold_3."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from ogkd.data.beside import IMAGES, words_of
from ogkd.data.catalogue import PARTS

TRAIN, VAL, TEST = PARTS
FOLD = "fold"
WORDS = {
    **dict.fromkeys(("train", "training", "trn", "trainset"), TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "validate", "validating", "dev", "development", "valset"), VAL),
    **dict.fromkeys(("test", "testing", "tst", "testset", "holdout", "evaluation"), TEST),
    **dict.fromkeys(("fold", "folds", "kfold"), FOLD),
}
FILLERS = IMAGES | {"set", "sets", "dataset", "datasets", "split", "splits", "part", "subset", "folder", "samples"}

PIECES = IMAGES | {"part", "batch", "chunk", "shard", "archive", "zip", "folder"}


def part_of(name: str) -> tuple[str, tuple[str, ...]]:
    """Return the part that a folder's name means, "" for none, and the words that say something else.

    A part is train, val, test, or "fold 3".
    """
    words = words_of(name)
    hits = {WORDS[word] for word in words if word in WORDS}
    numbers = [word for word in words if word.isdigit()]
    rest = tuple(word for word in words if word not in WORDS and word not in FILLERS and not word.isdigit())
    if len(hits) != 1 or (hits == {FOLD} and len(numbers) != 1):
        return "", rest
    return (f"{FOLD} {int(numbers[0])}" if hits == {FOLD} else hits.pop()), rest


def parts_of(names: Iterable[str]) -> dict[str, str]:
    """Return folder name -> part for folders side by side; {} if they are no parts.

    They are if all of them are, or if some are, among them one for training and another; what else their names say must
    be the same, so that "stress test" and "rest test" are no parts.
    """
    names = list(names)
    result = {name: part_of(name) for name in names}
    parts = {name: part for name, (part, _) in result.items() if part}
    if not parts or len({result[name][1] for name in parts}) > 1:
        return {}
    several = len(set(parts.values())) > 1 and any(part.startswith((TRAIN, FOLD)) for part in parts.values())
    return parts if several or len(parts) == len(names) else {}


def pieces_of_one(names: Collection[str]) -> bool:
    """Whether folders only number pieces of one set of images, such as HAM10000_images_part_1 and 2."""
    words = [words_of(name) for name in names]
    rest = {tuple(word for word in one if not word.isdigit()) for one in words}
    numbered = all(one and one[-1].isdigit() for one in words)
    return len(words) > 1 and numbered and len(rest) == 1 and not PIECES.isdisjoint(rest.pop())


def roles(parts: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """Return what each part is used for, part -> train, val or test, and a clause that says what was decided.

    Without a test part, the last fold is the test, else the validation part. Validation images are drawn later if no
    part is for them.
    """
    result = set(parts.values())
    folds = sorted((part for part in result if part.startswith(FOLD)), key=lambda part: int(part.split()[1]))
    role = {part: TRAIN if part in folds else part for part in result}
    clause = ""
    if TEST not in result and len(folds) > 1:
        role[folds[-1]] = TEST
        clause = f"; {folds[-1]} is the test"
    elif TEST not in result and VAL in result:
        role[VAL] = TEST
        clause = "; there is no test part, so the validation images are the test"
    if VAL not in role.values():
        clause += "; a fifth of the training images of each class is drawn for validation"
    return role, clause
