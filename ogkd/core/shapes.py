"""Shapes describe what a JSON or YAML file must hold; `departure` finds the first place where its content differs.

A shape is
    a type        str, int, float (any finite number), bool, list, dict; a bool is not a number
    a Rule        a value that passes it
    None          null
    a tuple       any one of several shapes
    [shape]       a list of values that each have the shape
    {key: shape}  an object with these keys, and any others; a key that ends in "?" may be absent
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ogkd.core.errors import UserError
from ogkd.core.files import read_json
from ogkd.core.rules import Rule

NAMES: dict[type | None, str] = {
    str: "text", int: "a whole number", float: "a finite number", bool: "true or false", list: "a list",
    dict: "an object", None: "null",
}  # fmt: skip


def departure(value: Any, shape: Any, place: str = "") -> str:
    """Say where `value` differs from the shape, as in "it has no seed" or "its seed is not a whole number"; "" if it
    does not."""
    if isinstance(shape, Mapping) and isinstance(value, Mapping):
        for name, inner in shape.items():
            key = name.removesuffix("?")
            if key not in value:
                if key == name:
                    return f"{f'its {place}' if place else 'it'} has no {key}"
            elif found := departure(value[key], inner, f"{place}.{key}" if place else key):
                return found
        return ""
    if isinstance(shape, list) and isinstance(value, list):
        return next(filter(None, (departure(one, shape[0], f"{place}[{i}]") for i, one in enumerate(value))), "")
    if isinstance(shape, tuple):
        all_found = [departure(value, one, place) for one in shape]
        return "" if "" in all_found else all_found[0]
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


def read_record(path: str | Path, shape: object, remedy: str) -> Any:
    """Read a JSON file and check that its content has the shape.

    Raises:
        UserError: the file is missing, is not JSON, or differs from the shape; the sentence ends with the remedy.
    """
    try:
        content = read_json(path)
        found = departure(content, shape)
    except RecursionError:
        found = "it is nested too deeply"
    except OSError as error:
        found = f"it cannot be read: {error.strerror}"
    if found:
        raise UserError(f"{path} is corrupt ({found}): {remedy}.")
    return content
