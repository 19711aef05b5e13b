"""Figures of how a data set's classes relate: its tree or grades, and the costs of mistakes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ogkd.classes import Geometry, costs
from ogkd.reports.page.canvas import INK, MUTED, SERIES, SMALL, WIDTH, canvas, drawing, place, room, short
from ogkd.reports.page.confusion import matrix

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROW = 24  # pixels per class
LEAF, GROUP = 11, 9.5  # font sizes of names in pixels


def class_tree(geometry: Geometry) -> Figure:
    """The tree of the classes (those tested in the text colour, others grey), or the grades on a line."""
    names = geometry.all_classnames
    with drawing():
        figure = canvas(WIDTH, ROW * len(names) + 16)
        right = room(names, LEAF) + 16
        axes = place(figure, 8, 8, WIDTH - right - 8, ROW * len(names))
        axes.set_ylim(len(names), 0)
        axes.axis("off")
        if geometry.tree is None:
            _grades(axes, names)
        else:
            axes.set_xlim(0, _height(geometry.tree))
            _branch(axes, geometry.tree, 0.0, 0)
        for row, name in enumerate(names):
            axes.annotate(
                short(name), (axes.get_xlim()[1], row + 0.5), (8, 0), textcoords="offset points", va="center",
                fontsize=LEAF, color=INK if name in geometry.classnames else MUTED, annotation_clip=False,
            )  # fmt: skip
    return figure


def cost_matrix(geometry: Geometry) -> Figure:
    """The cost of predicting one class (column) for another (row), in 0..1."""
    values = costs(geometry)
    texts = [["0" if value == 0 else f"{value:.2g}" for value in row] for row in values]
    return matrix("cost: predicted class →", np.asarray(values), geometry.classnames, texts)


def _grades(axes: Axes, names: tuple[str, ...]) -> None:
    axes.set_xlim(0, 1)
    rows = np.arange(len(names)) + 0.5
    axes.plot(np.ones(len(names)) * 0.97, rows, color=SERIES[0], marker="o", linewidth=2)
    axes.text(0.9, 0.5, "lowest grade", ha="right", va="center", color=MUTED, fontsize=SMALL)
    axes.text(0.9, len(names) - 0.5, "highest grade", ha="right", va="center", color=MUTED, fontsize=SMALL)


def _height(tree: Mapping | None) -> int:
    return 0 if tree is None else 1 + max(_height(below) for below in tree.values())


def _branch(axes: Axes, tree: Mapping, x: float, first: int) -> tuple[float, int]:
    """Draw the subtree below a node at depth x. Returns the node's row and the first row after it."""
    end, rows = axes.get_xlim()[1], []
    row = first
    for child, below in tree.items():
        if below is None:
            at, row = row + 0.5, row + 1
            axes.plot([x, end], [at, at], color=SERIES[0], linewidth=1.5)
        else:
            # A node's distance from the leaves is its height, which is how distances are measured.
            own = end - _height(below)
            at, row = _branch(axes, below, own, row)
            axes.plot([x, own], [at, at], color=SERIES[0], linewidth=1.5)
            # As much of the group's name as fits on its line.
            fits = int((own - x) / end * axes.bbox.width / (0.65 * GROUP))
            axes.annotate(
                short(child, max(fits, 4)), (x, at), (5, 2), textcoords="offset points", va="bottom", fontsize=GROUP,
                color=MUTED,
            )  # fmt: skip
        rows.append(at)
    axes.plot([x, x], [rows[0], rows[-1]], color=SERIES[0], linewidth=1.5)
    return (rows[0] + rows[-1]) / 2, row
