"""The plot of a metric over the values of an option, and how figures are saved.

Matplotlib is imported inside the functions, so that tables print without delay.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ogkd.core import UserError, atomic_path
from ogkd.evaluation.collect import Run
from ogkd.evaluation.metrics import find
from ogkd.reports.cells import Cell
from ogkd.reports.tables import TABLES, led_by

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colours, distinguishable with any colour vision; each line also has its own marker.
STYLES = (("#0072B2", "o"), ("#D55E00", "s"), ("#000000", "^"), ("#009E73", "D"), ("#CC79A7", "v"))


def save(figure: Figure, path: Path, dpi: int = 200) -> list[Path]:
    """Write a figure as PNG and PDF, each atomically; `path` has no suffix. Returns the two files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    files = {kind: path.with_name(f"{path.name}.{kind}") for kind in ("png", "pdf")}
    for kind, file in files.items():
        undated = {"CreationDate": None} if kind == "pdf" else None  # equal figures give identical files
        with atomic_path(file) as temporary:
            figure.savefig(temporary, format=kind, dpi=dpi, metadata=undated)
    return list(files.values())


def sensitivity(runs: Sequence[Run], option: str, metric: str = "accuracy") -> Figure:
    """One line over an option's values for each table column: base, novel and HM, or one per number of shots.

    Bars show the population standard deviation over seeds; a dotted line marks the value in the method's configuration
    files.

    Args:
        runs: runs of one method, data set, protocol and backbone that differ only in the option and the seed.
        option: a configuration key with numeric values, such as "TRAINER.OGKD.GAMMA".

    Raises:
        UserError: there are no runs, one lacks the option, or they differ in more than the option.
    """
    from matplotlib.figure import Figure

    if not runs:
        raise UserError(f"There is no run to draw over {option}.")
    lines = _lines(runs, option, metric)
    measured = find(metric)
    figure = Figure(figsize=(5, 3.4), layout="constrained")
    axes = figure.add_subplot(xlabel=option.rpartition(".")[2])
    axes.set_ylabel(f"{measured.title} ({measured.unit})" if measured.unit else measured.title)
    axes.set_title(runs[0].dataset, fontsize="medium")
    for number, (name, points) in enumerate(lines.items()):
        color, marker = STYLES[number % len(STYLES)]
        spread = [cell.std for cell in points.values()] if any(cell.seeds > 1 for cell in points.values()) else None
        axes.errorbar(
            list(points), [cell.mean for cell in points.values()], yerr=spread, label=name, color=color, marker=marker,
            markersize=5, linewidth=1.4, capsize=3,
        )  # fmt: skip
    for value in {_value(run, option) for run in runs if run.changed is not None and option not in run.changed}:
        axes.axvline(value, color="0.6", linestyle=":", linewidth=1.2, zorder=0, label="as configured")
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside lower center", ncols=5, frameon=False, fontsize="small")
    return figure


def _lines(runs: Sequence[Run], option: str, metric: str) -> dict[str, dict[float, Cell]]:
    """{column: {value of the option: cell}}, both in order; columns without cells are left out."""
    at_value: dict[float, list[Run]] = {}
    for run in runs:
        at_value.setdefault(_value(run, option), []).append(run)
    make = TABLES["few_shot" if runs[0].kind == "few_shot" else "base2new"]
    lines: dict[str, dict[float, Cell]] = {}
    for value in sorted(at_value):
        tables = make(at_value[value], metric)
        if len(tables) != 1 or len(tables[0].rows) != 1:
            raise UserError(f"The runs of {option} {value:g} differ in more than that: draw one configuration.")
        table = led_by(tables[0], False)
        for name, cell in zip(table.headers[1:], table.rows[0].cells, strict=True):
            if cell:
                lines.setdefault(name, {})[value] = cell
    return lines


def _value(run: Run, option: str) -> float:
    node: object = run.results["config"]
    for part in option.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    if isinstance(node, bool) or not isinstance(node, int | float):
        raise UserError(f"{run.path} has no number {option} in its configuration to draw over.")
    return float(node)
