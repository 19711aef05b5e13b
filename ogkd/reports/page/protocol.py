"""Results of the runs of one backbone and one protocol: tables, tests and intervals by data set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ogkd.core import UserError
from ogkd.evaluation.collect import Run
from ogkd.evaluation.statistics import Interval, combine
from ogkd.reports.cells import harmonic_mean
from ogkd.reports.page.evidence import Evaluation, draws_for
from ogkd.reports.page.grids import Grid, grid_of
from ogkd.reports.page.notes import Notes
from ogkd.reports.page.scores import Score
from ogkd.reports.render import Table
from ogkd.reports.tables import TABLES, average
from ogkd.reports.variants import by_shots, variants

TITLES = {"base2new": "Base to novel", "few_shot": "Few-shot"}
PARTS = {"base": "train_base", "novel": "test_new"}


Intervals = dict[tuple[tuple[str, str], str], Interval]  # {(a row's key, header of the table): interval}


class Protocol:
    """name: base2new or few_shot. diverged: runs to mark in tables, on data sets with finished runs. Everything else is
    requested by data set."""

    def __init__(
        self,
        name: str,
        runs: Sequence[Run],
        notes: Notes,
        shown: Callable[[Path], str],
        diverged: Sequence[Run] = (),
    ) -> None:
        self.name, self.title = name, TITLES[name]
        kinds = tuple(PARTS.values()) if name == "base2new" else ("few_shot",)
        chosen = [run for run in runs if run.kind in kinds]
        datasets = {run.dataset for run in chosen}
        marked = [*chosen, *(run for run in diverged if run.kind in kinds and run.dataset in datasets)]
        self._shots = {
            dataset: sorted({run.shots for run in marked if run.dataset == dataset}, key=by_shots)
            for dataset in datasets
        }
        others = [run for run in runs if run.kind not in kinds]
        self.tables: dict[str, Table] = {}
        for table in TABLES[name]([*marked, *others]) if chosen else ():
            self.tables[table.title.rpartition(" ")[0]] = table
            for note in table.notes:
                notes.remark(note)
        self._tests = [
            Evaluation(variant, kind, shots, sorted(finished, key=_seed), notes, shown)
            for variant in (variants(marked)[0] if chosen else ())
            for kind in kinds
            for shots in sorted({run.shots for run in variant.of(kind)}, key=by_shots)
            if (finished := [run for run in variant.of(kind, shots) if not run.diverged])
        ]
        self.draws = draws_for(self._tests)
        self._intervals: dict[str, Intervals] = {}

    def tests(self, dataset: str, part: str, shots: int | None = None) -> list[Evaluation]:
        """The tests of all methods, in table order."""
        return [
            test
            for test in self._tests
            if test.variant.dataset == dataset and test.part == part and shots in (None, test.shots)
        ]

    def of(self, dataset: str) -> list[Evaluation]:
        """All tests on a data set."""
        return [test for test in self._tests if test.variant.dataset == dataset]

    def columns(self, dataset: str) -> list[tuple[str, int]]:
        """For few-shot: (header, shots) of the table's columns."""
        return list(zip(self.tables[dataset].headers[1:], self._shots[dataset], strict=False))

    def details(self, dataset: str) -> list[tuple[str, list[Evaluation]]]:
        """The tests for detailed figures, with titles: base and novel classes, or the largest shot count."""
        if self.name == "base2new":
            found = [(f"{header} classes", self.tests(dataset, part)) for header, part in PARTS.items()]
        else:
            parts = [(f"all classes, {name}", self.tests(dataset, "few_shot", n)) for name, n in self.columns(dataset)]
            found = [part for part in parts if part[1]][-1:]
        return [(title, tests) for title, tests in found if tests]

    def intervals(self, dataset: str) -> Intervals:
        """{(a row's key, header of the table): accuracy with its interval} for tests with predictions."""
        if dataset not in self._intervals:
            self._intervals[dataset] = self._drawn(dataset)
        return self._intervals[dataset]

    def _drawn(self, dataset: str) -> Intervals:
        found: Intervals = {}
        for header, tests in self._by_column(dataset):
            for test in tests:
                interval = test.interval("accuracy", self.draws)
                if interval is not None:
                    found[(test.variant.method, test.variant.key), header] = interval
        for key in {key for key, _ in found}:
            base, novel = found.get((key, "base")), found.get((key, "novel"))
            if base and novel:
                found[key, "HM"] = combine(harmonic_mean, base, novel)
        return found

    def _by_column(self, dataset: str) -> list[tuple[str, list[Evaluation]]]:
        if self.name == "base2new":
            return [(header, self.tests(dataset, part)) for header, part in PARTS.items()]
        return [(header, self.tests(dataset, "few_shot", shots)) for header, shots in self.columns(dataset)]

    def forget(self, dataset: str) -> None:
        """Drop the predictions on a data set to free memory."""
        for test in self.of(dataset):
            test.forget()

    @property
    def has_predictions(self) -> bool:
        """Whether any run has predictions, so that there are intervals."""
        return any(test.predictions for test in self._tests)

    def grid(self, dataset: str) -> Grid:
        """The table of a data set with intervals."""
        return grid_of(self._with_intervals(dataset))

    def scores(self, dataset: str) -> dict[str, dict[str, Score]]:
        """{row: {column: accuracy}} of a data set's table, without empty cells."""
        table, intervals = self.tables[dataset], self.intervals(dataset)
        found: dict[str, dict[str, Score]] = {}
        for row in table.rows:
            of_row = found.setdefault(row.name, {})
            for header, cell in zip(table.headers[1:], row.cells, strict=True):
                if cell:
                    interval = intervals.get((row.key, header))
                    of_row[header] = Score(cell.mean, interval.low, interval.high) if interval else Score(cell.mean)
        return found

    def average(self, notes: Notes) -> Grid | None:
        """The means over data sets with intervals for these fixed data sets; None with fewer than two data sets, or if
        no method was run on all of them."""
        if len(self.tables) < 2:
            return None
        try:
            table, left_out = average([self._with_intervals(dataset) for dataset in self.tables], self.name)
        except UserError as error:
            notes.remark(str(error))
            return None
        for note in left_out:
            notes.remark(note)
        return grid_of(table) if table.rows else None

    def _with_intervals(self, dataset: str) -> Table:
        """A data set's table with the cells' intervals, which the page and the means over data sets need."""
        table, intervals = self.tables[dataset], self.intervals(dataset)
        rows = []
        for row in table.rows:
            columns = zip(table.headers[1:], row.cells, strict=True)
            cells = [cell and replace(cell, interval=intervals.get((row.key, header))) for header, cell in columns]
            rows.append(replace(row, cells=cells))
        return replace(table, rows=rows)


def _seed(run: Run) -> int:
    return run.seed
