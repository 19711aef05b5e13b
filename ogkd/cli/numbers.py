"""Whole numbers on the command line, also as ranges: `--seeds 1 2 3`, `--seeds 1-20`, `--shots 1 2 4-8 all`."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Any

from ogkd.core import UserError

MOST = 10_000  # numbers in a range
ALL = -1  # every image


class Numbers(argparse.Action):
    """An option whose words are whole numbers and ranges; its value is the list of them, each once.

    least: the smallest number that is valid. every: whether the word `all` is too, which is -1.
    """

    def __init__(self, *args: Any, least: int = 0, every: bool = False, **more: Any) -> None:
        super().__init__(*args, **more)
        self.least, self.every = least, every

    def __call__(self, parser: object, namespace: object, values: Any, option: str | None = None) -> None:
        setattr(namespace, self.dest, numbers(values, option or self.dest, self.least, self.every))


def numbers(words: Sequence[str], what: str, least: int = 0, every: bool = False) -> list[int]:
    """The numbers that words mean, each once, in order. Raises UserError, in which `what` is the option."""
    result: dict[int, None] = {}
    for word in filter(None, (part for text in words for part in text.split(","))):
        ends = re.fullmatch(r"(\d+)(?:-(\d+))?", word)
        if every and word.lower() == "all":
            result[ALL] = None
            continue
        kinds = f"whole numbers from {least} on, or ranges such as {max(least, 1)}-20{', or all' if every else ''}"
        if ends is None:
            raise UserError(f"{what} takes {kinds}, not '{word}'.")
        first, last = int(ends[1]), int(ends[2] or ends[1])
        if not least <= first <= last < first + MOST:
            raise UserError(f"{what} takes {kinds}: {word} is none of these.")
        result |= dict.fromkeys(range(first, last + 1))
    return list(result)
