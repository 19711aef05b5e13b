"""Runs of one backbone, draw and protocol: tables with intervals, their figures, and the tests behind each column."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ogkd.evaluation.metrics import METRICS
from ogkd.evaluation.statistics import combine
from ogkd.evaluation.tested import sample, sampled
from ogkd.reports.cells import AnyCell, Cell, Text
from ogkd.reports.page.evidence import Evaluation, draws_for
from ogkd.reports.page.figures import shot_curves
from ogkd.reports.page.grids import bracket
from ogkd.reports.page.material import Material
from ogkd.reports.render import Table
from ogkd.reports.tables import BALANCED, TABLES, average, led_by
from ogkd.reports.variants import KINDS, shots_name

TITLES = {"base2new": "Base to novel", "few_shot": "Few-shot"}


class Floor(NamedTuple):
    """Accuracy and balanced accuracy in percent of always naming the class that has the most test images."""

    accuracy: float
    balanced: float


class Protocol:
    """name: base2new or few_shot. tables: {data set: table}. columns: {data set: {column: its tests}}."""

    def __init__(self, name: str, of_runs: str, material: Material) -> None:
        self.name, self.title, self.material = name, TITLES[name], material
        finished = [run for run in material.runs if run.backbone_and_draw == of_runs]
        datasets = {run.dataset for run in finished if run.kind in KINDS[name]}
        diverged = [run for run in material.diverged if run.backbone_and_draw == of_runs and run.dataset in datasets]
        runs = [*finished, *diverged]
        self.draws = draws_for([run for run in finished if run.kind in KINDS[name]])
        tables = TABLES[name](runs, draws=self.draws)
        material.remark(*(note for table in tables for note in table.notes))
        self.tables: dict[str, Table] = {table.datasets[0]: table for table in tables}
        self.columns: dict[str, dict[str, list[Evaluation]]] = {
            dataset: {
                header: [
                    Evaluation(dataset, row, header, seeds, material, BALANCED if table.balanced else "")
                    for row in table.rows
                    if (seeds := sorted((r for r in row.runs[header] if not r.diverged), key=lambda run: run.seed))
                ]
                for header in led_by(table, False).headers[1:]
                if header != "HM"
            }
            for dataset, table in self.tables.items()
        }
        self.tested = {dataset for dataset in self.tables if any(self.tests(dataset))}

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
        table, notes = average([*self.tables.values()], self.name)
        self.material.remark(*notes)
        return table if table.rows and len(table.datasets) > 1 else None

    def part(self, anchor: str, dataset: str, colours: Mapping[str, int]) -> dict[str, Any]:
        """The results on a data set: a table and, over several numbers of shots, the curves of the leading metric.

        anchor: start of the figure's name. colours: {method: number of its colour}.
        """
        table, details = self.tables[dataset], self.details(dataset)
        floors = {title: floor for title, tests in details.items() if (floor := most_frequent(tests))}
        led, what = led_by(table, True), METRICS["balanced_accuracy" if table.balanced else "accuracy"].title
        curves = None
        if self.name == "few_shot" and any(sum(map(bool, led.line(row).values())) > 1 for row in led.rows):
            number = {shots_name(run.shots): run.shots for run in [*self.material.runs, *self.material.diverged]}
            shots = [number[header] for header in led.headers[1:]]
            lowest = next((one.balanced if table.balanced else one.accuracy for one in floors.values()), None)
            figure, alt = shot_curves(led, shots, colours, lowest, what), f"The {what} in the table over the shots."
            curves = self.material.draw(f"{anchor}-few-shot", f"{self.title}: {what}", alt, figure)
        measured = any(cell and cell.interval for row in table.rows for cell in row.cells.values())
        return {
            "title": self.title,
            "table": table,
            "curves": curves,
            "measured": what,
            "draws": self.draws if measured else 0,  # of an interval, if there are any
            "over": sampled([run for test in self.tests(dataset) for run in test.runs]),
            "floors": floors,  # by set of test images
            "glance": [self._glance(title, tests, floors.get(title)) for title, tests in details.items()],
        }

    def _glance(self, title: str, tests: Sequence[Evaluation], floor: Floor | None) -> list[AnyCell]:
        """The best method on a set of test images, its gain over zero-shot on the same images, and the floor."""
        zero = next((test.score for test in tests if test.row.method == "ZeroShot"), None)
        best = max((test for test in tests if not test.doubtful), key=lambda test: test.score.mean, default=None)
        score, gain, balanced = best.score if best else None, None, bool(tests[0].lead)
        ours, theirs = (cell and cell.interval for cell in (score, zero))
        if ours and theirs and score is not zero and ours.images == theirs.images:
            gain = combine(lambda ours, theirs: ours - theirs, ours, theirs, difference=True)
        images, *of = sample(tests[0].runs[0].results).partition(" images")
        return [
            Text(title),
            Text(images or "–", "".join(of).removeprefix(" images").strip(" ()")),
            Text(best.name) if best else Text("–", "all results are doubtful, or of validation images"),
            score and Cell(score.mean, interval=score.interval),
            zero and Cell(zero.mean),
            Text(f"{gain.value:+z.1f}", bracket(gain, "+z.1f")) if gain else None,
            floor and Cell(floor.balanced if balanced else floor.accuracy),
            Text(METRICS["balanced_accuracy" if balanced else "accuracy"].title),
        ]


def most_frequent(tests: Sequence[Evaluation]) -> Floor | None:
    """What always naming the commonest class gives; None without predictions."""
    labels = next((test.predictions[0].labels for test in tests if test.predictions), None)
    if labels is None:
        return None
    images = np.bincount(labels)
    return Floor(100 * float(images.max() / len(labels)), 100 / int((images > 0).sum()))
