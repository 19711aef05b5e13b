"""One way to say which values are allowed: of a configuration key, of a JSON or YAML file.

A shape is
    a type        str, int, float (any finite number), bool, list, dict; a bool is not a number
    a Rule        a value that passes it
    None          null
    a tuple       any one of several shapes
    [shape]       a list of values that each have the shape
    {key: shape}  an object with these keys, and any others; a key that ends in "?" may be absent
"""

from __future__ import annotations

import math
import reprlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ogkd.core.errors import MissingFile, UserError
from ogkd.core.files import parse_json

NAMES: dict[type | None, str] = {
    str: "text", int: "a whole number", float: "a finite number", bool: "true or false", list: "a list",
    dict: "an object", None: "null",
}  # fmt: skip


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
    phrases = [f"{words} {bound:,}" for words, bound in bounds.items() if math.isfinite(bound)]
    return Rule(
        lambda value: math.isfinite(value) and least <= value <= most and above < value < below,
        " and ".join(phrases) or "finite",
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


TEXT = Rule(lambda value: bool(value.strip() and value.encode()), "text")  # lone surrogates cannot be encoded
TEXTS = Rule(
    lambda values: isinstance(values, list) and bool(values) and all(map(TEXT.allows, values)), "a list of texts"
)


def shown(value: object) -> str:
    """Write a value for a sentence, shortening a long one in the middle."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = 60
    return short.repr(value)


def whole(value: object) -> bool:
    """Whether a value is a whole number; True and False are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def mismatch(value: Any, shape: Any, place: str = "") -> str:
    """Say where `value` differs from the shape, as in "it has no seed" or "its seed is not a whole number"; "" if it
    does not."""
    if isinstance(shape, Mapping) and isinstance(value, Mapping):
        for name, inner in shape.items():
            key = name.removesuffix("?")
            if key not in value:
                if key == name:
                    return f"{f'its {place}' if place else 'it'} has no {key}"
            elif wrong := mismatch(value[key], inner, f"{place}.{key}" if place else key):
                return wrong
        return ""
    if isinstance(shape, list) and isinstance(value, list):
        return next(filter(None, (mismatch(one, shape[0], f"{place}[{i}]") for i, one in enumerate(value))), "")
    if isinstance(shape, tuple):
        every = [mismatch(value, one, place) for one in shape]
        return "" if "" in every else every[0]
    if _has(value, shape):
        return ""
    return f"{f'its {place}' if place else 'it'} is not {_name(shape)}"


def _has(value: Any, shape: Any) -> bool:
    if isinstance(shape, Rule):
        return shape.allows(value)
    if shape is float:
        return type(value) in (int, float) and abs(value) <= sys.float_info.max
    return value is None if shape is None else type(value) is shape


def _name(shape: Any) -> str:
    if isinstance(shape, Rule):
        return shape.description
    return NAMES[dict if isinstance(shape, Mapping) else list if isinstance(shape, list) else shape]


REMEDY = "do the run again with --rerun, or restore an intact copy"
"""What mends a damaged file that a run wrote."""


def read_record(path: str | Path, shape: object, remedy: str = REMEDY) -> Any:
    """Read a JSON file and check that its content has the shape.

    Raises:
        UserError: the file is missing, is not JSON, or differs from the shape; the sentence ends with the remedy.
    """
    try:
        content = parse_json(Path(path).read_text(encoding="utf-8"))
        wrong = mismatch(content, shape)
    except FileNotFoundError:
        raise MissingFile(f"There is no file {path}.") from None
    except RecursionError:
        wrong = "it is nested too deeply"
    except (OSError, ValueError) as error:
        wrong = getattr(error, "strerror", None) or str(error)
    if wrong:
        raise UserError(f"{path} is corrupt ({wrong}): {remedy}.")
    return content
