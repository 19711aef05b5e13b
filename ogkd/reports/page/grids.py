"""Tables as the page shows them: cells of text, ranked, with small print such as intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from ogkd.evaluation.metrics import METRICS
from ogkd.evaluation.statistics import Interval
from ogkd.reports.page.evidence import Evaluation
from ogkd.reports.render import Table, text

RANKS: dict[int | None, str] = {0: "best", 1: "second"}
OVERVIEW = (
    "accuracy", "balanced_accuracy", "macro_f1", "macro_auroc", "expected_calibration_error", "nll", "brier", "aurc",
    "accuracy_at_80_coverage", "expected_cost", "mistake_severity", "quadratic_weighted_kappa",
    "mean_absolute_grade_error",
)  # fmt: skip


class GridCell(NamedTuple):
    """value: the text. below: small print under it. rank: "best", "second" or ""."""

    value: str
    below: str = ""
    rank: str = ""


@dataclass
class Grid:
    """headers: the first is for the row names. rows: (name, cells). caption: what the cells show. footnotes: important
    remarks on cells."""

    headers: Sequence[str]
    rows: list[tuple[str, Sequence[GridCell]]] = field(default_factory=list)
    caption: str = ""
    footnotes: Sequence[str] = ()


def grid_of(table: Table) -> Grid:
    """A table of ogkd.reports.tables, with its cells' intervals below means and deviations."""
    grid = Grid(table.headers, caption=table.caption, footnotes=table.footnotes)
    for row, ranks in zip(table.rows, table.ranks(), strict=True):
        values = [text(cell and replace(cell, interval=None), table.decimals) for cell in row.cells]
        below = [bracket(cell.interval) if cell else "" for cell in row.cells]
        grid.rows.append((row.name, list(map(GridCell, values, below, (RANKS.get(rank, "") for rank in ranks)))))
    return grid


def bracket(interval: Interval | None, form: str = ".1f") -> str:
    """The ends of an interval: "61.2 to 68.9"; "" without one."""
    return f"{interval.low:{form}} to {interval.high:{form}}" if interval else ""


def metrics_grid(tests: Sequence[Evaluation]) -> Grid:
    """One row per method, one column per metric that any of them has."""
    import pandas as pd

    values = pd.DataFrame([test.metrics for test in tests])
    doubtful = [test.doubtful for test in tests]
    headers, columns = ["method"], []
    for metric in (METRICS[name] for name in OVERVIEW if name in values):
        digits = 1 if metric.unit else 3
        shown = values[metric.name].round(digits)
        ranks = shown.mask(doubtful).rank(method="dense", ascending=metric.lower_is_better)
        if shown.count() < 2:
            ranks[:] = 0
        headers.append(f"{metric.title} {'↓' if metric.lower_is_better else '↑'}")
        columns.append(
            [
                GridCell("–" if pd.isna(value) else f"{value:.{digits}f}", rank=RANKS.get(rank - 1, ""))
                for value, rank in zip(shown, ranks, strict=True)
            ]
        )
    caption = "Means over seeds. ↑ higher is better, ↓ lower is better. Numbers with one decimal are percentages."
    return Grid(headers, [(test.name, cells) for test, *cells in zip(tests, *columns, strict=True)], caption)
