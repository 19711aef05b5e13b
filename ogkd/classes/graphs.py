"""Class graphs: row-stochastic matrices (C, C) along which OGKD diffuses the teacher's predictions.

A new graph is one function, registered under its name:

    @register_graph("chain")
    def chain(classnames, dataset, alpha, argument):
        return ...  # (C, C), every row sums to 1

A name that ends in ":" takes an argument: "file:graph.csv" calls the function of "file:" with "graph.csv".
"""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ogkd.classes.costs import distances
from ogkd.classes.files import Geometry, read_geometry
from ogkd.core import UserError, did_you_mean

ROW_SUM_TOLERANCE = 1e-6
TEXT = "text"  # needs a text tower, so the method computes it itself

Graph = Callable[[Sequence[str], str, float, str], np.ndarray]
GRAPHS: dict[str, Graph] = {}


def register_graph(name: str) -> Callable[[Graph], Graph]:
    """Decorator that registers function(classnames, dataset, alpha, argument) -> (C, C) under a name."""

    def enter(function: Graph) -> Graph:
        if name in GRAPHS or name == TEXT:
            raise KeyError(f"There already is a class graph '{name}'.")
        GRAPHS[name] = function
        return function

    return enter


def find_graph(kind: str) -> tuple[Graph, str]:
    """Return a graph's function and argument: "file:graph.csv" -> (function of "file:", "graph.csv").

    Raises UserError for an unknown kind or one whose argument is missing.
    """
    head, colon, argument = kind.partition(":")
    name = head + colon
    if name not in GRAPHS:
        shown = [TEXT, *(f"{known}PATH" if known.endswith(":") else known for known in GRAPHS)]
        near = did_you_mean(kind, shown)
        raise UserError(f"There is no class graph '{kind}'{near}; there are {', '.join(shown)}.")
    if colon and not argument:
        raise UserError(f"The class graph '{kind}' lacks a file: write {kind}PATH.")
    return GRAPHS[name], argument


def graph_file(kind: str, dataset: str) -> Path | None:
    """Return the file that a kind of graph is read from, which affects what is learned; None if it needs none.

    Raises UserError for an unknown kind or a missing file.
    """
    if kind == TEXT:
        return None
    _, argument = find_graph(kind)
    if kind == "geometry":
        return read_geometry(dataset).path
    if argument and not Path(argument).is_file():
        raise UserError(f"The class graph '{kind}' needs the file {argument}, which does not exist.")
    return Path(argument) if argument else None


def class_graph_matrix(kind: str, classnames: Sequence[str], dataset: str, alpha: float) -> np.ndarray:
    """Return a class graph W (C, C), float64, whose rows sum to 1; rows and columns are in the order of `classnames`.

    Args:
        kind: geometry, geometry:PATH, file:PATH, file+:PATH, identity, uniform, or another registered kind.
        classnames: the classes in use; a geometry or a CSV file may have more.
        dataset: the data set's name, for geometry/<DATASET>.yaml.
        alpha: sharpness; similarities are multiplied by it before the softmax.

    Raises:
        UserError: an unknown kind, or a file that cannot be used.
    """
    function, argument = find_graph(kind)
    return function(classnames, dataset, alpha, argument)


def row_softmax(scores: np.ndarray) -> np.ndarray:
    """Softmax of each row of scores (C, C); the rows of the result sum to 1."""
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def similarity(geometry: Geometry) -> np.ndarray:
    """Return similarities (C, C) = 1 - distance, in 0..1 with ones on the diagonal."""
    return 1 - distances(geometry)


@register_graph("geometry")
def _geometry(classnames: Sequence[str], dataset: str, alpha: float, _: str) -> np.ndarray:
    return row_softmax(alpha * similarity(read_geometry(dataset, classnames)))


@register_graph("geometry:")
def _geometry_of_file(classnames: Sequence[str], _: str, alpha: float, path: str) -> np.ndarray:
    return row_softmax(alpha * similarity(read_geometry(Path(path), classnames)))


@register_graph("file:")
def _similarities_of_file(classnames: Sequence[str], _: str, alpha: float, path: str) -> np.ndarray:
    return row_softmax(alpha * read_graph(path, classnames))


@register_graph("file+:")
def _graph_of_file(classnames: Sequence[str], _dataset: str, _alpha: float, path: str) -> np.ndarray:
    return read_graph(path, classnames, stochastic=True)


@register_graph("identity")
def _identity(classnames: Sequence[str], _dataset: str, _alpha: float, _: str) -> np.ndarray:
    return np.eye(len(classnames))


@register_graph("uniform")
def _uniform(classnames: Sequence[str], _dataset: str, _alpha: float, _: str) -> np.ndarray:
    return np.full((len(classnames), len(classnames)), 1 / len(classnames))


def read_graph(path: str | Path, classnames: Sequence[str], stochastic: bool = False) -> np.ndarray:
    """Read a matrix (C, C) from a CSV file with class names in the first row and column, in the order of `classnames`.

    Rows and columns may be in any order in the file. Numbers are read exactly, to the last bit.

    Args:
        stochastic: the file holds a finished graph: no number below 0, no other class, and every row sums to 1 within
            1e-6. Otherwise the file holds similarities, and classes that are not in use are left out.

    Raises:
        UserError: the file cannot be read or breaks a rule; the sentence gives the class or the line.
    """
    names, matrix = _read_csv(Path(path))
    for name in classnames:
        if name not in names:
            raise UserError(f"{path} has no class '{name}'{did_you_mean(name, names)}: add its row and its column.")
    if stochastic:
        for name in names:
            if name not in classnames:
                raise UserError(
                    f"{path} has the class '{name}', which the run does not use: a finished graph (file+:) must have "
                    "the classes of the run and no others; to leave some out, give similarities (file:)."
                )
        _check_stochastic(names, matrix, path)
    index = [names.index(name) for name in classnames]
    return matrix[np.ix_(index, index)]


def _check_stochastic(names: Sequence[str], matrix: np.ndarray, path: str | Path) -> None:
    for name, row in zip(names, matrix, strict=True):
        if row.min() < 0:
            raise UserError(f"{path} has a number below 0 in the row of '{name}': a finished graph (file+:) has none.")
        if abs(row.sum() - 1) > ROW_SUM_TOLERANCE:
            raise UserError(
                f"In {path} the row of '{name}' sums to {row.sum():.8g}: the rows of a finished graph (file+:) sum to "
                "1; give similarities as file: instead."
            )


def _read_csv(path: Path) -> tuple[list[str], np.ndarray]:
    """Return the class names in the order of the columns, and the numbers with rows in the same order."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            lines = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except OSError as error:
        raise UserError(f"The class graph {path} cannot be read ({error.strerror}).") from error
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a CSV file in UTF-8 ({error}): save it as one.") from error
    names = [cell.strip() for cell in lines[0][1][1:]] if lines else []
    if not names:
        raise UserError(f"{path} has no class names in its first row: it must be separated by commas.")
    _check_names(names, "columns", path)

    rows: list[str] = []
    numbers: list[list[float]] = []
    for line, (label, *cells) in lines[1:]:
        if len(cells) != len(names):
            raise UserError(f"{path}, line {line}: {len(cells)} numbers, but there are {len(names)} columns.")
        rows.append(label.strip())
        numbers.append([_number(cell, path, line, name) for cell, name in zip(cells, names, strict=True)])
    _check_names(rows, "rows", path)
    for name in [*names, *rows]:
        if name not in rows or name not in names:
            has, lacks = ("column", "row") if name in names else ("row", "column")
            raise UserError(f"{path} has a {has} for '{name}' but no {lacks}: every class needs both.")
    return names, np.array([numbers[rows.index(name)] for name in names], dtype=float)


def _check_names(names: Sequence[str], where: str, path: Path) -> None:
    for name, times in Counter(names).items():
        if not name:
            raise UserError(f"{path} has an empty name among its {where}: every class has one.")
        if times > 1:
            raise UserError(f"{path} names the class '{name}' twice among its {where}: keep one of the two.")


def _number(cell: str, path: Path, line: int, column: str) -> float:
    try:
        value = float(cell)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{path}, line {line}, column '{column}': '{cell.strip()}' is not a finite number.")
    return value
