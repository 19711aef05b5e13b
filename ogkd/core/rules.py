"""Rules for configuration values, and the error sentence for a value that breaks one."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ogkd.core.errors import UserError


@dataclass(frozen=True)
class Rule:
    """A test of a value, with a description that completes the sentence "it must be ..."."""

    holds: Callable[[Any], bool]
    description: str

    def allows(self, value: object) -> bool:
        """Whether a value passes; a value whose type or size the test cannot handle does not."""
        try:
            return bool(self.holds(value))
        except (TypeError, ValueError, LookupError, OverflowError, AttributeError):
            return False

    def check(self, name: str, value: object) -> None:
        """Raise UserError with the key, its value and the rule unless the value passes."""
        if not self.allows(value):
            raise UserError(f"{name} is {shown(value)}, but it must be {self.description}.")


def number(least: float = -math.inf, most: float = math.inf, above: float = -math.inf, below: float = math.inf) -> Rule:
    """A finite number with least <= value <= most and above < value < below."""
    bounds = {"at least": least, "greater than": above, "at most": most, "less than": below}
    said = [f"{words} {bound:,}" for words, bound in bounds.items() if math.isfinite(bound)]
    return Rule(
        lambda value: math.isfinite(value) and least <= value <= most and above < value < below,
        " and ".join(said) or "finite",
    )


def one_of(*choices: str) -> Rule:
    """One of the given words."""
    return Rule(lambda value: value in choices, " or ".join([*filter(None, [", ".join(choices[:-1])]), choices[-1]]))


def each(rule: Rule, count: int | None = None) -> Rule:
    """A list of values that each pass `rule`: exactly `count` of them or, without a count, at least one."""
    return Rule(
        lambda values: (len(values) == count if count else len(values) > 0) and all(map(rule.holds, values)),
        f"a list of {count or 'one or more'} numbers, each {rule.description}",
    )


def or_empty(rule: Rule) -> Rule:
    """Either an empty list or a value that passes `rule`."""
    return Rule(lambda values: len(values) == 0 or rule.holds(values), f"empty or {rule.description}")


def shown(value: object) -> str:
    """Write a value for a sentence, shortening a long one in the middle."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = 60
    return short.repr(value)


def whole(value: object) -> bool:
    """Whether a value is a whole number; True and False are not."""
    return isinstance(value, int) and not isinstance(value, bool)
