"""Converts values from a configuration file or the command line to the types of the defaults."""

from __future__ import annotations

import ast
from typing import Any

from ogkd.core import UserError
from ogkd.core.schema import shown, whole

KINDS = {bool: "True or False", int: "a whole number", float: "a number", str: "text", tuple: "a list", list: "a list"}


def typed(value: Any, default: Any, key: str, where: str) -> Any:
    """Return `value` converted to the type of `default`; a default of None allows any value.

    Text is read as a Python literal, unless the default is text too: then only its quotes are removed. Whole numbers
    are accepted as numbers, and lists as tuples.

    Raises:
        UserError: the type is wrong; the sentence gives `key`, the value, `where` it comes from and the type expected.
    """
    kind = type(default)
    if isinstance(value, str):
        literal = _literal(value)
        value = literal if kind is not str or isinstance(literal, str) else value
    if kind is float and whole(value) and abs(value) < 1e300:
        return float(value)
    if kind in (tuple, list) and isinstance(value, (tuple, list)):
        return kind(value)
    if type(value) is not kind and default is not None:
        example = f", such as {default!r}" if kind in (tuple, list) and default else ""
        hint = ": put it in quotes" if kind is str else ""
        raise UserError(
            f"{key} is {shown(value)} in {where}, but it must be {KINDS.get(kind, kind.__name__)}{example}{hint}."
        )
    return value


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text
