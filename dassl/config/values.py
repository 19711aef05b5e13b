"""Values as a configuration file or the command line gives them, brought to the types of the defaults."""

from __future__ import annotations

import ast
from typing import Any

from dassl.utils import UserError
from dassl.utils.rules import shown, whole

KINDS = {bool: "True or False", int: "a whole number", float: "a number", str: "text", tuple: "a list", list: "a list"}


def typed(value: Any, default: Any, key: str, where: str) -> Any:
    """`value` as one of the type of `default`; any value where that is None.

    Text is read as a Python literal, unless the default is text too: then only its quotes are taken off. A whole number
    serves as a number, a list as a tuple.

    Raises:
        UserError: names `key`, the value, `where` it comes from and the type that it must have.
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
