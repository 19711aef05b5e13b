"""Titles, papers, order and groups of the methods, read from the source files of their classes without importing them.

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
from typing import Any

from ogkd.core import UserError, did_you_mean
from ogkd.core.places import HOME, PACKAGE, work_folder

GROUPS = {
    "prompt": "learn a prompt",
    "adapter": "learn a classifier on image features",
    "training-free": "need no gradients",
    "weights": "fine-tune weights of the model",
    "new": "were added in version 0.3",
}
"""The groups by which commands take methods at once (`--methods new`); a method's class says which are its own."""

UNREAD = {
    "nothing": ("OPTIM.", "TRAIN.", "DATALOADER.", "DATASET.DRAW", "FEATURES.CROPS", "FEATURES.TRAIN_VIEW",
                "INPUT.TRANSFORMS", "INPUT.RRCROP_SCALE", "TEST.FINAL_MODEL"),
    "fit": ("OPTIM.", "TRAIN.", "DATALOADER.TRAIN_X.", "TEST.FINAL_MODEL"),
    "losses": (),
    "FeatureMethod": ("FEATURES.CROPS", "INPUT.RRCROP_SCALE"),
    "PromptMethod": ("FEATURES.TRAIN_VIEW",),
}  # fmt: skip
"""Sections and keys of the configuration that have no effect on a method, by how it learns (in steps, by `losses`, or
at once, by `fit`) and by its base class."""

# A class in a later file replaces an earlier one of the same name, as in the registry.
PLUGINS = ("plugins/*.py", "plugins/*/*.py", "plugins/*/trainers/*.py", "plugins/*/trainers/*/*.py")


@dataclass(frozen=True)
class Method:
    """How a method is printed, and its groups, see GROUPS. `row` is its position in tables; None: last.

    steps: whether it learns in steps, so that it has a number of epochs. ends_early: whether it may take fewer than
        OPTIM.MAX_EPOCH. unread: see UNREAD.
    """

    name: str
    title: str
    paper: str = ""
    row: int | None = None
    groups: tuple[str, ...] = ()
    steps: bool = True
    ends_early: bool = False
    unread: tuple[str, ...] = ()

    def reads(self, key: str) -> bool:
        """Whether a key of the configuration can have an effect on the method."""
        return not key.startswith(self.unread)


@cache
def known_methods(home: Path = HOME, work: Path | None = None) -> dict[str, Method]:
    """The registered methods by class name: those of trainers/ in `home`, and of plugins/ in `work`, by default the
    checkout or the current folder.

    `row` and `groups` are inherited. `title` is not, since two methods must not have the same title; its default is
    the class name.
    """
    classes: dict[str, ast.ClassDef] = {}
    work = work or work_folder()
    bases = sorted(PACKAGE.glob("tuning/*method.py"))
    files = [
        *bases,
        *sorted(home.glob("trainers/*.py")),
        *(path for pattern in PLUGINS for path in sorted(work.glob(pattern))),
    ]
    for path in files:
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError, OSError):  # importing the file reports the error; tables can do without it
            continue
        classes |= {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    methods = {}
    for name, node in classes.items():
        if any(_registers(decorator) for decorator in node.decorator_list):
            title, paper = (_text(node, key) for key in ("title", "paper"))
            row, groups = (_inherited(name, key, kind, classes) for key, kind in (("row", int), ("groups", tuple)))
            learning = _learning(name, classes)
            methods[name] = Method(name, title or name, paper, row, groups or (), *learning)
    return methods


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


def expanded(words: Iterable[str]) -> list[str]:
    """The class names that words mean, each once; a group in any case stands for its methods in table order, unless a
    method has that name."""
    known, names = known_methods(), []
    for word in words:
        name, group = named(word), word.lower()
        if name in known or group not in GROUPS:
            names.append(name)
        else:
            names += sorted((method for method in known if group in known[method].groups), key=order)
    return list(dict.fromkeys(names))


def named_among(words: Iterable[str], methods: Iterable[str]) -> list[str]:
    """The class names that words mean, each once; of a group, those that are among `methods`.

    Raises:
        UserError: one of them is not among `methods`, those of the finished runs.
    """
    there = sorted(set(methods), key=order)
    names = []
    for word in words:
        of_word = expanded([word])
        names += [name for name in of_word if name in there] or of_word[:1]
    names = list(dict.fromkeys(names))
    for name in names:
        if name not in there:
            raise UserError(
                f"There is no finished run of the method {name}{did_you_mean(name, there)}; there are "
                f"{', '.join(there) or 'none'}."
            )
    return names


def order(method: str) -> tuple:
    """Sort key of a method's rows: by `row`, and methods without one last, by name."""
    known = known_methods().get(method)
    row = known.row if known else None
    return (row is None, row or 0, method)


def _lineage(name: str, classes: dict[str, ast.ClassDef], seen: tuple[str, ...] = ()) -> Iterator[ast.ClassDef]:
    """The class and its base classes, as far as they are known, nearest first. `seen` guards against circles."""
    if name in classes and name not in seen:
        yield classes[name]
        for base in classes[name].bases:
            yield from _lineage(ast.unparse(base).rpartition(".")[2], classes, (*seen, name))


def _inherited(name: str, key: str, kind: type, classes: dict[str, ast.ClassDef]) -> Any:
    """The attribute `key`, of this kind, of the class or the nearest base class that has one; None if none has."""
    values = (_attributes(node).get(key) for node in _lineage(name, classes))
    return next((value for value in values if type(value) is kind), None)


def _learning(name: str, classes: dict[str, ast.ClassDef]) -> tuple[bool, bool, tuple[str, ...]]:
    """Whether a method learns in steps, whether it may end early, and what it does not read, see UNREAD; of a method of
    another code base, nothing is known."""
    lineage = {node.name: node for node in _lineage(name, classes)}
    if lineage.pop("Method", None) is None:
        return True, False, ()
    functions = [part.name for node in lineage.values() for part in node.body if isinstance(part, ast.FunctionDef)]
    learns = next((function for function in functions if function in ("losses", "fit")), "nothing")
    unread = tuple(key for part in (learns, *lineage) for key in UNREAD.get(part, ()))
    return learns == "losses", not {"epochs", "stops"}.isdisjoint(functions), unread


def _registers(decorator: ast.expr) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return ast.unparse(called).rpartition(".")[2] == "register"


def _text(node: ast.ClassDef, name: str) -> str:
    value = _attributes(node).get(name)
    return value if isinstance(value, str) else ""


def _attributes(node: ast.ClassDef) -> dict[str, object]:
    """The attributes of a class that are set to literals: `title = "CoOp"` or `title, row = "CoOp", 80`."""
    values: dict[str, object] = {}
    for statement in node.body:
        if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.value is not None:
            target = statement.targets[0] if isinstance(statement, ast.Assign) else statement.target
            names = [part.id for part in ast.walk(target) if isinstance(part, ast.Name)]
            try:
                value = ast.literal_eval(statement.value)
            except ValueError:  # not a literal
                continue
            values |= zip(names, value, strict=False) if isinstance(target, ast.Tuple) else {names[0]: value}
    return values
