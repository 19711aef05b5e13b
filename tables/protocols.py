"""The two protocols' tables: of a data set, and averaged over data sets."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from .collect import DISPLAY, Run, collect, row_order
from .render import Table, render
from .statistics import Cell, cell, harmonic_mean, hm_cell, warnings

PUBLISHED = json.loads(Path(__file__).with_name("published.json").read_text())
PUBLISHED_BACKBONE = "BiomedCLIP"
LOWER_IS_BETTER = ("expected_calibration_error",)


class Runs:
    """Finished runs, chosen by what the caller names."""

    def __init__(
        self,
        runs: Sequence[Run],
        methods: Sequence[str] | None = None,
        seeds: Sequence[int] | None = None,
        backbone: str | None = None,
        datasets: Sequence[str] | None = None,
    ) -> None:
        self.runs = [
            run
            for run in runs
            if (methods is None or run.method in methods)
            and (seeds is None or run.seed in seeds)
            and (backbone is None or run.backbone == backbone)
            and (datasets is None or run.dataset in datasets)
        ]

    def of(self, kind: str, **fields: object) -> list[Run]:
        """Runs of a kind with the given fields."""
        wanted = fields.items()
        return [r for r in self.runs if r.kind == kind and all(getattr(r, name) == value for name, value in wanted)]

    def methods(self, *kinds: str) -> list[str]:
        return row_order(run.method for run in self.runs if run.kind in kinds)

    def datasets(self, *kinds: str) -> list[str]:
        return sorted({run.dataset for run in self.runs if run.kind in kinds})


def dataset_base2new(runs: Runs, dataset: str, metric: str = "accuracy", seconds: bool = False) -> Table:
    """Base, novel and HM of each method on a data set."""
    table = Table(
        f"{dataset} base2new",
        ["method", "base", "novel", "HM", *(["seconds"] if seconds else [])],
        ranked=[True, True, True],
        lower=metric in LOWER_IS_BETTER,
    )
    for method in runs.methods("train_base"):
        base = runs.of("train_base", method=method, dataset=dataset)
        novel = runs.of("test_new", method=method, dataset=dataset)
        cells = [cell(base, metric), cell(novel, metric)]
        row = [*cells, hm_cell(*cells)]
        if seconds and base:
            row.append(Cell(float(np.mean([_seconds(run, novel) for run in base]))))
        if base:
            table.rows.append((DISPLAY.get(method, method), row))
    return table


def _seconds(base: Run, novel: Sequence[Run]) -> float:
    """Seconds of a seed: its training with the base test, and its novel test."""
    return base.results["seconds"] + sum(run.results["seconds"] for run in novel if run.seed == base.seed)


def dataset_few_shot(runs: Runs, dataset: str, metric: str = "accuracy", seconds: bool = False) -> Table:
    """A column a number of shots, a row a method."""
    shots = sorted({run.shots for run in runs.of("few_shot", dataset=dataset)})
    headers = ["method", *(f"{number} shot{'s' if number > 1 else ''}" for number in shots)]
    table = Table(
        f"{dataset} few-shot",
        headers + (["seconds"] if seconds else []),
        ranked=[True] * len(shots),
        lower=metric in LOWER_IS_BETTER,
    )
    for method in runs.methods("few_shot"):
        found = [runs.of("few_shot", method=method, dataset=dataset, shots=number) for number in shots]
        row = [cell(of_shots, metric) for of_shots in found]
        if seconds:
            row.append(cell([run for of_shots in found for run in of_shots], "seconds"))
            row[-1] = row[-1] and Cell(row[-1].mean)
        if any(found):
            table.rows.append((DISPLAY.get(method, method), row))
    return table


def average(tables: Sequence[Table], protocol: str) -> tuple[Table, list[str]]:
    """Means over the data sets that every method has, with the names of those left out.

    base and novel are arithmetic means; HM is that of these.
    """
    names = row_order_of(tables)
    complete = [t for t in tables if {name for name, _ in t.rows} >= set(names) and t.headers == tables[0].headers]
    left_out = [t.title for t in tables if t not in complete]
    result = Table(f"average {protocol}", tables[0].headers, ranked=tables[0].ranked, lower=tables[0].lower)
    for name in names if complete else []:
        rows = [dict(table.rows)[name] for table in complete]
        columns = [_mean_cell(list(column)) for column in zip(*rows, strict=True)]
        if protocol == "base2new" and columns[0] and columns[1]:
            columns[2] = Cell(harmonic_mean(columns[0].mean, columns[1].mean))
        result.rows.append((name, columns))
    return result, left_out


def row_order_of(tables: Sequence[Table]) -> list[str]:
    """Names of all rows, in the tables' order."""
    methods = {shown: method for method, shown in DISPLAY.items()}
    order = row_order(methods.get(name, name) for table in tables for name, _ in table.rows)
    return [DISPLAY.get(name, name) for name in order]


def _mean_cell(cells: list[Cell | None]) -> Cell | None:
    if any(one is None for one in cells):
        return None
    return Cell(float(np.mean([one.mean for one in cells])))


def with_published(table: Table, protocol: str) -> Table:
    """The average table with the published averages and the differences, ours minus published."""
    published = PUBLISHED[protocol]
    known = published.get("columns") or [f"{k} shot{'s' if k > 1 else ''}" for k in published["shots"]]
    result = Table(table.title, [table.headers[0]], lower=table.lower)
    columns = [name for name in table.headers[1:] if name in known]
    ranked = []
    for name in columns:
        result.headers += [name, f"{name} published", f"{name} difference"]
        ranked += [True, False, False]
    result.ranked = ranked
    methods = {shown: method for method, shown in DISPLAY.items()}
    for shown, cells in table.rows:
        theirs = published.get(methods.get(shown, shown))
        row: list[Cell | None] = []
        for name in columns:
            own = cells[table.headers.index(name) - 1]
            other = Cell(theirs[known.index(name)]) if theirs else None
            row += [own, other, Cell(own.mean - other.mean) if own and other else None]
        result.rows.append((shown, row))
    return result


def cell_warnings(runs: Runs) -> list[str]:
    """What should not have been averaged, and cells with fewer seeds than others."""
    groups: dict[tuple, list[Run]] = {}
    for run in runs.runs:
        groups.setdefault((run.kind, run.dataset, run.backbone, run.method, run.shots), []).append(run)
    most = max((len(group) for group in groups.values()), default=0)
    found = []
    for key, group in groups.items():
        name = " ".join(map(str, key))
        found += warnings(group, name)
        if len(group) < most:
            found.append(f"{name}: {len(group)} seeds, others have {most}.")
    return found


def base2new_table(
    output: Path, dataset: str, methods: Sequence[str] | None = None, seeds: Sequence[int] | None = None,
    backbone: str | None = None, fmt: str = "markdown", seconds: bool = False,
) -> str:  # fmt: skip
    """A data set's base-to-novel table over the finished runs below a folder."""
    runs = Runs(collect(Path(output)), methods, seeds, backbone, [dataset])
    return render(dataset_base2new(runs, dataset, seconds=seconds), fmt)


def few_shot_table(
    output: Path, dataset: str, methods: Sequence[str] | None = None, seeds: Sequence[int] | None = None,
    backbone: str | None = None, fmt: str = "markdown", seconds: bool = False,
) -> str:  # fmt: skip
    """A data set's few-shot table over the finished runs below a folder."""
    runs = Runs(collect(Path(output)), methods, seeds, backbone, [dataset])
    return render(dataset_few_shot(runs, dataset, seconds=seconds), fmt)


def average_table(output: Path, protocol: str, backbone: str) -> str:
    """The table averaged over data sets, in Markdown."""
    runs = Runs(collect(Path(output)), backbone=backbone)
    kind, make = {"base2new": ("train_base", dataset_base2new), "few_shot": ("few_shot", dataset_few_shot)}[protocol]
    return render(average([make(runs, dataset) for dataset in runs.datasets(kind)], protocol)[0])
