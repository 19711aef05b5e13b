"""Reads and checks a geometry file (docs/geometry.md describes the format)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NoReturn, Union

import yaml

from ogkd.core import UserError, get_most_similar_str_to_a_from_b
from ogkd.core.places import work_folder

FOLDER = Path(__file__).parent
KEYS = ("tree", "order", "costs", "notes", "source", "reviewed")

Tree = Mapping[str, Union["Tree", None]]  # a name with nothing below it is a class


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
                near = get_most_similar_str_to_a_from_b(name, known)
                raise UserError(
                    f"{self.path or 'The geometry'} has no class '{name}' (the nearest is '{near}'): "
                    "its names must be those of the data set."
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
    content = _load(path)
    _check_keys(content, path)
    tree, order = content.get("tree"), content.get("order")
    if (tree is None) == (order is None):
        have = "neither 'tree' nor 'order'" if tree is None else "both 'tree' and 'order'"
        _fail(path, f"has {have}", "give one of the two")
    known = _tree_classes(tree, path) if order is None else _order_classes(order, path)
    geometry = Geometry(
        classnames=known,
        tree=tree if isinstance(tree, dict) else None,
        order=None if order is None else known,
        overrides=_overrides(content.get("costs"), known, path),
        notes=_notes(content.get("notes"), known, path),
        source=_source(content.get("source"), path),
        reviewed=_reviewed(content.get("reviewed", False), path),
        path=path,
    )
    return geometry if classnames is None else geometry.restrict(classnames)


def _fail(path: Path, what: str, remedy: str) -> NoReturn:
    raise UserError(f"{path} {what}: {remedy}.")


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


def _load(path: Path) -> dict[object, object]:
    try:
        content = yaml.load(path.read_bytes(), Loader=_Loader)
    except OSError as error:
        raise UserError(f"The geometry {path} cannot be read ({error.strerror}).") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: {getattr(error, 'problem', '')}" if mark else " ".join(str(error).split())
        raise UserError(f"{path} is not valid YAML ({where}): correct it there.") from error
    if not isinstance(content, dict):
        _fail(path, "is not a geometry", "it must begin with 'tree:' or 'order:'")
    return content


def _check_keys(content: Mapping[object, object], path: Path) -> None:
    for key in content:
        if key not in KEYS:
            near = get_most_similar_str_to_a_from_b(str(key), KEYS)
            _fail(path, f"has the unknown entry '{key}' (did you mean '{near}'?)", f"it can have {', '.join(KEYS)}")


def _leaves(tree: Tree) -> Iterator[str]:
    for name, below in tree.items():
        if below is None:
            yield name
        else:
            yield from _leaves(below)


def _tree_classes(tree: object, path: Path) -> tuple[str, ...]:
    if not isinstance(tree, dict):
        _fail(path, "has a 'tree' that is not a mapping", "write each group and each class as 'name:' on its own line")
    if len(tree) < 2:
        _fail(path, "has a tree with fewer than two branches at its top", "begin it where the classes split")
    try:
        return _unique(_checked_leaves(tree, path), "tree", path)
    except RecursionError:
        _fail(path, "has a tree that is too deep or contains itself", "write out its branches")


def _checked_leaves(tree: Mapping[object, object], path: Path) -> Iterator[str]:
    for name, below in tree.items():
        checked = _check_name(name, "tree", path)
        if below is None:
            yield checked
        elif below == {}:
            _fail(path, f"has the empty group '{name}' in its tree", "put classes into it, or write a class as 'name:'")
        elif isinstance(below, dict):
            yield from _checked_leaves(below, path)
        else:
            what = "a list" if isinstance(below, list) else f"'{below}'"
            _fail(path, f"has {what} below '{name}' in its tree", "write each class as 'name:' on its own line")


def _order_classes(order: object, path: Path) -> tuple[str, ...]:
    if not isinstance(order, list):
        _fail(path, "has an 'order' that is not a list", "write each class as '- name' on its own line")
    for name in order:
        _check_name(name, "order", path)
    if len(order) < 2:
        _fail(path, "has an order of fewer than two classes", "name every class of the data set in it")
    return _unique(order, "order", path)


def _check_name(name: object, where: str, path: Path) -> str:
    """Return the name of a class or group, if it is valid."""
    if not isinstance(name, str):
        _fail(path, f"has a name in its {where} that YAML does not read as text ({name!r})", "put it in quotes")
    if not name.strip():
        _fail(path, f"has an empty name in its {where}", "give it a name or remove it")
    return name


def _unique(names: Iterable[str], where: str, path: Path) -> tuple[str, ...]:
    seen: dict[str, None] = {}
    for name in names:
        if name in seen:
            _fail(path, f"names the class '{name}' twice in its {where}", "keep one of the two")
        seen[name] = None
    return tuple(seen)


def _check_class(name: object, known: Sequence[str], where: str, path: Path) -> None:
    if name not in known:
        near = get_most_similar_str_to_a_from_b(str(name), known)
        _fail(path, f"has the unknown class '{name}' in its {where}", f"the nearest that it knows is '{near}'")


def _overrides(costs: object, known: Sequence[str], path: Path) -> dict[str, dict[str, float]]:
    form = "write {true class: {predicted class: cost}}"
    if costs is None:
        return {}
    if not isinstance(costs, dict):
        _fail(path, "has 'costs' that are not a mapping", form)
    for true, row in costs.items():
        _check_class(true, known, "costs", path)
        if not isinstance(row, dict):
            _fail(path, f"has costs of '{true}' that are not a mapping", form)
        for predicted, cost in row.items():
            _check_class(predicted, known, "costs", path)
            if predicted == true:
                _fail(path, f"has a cost of '{true}' taken for itself", "remove it, as that is no mistake")
            if isinstance(cost, bool) or not isinstance(cost, int | float) or not 0 <= cost <= 1:
                _fail(path, f"has the cost {cost!r} of '{true}' taken for '{predicted}'", "it must be a number in 0..1")
    return {true: {predicted: float(cost) for predicted, cost in row.items()} for true, row in costs.items()}


def _notes(notes: object, known: Sequence[str], path: Path) -> dict[str, str]:
    if notes is None:
        return {}
    if not isinstance(notes, dict):
        _fail(path, "has 'notes' that are not a mapping", "write {true class: sentence}")
    for name, sentence in notes.items():
        _check_class(name, known, "notes", path)
        if not isinstance(sentence, str) or not sentence.strip():
            _fail(path, f"has a note on '{name}' that is not a sentence", "write why its costs are what they are")
    return dict(notes)


def _source(source: object, path: Path) -> tuple[str, ...]:
    sources = source if isinstance(source, list) else [source]
    if not sources or not all(isinstance(line, str) and line.strip() for line in sources):
        _fail(path, "does not say where it comes from", "add 'source:' with a reference or a list of references")
    return tuple(sources)


def _reviewed(reviewed: object, path: Path) -> bool:
    if not isinstance(reviewed, bool):
        _fail(path, f"has 'reviewed: {reviewed}'", "write true if a clinician has reviewed it, false otherwise")
    return reviewed
