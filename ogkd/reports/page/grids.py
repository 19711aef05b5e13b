"""Tables as the page shows them: intervals below means, best and second marked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from ogkd.evaluation.metrics import METRICS, OF_FEW_IMAGES
from ogkd.evaluation.statistics import Interval
from ogkd.reports.cells import Cell, Text
from ogkd.reports.page.evidence import Evaluation
from ogkd.reports.render import Row, Table, digits_of, text

RANKS = {0: "best", 1: "second", None: ""}
OVERVIEW = (
    "accuracy", "balanced_accuracy", "macro_f1", "macro_auroc", "expected_calibration_error", "nll", "brier", "aurc",
    "accuracy_at_80_coverage", "expected_cost", "mistake_severity", "quadratic_weighted_kappa",
    "mean_absolute_grade_error",
)  # fmt: skip


class GridCell(NamedTuple):
    """value: the text. below: small print under it. rank: "best", "second" or ""."""

    value: str
    below: str
    rank: str


def grid(table: Table) -> Iterator[tuple[str, list[GridCell]]]:
    """The rows of a table for the template: (name, cells)."""
    for row, ranks in zip(table.rows, table.ranks(), strict=True):
        cells = []
        for header, cell in table.line(row).items():
            below = cell.below if isinstance(cell, Text) else ""
            if cell and cell.interval:
                digits = digits_of(cell, table.decimals)
                below = bracket(cell.interval, f".{digits if digits > 2 else 1}f")
            value = text(cell and replace(cell, interval=None), table.decimals)
            cells.append(GridCell(value, below, RANKS[ranks.get(header)]))
        yield row.name, cells


def bracket(interval: Interval, form: str) -> str:
    """The bounds of an interval: "61.2 to 68.9"."""
    return f"{interval.low:{form}} to {interval.high:{form}}"


def metrics_table(tests: Sequence[Evaluation]) -> Table:
    """One row per method, one column per metric that any of them has."""
    lead = "balanced_accuracy" if tests and tests[0].lead else "accuracy"
    shown = dict.fromkeys((lead, *OVERVIEW))
    metrics = {name: METRICS[name] for name in shown if any(name in test.metrics for test in tests)}
    header = {name: f"{one.title} {'↓' if one.lower_is_better else '↑'}" for name, one in metrics.items()}
    table = Table("", ["method", *header.values()])
    several = [name for name in metrics if sum(name in test.metrics for test in tests) > 1]
    table.ranked = [header[name] for name in several if name in (lead, *OVERVIEW[1:])]
    table.lower = [header[name] for name, one in metrics.items() if one.lower_is_better]
    for test in tests:
        row = Row(test.name)
        for name, one in metrics.items():
            if name in test.metrics:
                doubtful = test.doubtful or (one.inflated and test.trivially_calibrated)
                row.cells[header[name]] = Cell(test.metrics[name], decimals=1 if one.unit else 3, doubtful=doubtful)
        table.rows.append(row)
    table.caption = (
        "Means over seeds. ↑ higher is better, ↓ lower is better. Numbers with one decimal are percentages. "
        f"{OF_FEW_IMAGES}"
    )
    return table
