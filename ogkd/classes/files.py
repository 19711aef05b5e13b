"""Reads and checks a geometry file (docs/geometry.md describes the format)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NoReturn, Union

import yaml

from ogkd.core import UserError, did_you_mean
from ogkd.core.config_files import read_yaml
from ogkd.core.places import work_folder
from ogkd.core.schema import TEXT, TEXTS, Rule, mismatch

FOLDER = Path(__file__).parent

Tree = Mapping[str, Union["Tree", None]]  # a name with nothing below it is a class


_COST = Rule(lambda value: not isinstance(value, bool) and 0 <= value <= 1, "a number from 0 to 1")
_NO_COST = Rule(lambda _value: False, "a mistake: leave it out")
_SHAPE = {
    "tree?": (
        Rule(lambda tree: isinstance(tree, dict) and len(tree) > 1, "two or more groups or classes, as 'name:'"),
        None,
    ),
    "order?": (Rule(lambda order: TEXTS.allows(order) and len(order) > 1, "a list of two or more classes"), None),
    "costs?": (dict, None),
    "notes?": (Rule(lambda notes: all(map(TEXT.allows, notes.values())), "{true class: sentence}"), None),
    "source": (TEXT, TEXTS),
    "reviewed?": bool,
}
KEYS = [key.rstrip("?") for key in _SHAPE]


@dataclass(frozen=True)
class Geometry:
    """How classes relate, either by a tree or by an order.

    `classnames` are the classes in use, in the order of every matrix. They may be a subset of the tree or the order:
    distances are always those of the whole.
    """

    classnames: tuple[str, ...]
    tree: Tree | None = None
    order: tuple[str, ...] | None = None
    overrides: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # {true: {predicted: cost in 0..1}}
    notes: Mapping[str, str] = field(default_factory=dict)  # {true class: the reason for its overrides}
    source: tuple[str, ...] = ()
    reviewed: bool = False  # by a clinician
    path: Path | None = None

    @property
    def all_classnames(self) -> tuple[str, ...]:
        """Every class of the tree or the order, in the order of the file."""
        return self.order if self.order is not None else tuple(_leaves(self.tree or {}))

    @property
    def is_ordered(self) -> bool:
        """Whether the classes are grades, so that grade errors and weighted kappa are defined."""
        return self.order is not None

    def restrict(self, classnames: Sequence[str]) -> Geometry:
        """Return the same geometry for some of its classes, in the given order.

        Raises UserError for an unknown class.
        """
        known = self.all_classnames
        for name in classnames:
            if name not in known:
                raise UserError(
                    f"{self.path or 'The geometry'} has no class '{name}'{did_you_mean(name, known)}: its names must "
                    "be those of the data set."
                )
        return replace(self, classnames=tuple(classnames))


def geometry_file(dataset: str, folder: Path = FOLDER) -> Path:
    """Return the path of a data set's geometry: this project's <DATASET>.yaml, else geometry/<DATASET>.yaml in the
    checkout or the current folder."""
    path = folder / f"{dataset}.yaml"
    return path if folder != FOLDER or path.is_file() else work_folder() / "geometry" / path.name


def read_geometry(path_or_dataset: str | Path, classnames: Sequence[str] | None = None) -> Geometry:
    """Read geometry/<DATASET>.yaml, or any file that ends in .yaml or .yml.

    Args:
        path_or_dataset: a data set's name ("BUSI") or a file.
        classnames: the classes in use, in label order; by default all in the file, in its order.

    Raises:
        UserError: the file is missing, corrupt, breaks a rule of the format or lacks a class.
    """
    path = _find(path_or_dataset)
    content = read_yaml(path, "geometry", _Loader)
    if not isinstance(content, dict):
        _fail(path, "is not a geometry", "it must begin with 'tree:' or 'order:'")
    for key in content:
        _check_word(str(key), KEYS, "entry", path)
    wrong = mismatch(content, _SHAPE)
    if wrong:
        _fail(path, f"is not a geometry ({wrong})")
    tree, order = content.get("tree"), content.get("order")
    if (tree is None) == (order is None):
        _fail(path, f"has {'neither' if tree is None else 'both'} of 'tree' and 'order'", "give one of the two")
    known = tuple(order or _classes_below(tree or {}, path))
    twice = [name for name, times in Counter(known).items() if times > 1]
    if twice:
        _fail(path, f"names the class '{twice[0]}' twice", "keep one of the two")
    overrides, notes = content.get("costs") or {}, content.get("notes") or {}
    for name in (
        *overrides,
        *(predicted for row in overrides.values() if isinstance(row, dict) for predicted in row),
        *notes,
    ):
        _check_word(str(name), known, "class", path)
    row = {f"{predicted}?": _COST for predicted in known}
    wrong = mismatch(overrides, {f"{true}?": row | {f"{true}?": _NO_COST} for true in known}, "costs")
    if wrong:
        _fail(path, f"has a wrong cost ({wrong})")
    source = content["source"]
    geometry = Geometry(
        classnames=known,
        tree=tree,
        order=None if order is None else known,
        overrides={true: {name: float(cost) for name, cost in row.items()} for true, row in overrides.items()},
        notes=dict(notes),
        source=(source,) if isinstance(source, str) else tuple(source),
        reviewed=content.get("reviewed", False),
        path=path,
    )
    return geometry if classnames is None else geometry.restrict(classnames)


def _fail(path: Path, what: str, remedy: str = "docs/geometry.md describes the format") -> NoReturn:
    raise UserError(f"{path} {what}: {remedy}.")


def _check_word(word: str, known: Sequence[str], kind: str, path: Path) -> None:
    if word not in known:
        _fail(path, f"has the unknown {kind} '{word}'{did_you_mean(word, known)}")


def _find(path_or_dataset: str | Path) -> Path:
    if Path(path_or_dataset).suffix in (".yaml", ".yml"):
        return Path(path_or_dataset)
    if not re.fullmatch(r"\w[\w.+-]*", str(path_or_dataset)):
        raise UserError(f"'{path_or_dataset}' is neither a data set's name nor a file that ends in .yaml.")
    path = geometry_file(str(path_or_dataset))
    if not path.is_file():
        raise UserError(
            f"Nothing is known about how the classes of {path_or_dataset} relate, as {path} does not exist: "
            "write it (docs/geometry.md describes the format) or give your own .yaml file."
        )
    return path


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, but refusing duplicate keys, of which it would keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise yaml.MarkedYAMLError(problem=f"'{key.value}' is there twice", problem_mark=key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep)


def _leaves(tree: Tree) -> Iterator[str]:
    for name, below in tree.items():
        yield from [name] if below is None else _leaves(below)


def _classes_below(tree: Mapping, path: Path) -> list[str]:
    """The classes of a tree, from the top. Raises UserError for what is neither a group nor a class."""
    names: list[str] = []
    for name, below in tree.items():
        if not TEXT.allows(name):
            _fail(path, f"has the name {name!r} in its tree, which is not text", "put it in quotes")
        if below is not None and not (isinstance(below, dict) and below):
            _fail(path, f"has {below!r} below '{name}' in its tree", "write each class as 'name:' on its own line")
        names += [name] if below is None else _classes_below(below, path)
    return names
