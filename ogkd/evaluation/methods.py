"""Titles, papers and order of the methods, read from the source files of their classes without importing them.

A method's class says how it is printed:

    @register
    class CoOp(PromptMethod):
        title, paper, row = "CoOp", "2109.01134", 80
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ogkd.core import UserError, did_you_mean
from ogkd.core.places import HOME

# A class in a later file replaces an earlier one of the same name, as in the registry.
SOURCES = ("trainers/*.py", "plugins/*.py", "plugins/*/*.py", "plugins/*/trainers/*.py", "plugins/*/trainers/*/*.py")
ATTRIBUTES = ("title", "paper", "row")


@dataclass(frozen=True)
class Method:
    """How a method is printed. `row` is its position in tables; None: last."""

    name: str
    title: str
    paper: str = ""
    row: int | None = None


@dataclass(frozen=True)
class _Class:
    bases: tuple[str, ...]
    attributes: dict[str, object]
    registered: bool


@cache
def known_methods(root: Path = HOME) -> dict[str, Method]:
    """The registered methods of a checkout by class name.

    `row` is inherited. `title` is not, since two methods must not have the same title; its default is the class name.
    """
    classes: dict[str, _Class] = {}
    for pattern in SOURCES:
        for path in sorted(root.glob(pattern)):
            classes.update(_classes(path))
    return {name: _method(name, classes) for name, found in classes.items() if found.registered}


def spelling(word: str) -> str:
    """What a method's class (LPPlusPlus), title (LP++) and script folder (lp_plus_plus) have in common."""
    return re.sub(r"[\W_]", "", word.replace("+", "plus")).casefold()


def named(word: str) -> str:
    """The class name of the method with this class name, title or script folder, in any case; the word itself if there
    is none, or if it is ambiguous."""
    known = known_methods()
    if word in known:
        return word
    wanted = spelling(word)
    meant = {name for name, method in known.items() if wanted and wanted in (spelling(name), spelling(method.title))}
    return meant.pop() if len(meant) == 1 else word


def named_among(words: Iterable[str], methods: Iterable[str]) -> list[str]:
    """The class names that words mean, each once.

    Raises:
        UserError: one of them is not among `methods`, those of the finished runs.
    """
    there, found = sorted(set(methods), key=order), list(dict.fromkeys(map(named, words)))
    for name in found:
        if name not in there:
            raise UserError(
                f"There is no finished run of the method {name}{did_you_mean(name, there)}; there are "
                f"{', '.join(there) or 'none'}."
            )
    return found


def order(method: str) -> tuple:
    """Sort key of a method's rows: by `row`, and methods without one last, by name."""
    known = known_methods().get(method)
    row = known.row if known else None
    return (row is None, row or 0, method)


def _method(name: str, classes: dict[str, _Class]) -> Method:
    own = classes[name].attributes
    title, paper, row = own.get("title"), own.get("paper"), _row(name, classes, frozenset())
    return Method(
        name, title if isinstance(title, str) and title else name, paper if isinstance(paper, str) else "", row
    )


def _row(name: str, classes: dict[str, _Class], seen: frozenset[str]) -> int | None:
    """The class's `row` or that of the first base class that has one; `seen` guards against circles of names."""
    if name not in classes or name in seen:
        return None
    own = classes[name].attributes.get("row")
    if type(own) is int:
        return own
    of_bases = (_row(base, classes, seen | {name}) for base in classes[name].bases)
    return next((row for row in of_bases if row is not None), None)


def _classes(path: Path) -> Iterator[tuple[str, _Class]]:
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, OSError):  # importing the file reports the error; tables can do without it
        return
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            bases = tuple(ast.unparse(base).rpartition(".")[2] for base in node.bases)
            yield node.name, _Class(bases, dict(_literals(node)), any(map(_registers, node.decorator_list)))


def _registers(decorator: ast.expr) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return ast.unparse(called).rpartition(".")[2] == "register"


def _literals(node: ast.ClassDef) -> Iterator[tuple[str, object]]:
    """Name and value of attributes that are set to literals: `title = "CoOp"` or `title, row = "CoOp", 80`."""
    for statement in node.body:
        if isinstance(statement, ast.Assign):
            pairs = [pair for target in statement.targets for pair in _pairs(target, statement.value)]
        elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
            pairs = [(statement.target, statement.value)]
        else:
            continue
        for target, value in pairs:
            if isinstance(target, ast.Name) and target.id in ATTRIBUTES and isinstance(value, ast.Constant):
                yield target.id, value.value


def _pairs(target: ast.expr, value: ast.expr) -> list[tuple[ast.expr, ast.expr]]:
    several = ast.Tuple | ast.List
    if isinstance(target, several) and isinstance(value, several) and len(target.elts) == len(value.elts):
        return list(zip(target.elts, value.elts, strict=True))
    return [(target, value)]
