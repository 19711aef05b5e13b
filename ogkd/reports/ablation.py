"""The table of an ablation: accuracy and other metrics that a variant may affect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ogkd.core import UserError
from ogkd.evaluation.collect import Run
from ogkd.evaluation.metrics import find
from ogkd.reports.render import Table
from ogkd.reports.tables import TABLES

BESIDE = ("expected_calibration_error", "expected_cost")


def ablation_table(runs: Sequence[Run], protocol: str) -> Table:
    """The protocol's accuracy table with additional unranked columns for calibration error and expected cost.

    runs: runs of one data set and backbone. A metric without values gets no column; one without a unit is multiplied by
        100, so that the table's digits suffice.

    Raises:
        UserError: no run is finished, or the runs are of several data sets.
    """
    tables = TABLES[protocol](runs)
    if len(tables) != 1:
        raise UserError(f"An ablation needs one data set, but there are finished runs of {len(tables)}.")
    result = tables[0]
    for metric in BESIDE:
        measured, other = find(metric), TABLES[protocol](runs, metric)[0]
        scale, title = (1, measured.title) if measured.unit else (100, f"100 × {measured.title}")
        cells_of = {row.key: row.cells for row in other.rows}
        for header in other.headers[1:]:
            if not any(cells.get(header) for cells in cells_of.values()):
                continue
            result.headers.append(name := f"{title}, {header}")
            for row in result.rows:
                cell = cells_of[row.key].get(header)
                row.cells[name] = cell and replace(cell, mean=scale * cell.mean, std=scale * cell.std)
    return result
