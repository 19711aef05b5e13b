"""Runs of one backbone and one protocol: their tables with intervals, and the tests behind each column."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache

import numpy as np

from ogkd.core import UserError
from ogkd.evaluation.statistics import combine, paired_difference
from ogkd.reports.cells import harmonic_mean
from ogkd.reports.page.evidence import Evaluation, draws_for
from ogkd.reports.page.figures import Drawing, Score, score_bars, shot_curves
from ogkd.reports.page.grids import Grid, GridCell, bracket, grid_of
from ogkd.reports.page.material import Material
from ogkd.reports.render import Table
from ogkd.reports.tables import TABLES, average
from ogkd.reports.variants import by_shots, shots_name, variants

TITLES = {"base2new": "Base to novel", "few_shot": "Few-shot"}
PARTS = {"base": "train_base", "novel": "test_new"}


class Protocol:
    """name: base2new or few_shot. tables: {data set: table}. columns: {data set: {column: its tests}}."""

    def __init__(self, name: str, backbone: str, material: Material) -> None:
        self.name, self.title, self.material = name, TITLES[name], material
        kinds = tuple(PARTS.values()) if name == "base2new" else ("few_shot",)
        finished = [run for run in material.runs if run.backbone == backbone]
        datasets = {run.dataset for run in finished if run.kind in kinds}
        runs = [*finished, *(run for run in material.diverged if run.backbone == backbone and run.dataset in datasets)]
        tables = TABLES[name](runs)
        material.remark(*(note for table in tables for note in table.notes))
        self.tables: dict[str, Table] = {table.datasets[0]: table for table in tables}
        self.columns: dict[str, dict[str, list[Evaluation]]] = {}
        of_kinds = [run for run in runs if run.kind in kinds]
        for dataset in self.tables:
            shots = sorted({run.shots for run in of_kinds if run.dataset == dataset}, key=by_shots)
            self.columns[dataset] = {header: [] for header in (PARTS if len(kinds) > 1 else map(shots_name, shots))}
        for variant in variants(of_kinds)[0]:
            for run_kind, number in dict.fromkeys((run.kind, run.shots) for run in variant.runs):
                header = next((part for part, kind in PARTS.items() if kind == run_kind), shots_name(number))
                seeds = sorted(
                    (run for run in variant.of(run_kind, number) if not run.diverged), key=lambda run: run.seed
                )
                if seeds and variant.dataset in self.tables:
                    self.columns[variant.dataset][header].append(Evaluation(variant, seeds, material))
        every = [test for dataset in self.tables for test in self.tests(dataset)]
        self.draws = draws_for(every)
        self.has_predictions = any((run.path / "predictions.npz").is_file() for test in every for run in test.runs)
        self.table = cache(self._table)

    def tests(self, dataset: str) -> Iterator[Evaluation]:
        """All tests on a data set."""
        for tests in self.columns[dataset].values():
            yield from tests

    def details(self, dataset: str) -> dict[str, list[Evaluation]]:
        """The tests for detailed figures, by title: base and novel classes, or the largest number of shots."""
        if self.name == "base2new":
            return {f"{part} classes": tests for part, tests in self.columns[dataset].items() if tests}
        return {f"all classes, {shots}": tests for shots, tests in [*self.columns[dataset].items()][-1:] if tests}

    def _table(self, dataset: str) -> Table:
        """A data set's table with intervals over test images."""
        table, intervals = self.tables[dataset], {}
        for header, tests in self.columns[dataset].items():
            for test in tests:
                key = (test.variant.method, test.variant.key)
                intervals[key, header] = test.interval("accuracy", self.draws)
        rows = []
        for row in table.rows:
            of_row = {header: intervals.get((row.key, header)) for header in table.headers[1:]}
            if "HM" in of_row and (base := of_row["base"]) and (novel := of_row["novel"]):
                of_row["HM"] = combine(harmonic_mean, base, novel)
            cells = [cell and replace(cell, interval=one) for cell, one in zip(row.cells, of_row.values(), strict=True)]
            rows.append(replace(row, cells=cells))
        return replace(table, rows=rows)

    def average(self) -> Grid | None:
        """The means over data sets with intervals for these fixed data sets; None if not even two can be averaged."""
        if len(self.tables) < 2:
            return None
        try:
            table, notes = average([self.table(dataset) for dataset in self.tables], self.name)
        except UserError as error:
            self.material.remark(str(error))
            return None
        self.material.remark(*notes)
        return grid_of(table) if table.rows and len(table.datasets) > 1 else None

    def figure(self, anchor: str, dataset: str, colours: Mapping[str, int]) -> Drawing:
        """The table as a figure: bars or, for several numbers of shots, curves. colours: {method: its number}."""
        table = self.table(dataset)
        scores: dict[str, dict[str, Score]] = {}
        for row in table.rows:
            cells = {header: cell for header, cell in zip(table.headers[1:], row.cells, strict=True) if cell}
            scores[row.name] = {
                header: Score(cell.mean, *((one.low, one.high) if (one := cell.interval) else ()))
                for header, cell in cells.items()
            }
        scores = {name: of_row for name, of_row in scores.items() if of_row}
        name, title = f"{anchor}-{self.name.replace('_', '-')}", f"{self.title} accuracy"
        if self.name == "base2new" or len(self.columns[dataset]) == 1:
            return Drawing(name, title, "Horizontal bars of the accuracies in the table.", score_bars(scores))
        shots = {shots_name(run.shots): run.shots for test in self.tests(dataset) for run in test.runs}
        curves = {name: [(shots[header], one) for header, one in of.items()] for name, of in scores.items()}
        floor = next(filter(None, map(most_frequent, self.details(dataset).values())), None)
        alt = "Curves of the accuracies in the table over the shots."
        return Drawing(name, title, alt, shot_curves(curves, colours, floor))

    def glance(self, dataset: str) -> Iterator[list[GridCell]]:
        """The summary's rows: for each set of test images the best method, zero-shot, and the most frequent class."""
        for title, tests in self.details(dataset).items():
            zero = next((test for test in tests if test.variant.method == "ZeroShot"), None)
            best = max((test for test in tests if not test.doubtful), key=lambda test: test.accuracy, default=None)
            floor = most_frequent(tests)
            yield [
                GridCell(title),
                GridCell(best.name) if best else GridCell("–", "all results are doubtful"),
                GridCell(f"{best.accuracy:.1f}", bracket(best.interval("accuracy", self.draws)))
                if best
                else GridCell("–"),
                GridCell(f"{zero.accuracy:.1f}" if zero else "–"),
                self._gain(best, zero),
                GridCell("–" if floor is None else f"{floor:.1f}"),
            ]

    def _gain(self, best: Evaluation | None, zero: Evaluation | None) -> GridCell:
        """The gain of the best method over zero-shot on the same images."""
        if not (best and zero and best is not zero and best.predictions and zero.predictions):
            return GridCell("–")
        try:
            gain = paired_difference("accuracy", best.predictions, zero.predictions, draws=self.draws)
        except UserError:  # they were tested on different images
            return GridCell("–")
        return GridCell(f"{gain.value:+z.1f}", bracket(gain, "+z.1f")) if gain else GridCell("–")


def most_frequent(tests: Sequence[Evaluation]) -> float | None:
    """Accuracy in percent of always naming the class that has the most test images; None without predictions."""
    for test in tests:
        if test.predictions:
            labels = test.predictions[0].labels
            return 100 * float(np.bincount(labels).max() / len(labels))
    return None
