"""Runs of one backbone and one protocol: tables with intervals, their figures, and the tests behind each column."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from ogkd.evaluation.statistics import combine
from ogkd.reports.cells import AnyCell, Cell, Text, harmonic_mean
from ogkd.reports.page.evidence import Evaluation, draws_for
from ogkd.reports.page.figures import Drawing, score_bars, shot_curves
from ogkd.reports.page.grids import bracket
from ogkd.reports.page.material import Material
from ogkd.reports.render import Table
from ogkd.reports.tables import TABLES, average
from ogkd.reports.variants import KINDS, shots_name

TITLES = {"base2new": "Base to novel", "few_shot": "Few-shot"}


@dataclass
class Part:
    """A protocol's results on one data set.

    draws: those of an interval, 0 if there are none. floors: {set of test images: accuracy in percent of the most
    frequent class}. glance: rows of the page's summary.
    """

    title: str
    table: Table
    drawing: Drawing
    draws: int
    floors: dict[str, float]
    glance: list[list[AnyCell]]


class Protocol:
    """name: base2new or few_shot. tables: {data set: table}. columns: {data set: {column: its tests}}."""

    def __init__(self, name: str, backbone: str, material: Material) -> None:
        self.name, self.title, self.material = name, TITLES[name], material
        finished = [run for run in material.runs if run.backbone == backbone]
        datasets = {run.dataset for run in finished if run.kind in KINDS[name]}
        runs = [*finished, *(run for run in material.diverged if run.backbone == backbone and run.dataset in datasets)]
        tables = TABLES[name](runs)
        material.remark(*(note for table in tables for note in table.notes))
        self.tables: dict[str, Table] = {table.datasets[0]: table for table in tables}
        self.columns: dict[str, dict[str, list[Evaluation]]] = {
            dataset: {
                header: [
                    Evaluation(dataset, row, seeds, material)
                    for row in table.rows
                    if (seeds := sorted((r for r in row.runs[header] if not r.diverged), key=lambda run: run.seed))
                ]
                for header in table.headers[1:]
                if header != "HM"
            }
            for dataset, table in self.tables.items()
        }
        self.draws = draws_for([test for dataset in self.tables for test in self.tests(dataset)])
        self.tested = {dataset for dataset in self.tables if any(self.tests(dataset))}
        self.table = cache(self._table)

    def tests(self, dataset: str) -> Iterator[Evaluation]:
        """All tests on a data set."""
        for tests in self.columns[dataset].values():
            yield from tests

    def details(self, dataset: str) -> dict[str, list[Evaluation]]:
        """The tests for detailed figures, by title: base and novel classes, or the largest number of shots."""
        columns = [(header, tests) for header, tests in self.columns[dataset].items() if tests]
        if self.name == "base2new":
            return {f"{part} classes": tests for part, tests in columns}
        return {f"all classes, {shots}": tests for shots, tests in columns[-1:]}

    def average(self) -> Table | None:
        """The means over data sets with intervals for these fixed data sets; None if not even two can be averaged."""
        if len(self.tables) < 2:
            return None
        table, notes = average([self.table(dataset) for dataset in self.tables], self.name)
        self.material.remark(*notes)
        return table if table.rows and len(table.datasets) > 1 else None

    def part(self, anchor: str, dataset: str, colours: Mapping[str, int]) -> Part:
        """The results on a data set. anchor: start of the figure's name. colours: {method: number of its colour}."""
        table, details = self.table(dataset), self.details(dataset)
        floors = {title: floor for title, tests in details.items() if (floor := _most_frequent(tests)) is not None}
        title, name = f"{self.title}: accuracy", f"{anchor}-{self.name.replace('_', '-')}"
        if self.name == "base2new" or len(self.columns[dataset]) == 1:
            drawing = Drawing(name, title, "Horizontal bars of the accuracies in the table.", score_bars(table))
        else:
            number = {shots_name(run.shots): run.shots for run in [*self.material.runs, *self.material.diverged]}
            shots = [number[header] for header in table.headers[1:]]
            figure = shot_curves(table, shots, colours, next(iter(floors.values()), None))
            drawing = Drawing(name, title, "Curves of the accuracies in the table over the shots.", figure)
        measured = any(cell and cell.interval for row in table.rows for cell in row.cells)
        glance = [self._glance(title, tests, floors.get(title)) for title, tests in details.items()]
        return Part(self.title, table, drawing, self.draws if measured else 0, floors, glance)

    def _table(self, dataset: str) -> Table:
        """A data set's table with intervals over test images."""
        table, rows = self.tables[dataset], []
        for row in table.rows:
            intervals = {
                header: test.interval("accuracy", self.draws)
                for header, tests in self.columns[dataset].items()
                for test in tests
                if test.row is row
            }
            if (base := intervals.get("base")) and (novel := intervals.get("novel")):
                intervals["HM"] = combine(harmonic_mean, base, novel)
            cells = zip(table.headers[1:], row.cells, strict=True)
            rows.append(replace(row, cells=[c and replace(c, interval=intervals.get(header)) for header, c in cells]))
        return replace(table, rows=rows)

    def _glance(self, title: str, tests: Sequence[Evaluation], floor: float | None) -> list[AnyCell]:
        """The best method on a set of test images, its gain over zero-shot on the same images, and the floor."""
        zero = next((test for test in tests if test.row.method == "ZeroShot"), None)
        best = max((test for test in tests if not test.doubtful), key=lambda test: test.accuracy, default=None)
        accuracy, of_zero = (one.interval("accuracy", self.draws) if one else None for one in (best, zero))
        gain = None
        if accuracy and of_zero and best is not zero and accuracy.images == of_zero.images:
            gain = combine(lambda ours, theirs: ours - theirs, accuracy, of_zero)
        return [
            Text(title),
            Text(best.name) if best else Text("–", "all results are doubtful"),
            Cell(best.accuracy, interval=accuracy) if best else None,
            Cell(zero.accuracy) if zero else None,
            Text(f"{gain.value:+z.1f}", bracket(gain, "+z.1f")) if gain else None,
            None if floor is None else Cell(floor),
        ]


def _most_frequent(tests: Sequence[Evaluation]) -> float | None:
    """Accuracy in percent of always naming the class that has the most test images; None without predictions."""
    labels = next((test.predictions[0].labels for test in tests if test.predictions), None)
    return None if labels is None else 100 * float(np.bincount(labels).max() / len(labels))
