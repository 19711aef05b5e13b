"""A confusion matrix as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ogkd.evaluation.metrics import confusion_matrix
from ogkd.evaluation.predictions import Predictions
from ogkd.reports.page.canvas import INK, MUTED, SERIES, SMALL, WIDTH, canvas, drawing, place, room, short, tint

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LARGEST_CELL = 46  # pixels
STRONGEST = 0.55  # opacity of a full cell; text on it is legible in light and dark
WITH_NUMBERS = 24  # maximum number of classes with numbers in cells
LABEL = 24  # maximum number of characters of a class name


def confusion(name: str, predictions: Predictions, order: Sequence[str] = ()) -> Figure:
    """Percentage of each true class (rows) predicted as each class (columns).

    predictions: pooled over seeds. order: order of the classes with related ones together; default: label order.
    """
    classnames = tuple(one for one in order if one in predictions.classnames) or predictions.classnames
    index = [predictions.classnames.index(one) for one in classnames]
    counts = np.array(confusion_matrix(predictions))[np.ix_(index, index)]
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    return matrix(
        f"{name}: predicted class →",
        shares,
        classnames,
        [[f"{100 * s:.0f}" for s in row] for row in shares],
    )


def matrix(title: str, shares: np.ndarray, classnames: tuple[str, ...], texts: list[list[str]]) -> Figure:
    """A matrix of cells with opacity by shares (C, C) in 0..1 and a text in each; names on the left, their numbers on
    top."""
    size = len(classnames)
    left = room([f"{short(one, LABEL)} 00" for one in classnames]) + 10
    cell = min(LARGEST_CELL, (WIDTH - left - 8) / size)
    with drawing():
        figure = canvas(max(left + cell * size + 8, 300), cell * size + 52)
        axes = place(figure, left, 6, cell * size, cell * size)
        for row in range(size):
            for column in range(size):
                share = float(shares[row, column])
                axes.fill(
                    [column, column + 1, column + 1, column], [row, row, row + 1, row + 1],
                    facecolor=tint(SERIES[0], STRONGEST * share), linewidth=0,
                )  # fmt: skip
                if size <= WITH_NUMBERS and texts[row][column] not in ("", "0"):
                    axes.text(
                        column + 0.5, row + 0.5, texts[row][column], ha="center", va="center",
                        fontsize=min(SMALL, cell * 0.42), color=INK,
                    )  # fmt: skip
        for i in range(size):
            axes.plot([i, i + 1, i + 1, i, i], [i, i, i + 1, i + 1, i], color=MUTED, linewidth=1)
        axes.set_xlim(0, size)
        axes.set_ylim(size, 0)
        for spine in axes.spines.values():
            spine.set_visible(True)
        small = max(min(SMALL, cell * 0.7), 4)
        ticks = np.arange(size) + 0.5
        axes.set_yticks(ticks, [f"{short(one, LABEL)} {i}" for i, one in enumerate(classnames, 1)], fontsize=small)
        axes.set_xticks(ticks, list(map(str, range(1, size + 1))), fontsize=small)
        axes.xaxis.tick_top()
        axes.tick_params(length=0)
        figure.text(0.004, 1 - 6 / (cell * size + 52), short(title, 64), va="top", fontweight="bold")
    return figure
