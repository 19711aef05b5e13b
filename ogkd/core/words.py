"""Numbers, lists and examples in sentences."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

SHOWN = 3  # examples in a sentence


def counted(number: int, one: str, many: str = "") -> str:
    """Return a number with what is counted.

    >>> counted(1, "fault"), counted(2, "fault"), counted(0, "image is", "images are")
    ('1 fault', '2 faults', '0 images are')
    """
    return f"{number} {one if number == 1 else many or one + 's'}"


def listed(names: Iterable[object], most: int = SHOWN, last: str = "and") -> str:
    """Return the first `most` names, and the number of the rest.

    >>> listed("ab"), listed("abcde"), listed("ab", last="or")
    ('a and b', 'a, b, c and 2 more', 'a or b')
    """
    words = [*map(str, names)]
    if len(words) > most:
        words = [*words[:most], f"{len(words) - most} more"]
    return f" {last} ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def underscored(word: str) -> str:
    """The name of a protocol or table as typed with hyphens, like the commands, or underscores."""
    return word.replace("-", "_")


def ranges(numbers: Iterable[int]) -> str:
    """Return whole numbers in order, each once, and those that follow each other as a range.

    >>> ranges([3, 1, 2, 7]), ranges([1, 2]), ranges([4])
    ('1-3, 7', '1, 2', '4')
    """
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    parts = [[f"{run[0]}-{run[-1]}"] if len(run) > 2 else map(str, run) for run in runs]
    return ", ".join(word for part in parts for word in part)


def tally(what: str, examples: Iterable[str], kinds: bool = False) -> list[str]:
    """Return a phrase with the number of examples and the first of them; [] without any.

    kinds: the examples are files, which are counted by suffix.

    >>> tally("files", ["a.gif", "b", "c.gif"], kinds=True)
    ['files: 3 (.gif 2, no suffix 1; the first is a.gif)']
    """
    examples = list(examples)
    if not examples:
        return []
    if not kinds:
        return [f"{what}: {len(examples)} ({listed(examples)})"]
    number_of = Counter(Path(path).suffix.lower() or "no suffix" for path in examples).most_common(5)
    suffixes = ", ".join(f"{suffix} {number}" for suffix, number in number_of)
    return [f"{what}: {len(examples)} ({suffixes}; the first is {examples[0]})"]


def without_names(phrase: str) -> str:
    """A phrase of `tally` without its examples, as files may be named after patients.

    >>> without_names("files: 3 (.gif 2, no suffix 1; the first is a (1).gif): move them")
    'files: 3: move them'
    """
    return re.sub(r"(: \d+) \(.*\)", r"\1", phrase)


def sentence(phrase: str) -> str:
    """Write a phrase as a sentence: with a capital and a full stop."""
    return f"{phrase[:1].upper()}{phrase[1:].rstrip('.')}."
