"""Tables as the page shows them: cells of text, ranked, with their intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ogkd.evaluation.metrics import METRICS
from ogkd.evaluation.statistics import Interval
from ogkd.reports.page.evidence import Evaluation
from ogkd.reports.render import Table, text

RANKS = ("best", "second")
OVERVIEW = (
    "accuracy", "balanced_accuracy", "macro_f1", "macro_auroc", "expected_calibration_error", "nll", "brier", "aurc",
    "accuracy_at_80_coverage", "expected_cost", "mistake_severity", "quadratic_weighted_kappa",
    "mean_absolute_grade_error",
)  # fmt: skip


@dataclass(frozen=True)
class GridCell:
    """value: the text. below: small print under it. rank: "best", "second" or ""."""

    value: str
    below: str = ""
    rank: str = ""


@dataclass
class Grid:
    """headers: the first is for the row names. rows: (name, cells). caption: what the cells show. footnotes: important
    remarks on cells."""

    headers: list[str]
    rows: list[tuple[str, list[GridCell]]] = field(default_factory=list)
    caption: str = ""
    footnotes: list[str] = field(default_factory=list)


def grid_of(table: Table) -> Grid:
    """A table of ogkd.reports.tables, with its cells' intervals below means and deviations."""
    grid = Grid(table.headers, caption=table.caption, footnotes=table.footnotes)
    for row, ranks in zip(table.rows, table.ranks(), strict=True):
        cells = []
        for cell, rank in zip(row.cells, ranks, strict=True):
            value = text(cell and replace(cell, interval=None), table.decimals)
            below = bracket(cell.interval, 1) if cell and cell.interval else ""
            cells.append(GridCell(value, below, "" if rank is None else RANKS[rank]))
        grid.rows.append((row.name, cells))
    return grid


def bracket(interval: Interval, decimals: int) -> str:
    """The ends of an interval: "61.2 to 68.9"."""
    return f"{interval.low:.{decimals}f} to {interval.high:.{decimals}f}"


def metrics_grid(tests: Sequence[Evaluation]) -> Grid | None:
    """One row per method with predictions, one column per metric that any of them has; None if there are none."""
    tests = [test for test in tests if test.metrics]
    names = [name for name in OVERVIEW if any(name in test.metrics for test in tests)]
    if not tests:
        return None
    columns = [METRICS[name] for name in names]
    grid = Grid(["method", *(f"{one.title} {'↓' if one.lower_is_better else '↑'}" for one in columns)])
    decimals = [1 if one.unit else 3 for one in columns]
    ranked = []
    for one, digits in zip(columns, decimals, strict=True):
        having = [test for test in tests if one.name in test.metrics]
        shown = {round(test.metrics[one.name], digits) for test in having if not test.doubtful}
        ranked.append(sorted(shown, reverse=not one.lower_is_better)[: len(RANKS)] if len(having) > 1 else [])
    for test in tests:
        cells = []
        for one, digits, best in zip(columns, decimals, ranked, strict=True):
            value = test.metrics.get(one.name)
            if value is None:
                cells.append(GridCell("–"))
                continue
            place = round(value, digits)
            rank = RANKS[best.index(place)] if place in best and not test.doubtful else ""
            cells.append(GridCell(f"{value:.{digits}f}", rank=rank))
        grid.rows.append((test.name, cells))
    grid.caption = "Means over seeds. ↑ higher is better, ↓ lower is better. Numbers with one decimal are percentages."
    return grid
