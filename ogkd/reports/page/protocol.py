"""Runs of one backbone, draw and protocol: tables with intervals, their figures, and the tests behind each column."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

import numpy as np

from ogkd.evaluation.metrics import METRICS
from ogkd.evaluation.statistics import Interval, combine
from ogkd.evaluation.tested import sample, sampled
from ogkd.reports.cells import AnyCell, Cell, Text, harmonic_mean, on_same_seeds
from ogkd.reports.page.evidence import Evaluation, draws_for
from ogkd.reports.page.figures import Drawing, score_bars, shot_curves
from ogkd.reports.page.grids import bracket
from ogkd.reports.page.material import Material
from ogkd.reports.render import Table
from ogkd.reports.tables import BALANCED, TABLES, average, led_by
from ogkd.reports.variants import KINDS, PARTS, shots_name

TITLES = {"base2new": "Base to novel", "few_shot": "Few-shot"}


class Floor(NamedTuple):
    """Accuracy and balanced accuracy in percent of always naming the class that has the most test images."""

    accuracy: float
    balanced: float


@dataclass
class Part:
    """A protocol's results on one data set.

    measured: what its figure shows. draws: those of an interval, 0 if there are none. over: what intervals are over.
    floors: by set of test images. glance: rows of the page's summary. bars, curves: whether the figure has bars, or a
    line over the shots; else it has points.
    """

    title: str
    table: Table
    drawing: Drawing
    draws: int
    floors: dict[str, Floor]
    glance: list[list[AnyCell]]
    measured: str
    over: str
    bars: bool
    curves: bool


class Protocol:
    """name: base2new or few_shot. tables: {data set: table}. columns: {data set: {column: its tests}}."""

    def __init__(self, name: str, of_runs: str, material: Material) -> None:
        self.name, self.title, self.material = name, TITLES[name], material
        finished = [run for run in material.runs if run.backbone_and_draw == of_runs]
        datasets = {run.dataset for run in finished if run.kind in KINDS[name]}
        diverged = [run for run in material.diverged if run.backbone_and_draw == of_runs and run.dataset in datasets]
        runs = [*finished, *diverged]
        tables = TABLES[name](runs)
        material.remark(*(note for table in tables for note in table.notes))
        self.tables: dict[str, Table] = {table.datasets[0]: table for table in tables}
        self.columns: dict[str, dict[str, list[Evaluation]]] = {
            dataset: {
                header: [
                    Evaluation(dataset, row, seeds, material, "balanced_accuracy" if table.balanced else "accuracy")
                    for row in table.rows
                    if (seeds := sorted((r for r in row.runs[header] if not r.diverged), key=lambda run: run.seed))
                ]
                for header in led_by(table, False).headers[1:]
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
        floors = {title: floor for title, tests in details.items() if (floor := most_frequent(tests))}
        led, what = led_by(table, True), METRICS["balanced_accuracy" if table.balanced else "accuracy"].title
        title, name = f"{self.title}: {what}", f"{anchor}-{self.name.replace('_', '-')}"
        if bars := self.name == "base2new" or len(self.columns[dataset]) == 1:
            figure, alt = score_bars(led, what), f"Horizontal bars of the {what} in the table."
        else:
            number = {shots_name(run.shots): run.shots for run in [*self.material.runs, *self.material.diverged]}
            shots = [number[header] for header in led.headers[1:]]
            lowest = next((one.balanced if table.balanced else one.accuracy for one in floors.values()), None)
            figure, alt = shot_curves(led, shots, colours, lowest, what), f"The {what} in the table over the shots."
        drawing = Drawing(name, title, alt, figure)
        measured = any(cell and cell.interval for row in table.rows for cell in row.cells)
        glance = [self._glance(title, tests, floors.get(title)) for title, tests in details.items()]
        curves = not bars and any(sum(map(bool, row.cells)) > 1 for row in led.rows)
        over = sampled([run for test in self.tests(dataset) for run in test.runs])
        draws = self.draws if measured else 0
        return Part(self.title, table, drawing, draws, floors, glance, what, over, bars, curves)

    def _table(self, dataset: str) -> Table:
        """A data set's table with intervals over test images."""
        table, rows = self.tables[dataset], []
        for row in table.rows:
            tests = {header: test for header, of in self.columns[dataset].items() for test in of if test.row is row}
            intervals: dict[str, Interval | None] = {}
            paired = row.paired
            for start, metric in {BALANCED: "balanced_accuracy", "": "accuracy"}.items():
                if start and not table.balanced:
                    continue
                of = {header: test.interval(metric, self.draws) for header, test in tests.items()}
                intervals |= {f"{start}{header}": one for header, one in of.items()}
                if tests.keys() == set(PARTS.values()):
                    both = on_same_seeds(*(test.runs for test in tests.values()))
                    same = [
                        of[header]
                        if len(runs) == len(test.runs)
                        else replace(test, runs=runs).interval(metric, self.draws)
                        for (header, test), runs in zip(tests.items(), both, strict=True)
                    ]
                    if (base := same[0]) and (novel := same[1]):
                        intervals[f"{start}HM"] = combine(harmonic_mean, base, novel)
                    paired = [c and replace(c, interval=one) for c, one in zip(row.paired, same, strict=True)]
            named = zip(table.headers[1:], row.cells, strict=True)
            cells = [c and replace(c, interval=intervals.get(header)) for header, c in named]
            rows.append(replace(row, cells=cells, paired=paired))
        return replace(table, rows=rows)

    def _glance(self, title: str, tests: Sequence[Evaluation], floor: Floor | None) -> list[AnyCell]:
        """The best method on a set of test images, its gain over zero-shot on the same images, and the floor."""
        zero = next((test for test in tests if test.row.method == "ZeroShot"), None)
        best = max((test for test in tests if not test.doubtful), key=lambda test: test.score, default=None)
        lead = tests[0].lead
        value, of_zero = (one.interval(lead, self.draws) if one else None for one in (best, zero))
        gain = None
        if value and of_zero and best is not zero and value.images == of_zero.images:
            gain = combine(lambda ours, theirs: ours - theirs, value, of_zero, difference=True)
        images, *of = sample(tests[0].runs[0].results).partition(" images")
        return [
            Text(title),
            Text(images or "–", "".join(of).removeprefix(" images").strip(" ()")),
            Text(best.name) if best else Text("–", "all results are doubtful, or of validation images"),
            Cell(best.score, interval=value) if best else None,
            Cell(zero.score) if zero else None,
            Text(f"{gain.value:+z.1f}", bracket(gain, "+z.1f")) if gain else None,
            Cell(floor.balanced if lead == "balanced_accuracy" else floor.accuracy) if floor else None,
            Text(METRICS[lead].title),
        ]


def most_frequent(tests: Sequence[Evaluation]) -> Floor | None:
    """What always naming the commonest class gives; None without predictions."""
    labels = next((test.predictions[0].labels for test in tests if test.predictions), None)
    if labels is None:
        return None
    images = np.bincount(labels)
    return Floor(100 * float(images.max() / len(labels)), 100 / int((images > 0).sum()))
