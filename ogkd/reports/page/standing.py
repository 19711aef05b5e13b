"""How the methods compare on a data set in one protocol: a table, a figure and rows of the summary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np

from ogkd.core import UserError
from ogkd.evaluation.statistics import Interval, paired_difference
from ogkd.reports.page.canvas import Drawing
from ogkd.reports.page.evidence import Evaluation
from ogkd.reports.page.grids import Grid, GridCell, bracket
from ogkd.reports.page.protocol import Protocol
from ogkd.reports.page.scores import PARTS, base_novel_bars, few_shot_curves

BARS = "Methods were trained on the base classes, not on the novel ones; HM is the harmonic mean of both."
LINES = " A line across a bar's end is its 95 % interval over test images."
CURVES = "How accuracy grows with the number of training images per class."
BANDS = " Bands are 95 % intervals over test images."
GREY = " Methods that the detailed figures leave out are grey, each with a letter."


@dataclass
class Standing:
    """A protocol's table and figure. floors: {test: accuracy in percent of the most frequent class}."""

    title: str
    grid: Grid
    drawing: Drawing
    how_to_read: str
    floors: dict[str, float]
    glance: list[tuple[str, list[GridCell]]]


def standing(anchor: str, dataset: str, protocol: Protocol, colours: Mapping[str, int]) -> Standing:
    """The table and figure of a protocol. colours: {method with a colour: its number}."""
    intervals = protocol.intervals(dataset)
    scores = protocol.scores(dataset)
    details = protocol.details(dataset)
    floors = {title: floor for title, tests in details if (floor := _floor(tests)) is not None}
    if protocol.name == "base2new":
        figure = base_novel_bars({name: {part: of.get(part) for part in PARTS} for name, of in scores.items() if of})
        drawing = Drawing(
            f"{anchor}-base-novel", "Base, novel and HM", "Horizontal bars of the accuracies in the table.", figure
        )
        how_to_read = BARS + (LINES if intervals else "")
    else:
        curves = {
            name: [(shots, of_row[header]) for header, shots in protocol.columns(dataset) if header in of_row]
            for name, of_row in scores.items()
        }
        curves = {name: points for name, points in curves.items() if points}
        figure = few_shot_curves(curves, colours, next(iter(floors.values()), None))
        drawing = Drawing(
            f"{anchor}-few-shot", "Accuracy over shots", "Curves of the accuracies in the table over the shots.", figure
        )
        how_to_read = CURVES + (BANDS if intervals else "") + ("" if set(curves) <= set(colours) else GREY)
    glance = [_glance(protocol, title, tests, floors.get(title)) for title, tests in details]
    return Standing(protocol.title, protocol.grid(dataset), drawing, how_to_read, floors, glance)


def _glance(
    protocol: Protocol, title: str, tests: Sequence[Evaluation], floor: float | None
) -> tuple[str, list[GridCell]]:
    """The summary's row for a test: the best method, zero-shot, and the accuracy of the most frequent class."""
    best = max(tests, key=lambda test: (not test.doubtful, test.accuracy))
    interval = best.interval("accuracy", protocol.draws)
    zero = next((test for test in tests if test.variant.method == "ZeroShot"), None)
    return title, [
        GridCell(best.name),
        GridCell(f"{best.accuracy:.1f}", bracket(interval, 1) if interval else ""),
        GridCell(f"{zero.accuracy:.1f}" if zero else "–"),
        _gain(best, zero, protocol.draws),
        GridCell("–" if floor is None else f"{floor:.1f}"),
    ]


def _gain(best: Evaluation, zero: Evaluation | None, draws: int) -> GridCell:
    """The gain of the best method over zero-shot on the same images."""
    if zero is None or zero is best or not (best.predictions and zero.predictions):
        return GridCell("–")
    try:
        found = cast(Interval, paired_difference("accuracy", best.predictions, zero.predictions, draws=draws))
    except UserError:  # they were tested on different images
        return GridCell("–")
    return GridCell(_signed(found.value), f"{_signed(found.low)} to {_signed(found.high)}")


def _signed(value: float) -> str:
    return f"{value:+.1f}" if round(value, 1) else "0.0"


def _floor(tests: Sequence[Evaluation]) -> float | None:
    """Accuracy in percent of always answering with the class that has the most test images."""
    for test in tests:
        if test.predictions:
            labels = test.predictions[0].labels
            return 100 * float(np.bincount(labels).max() / len(labels))
    return None
