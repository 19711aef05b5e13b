"""Comparisons of methods: paired differences per data set, and tests over data sets.

Differences are paired: same test images, same seeds, same bootstrap draws. Seeds are repeated measurements on a data
set: they are averaged, so a data set counts once in every test.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from ogkd.core import UserError
from ogkd.evaluation.collect import Run
from ogkd.evaluation.metrics import find
from ogkd.evaluation.statistics import Comparison, Interval, combine, compare_differences
from ogkd.reports.cells import Values, combined, harmonic_mean, mean
from ogkd.reports.conditions import conditions
from ogkd.reports.footnotes import seeds_of
from ogkd.reports.variants import KINDS, PARTS, Variant, by_shots, shots_name, variants


@dataclass(frozen=True, eq=False)
class Entry:
    """A method as configured, or a variant of it, with its runs on each data set."""

    name: str
    method: str
    title: str
    variant: str
    on: dict[str, Variant]


@dataclass(frozen=True)
class Paired:
    """One method minus another: by data set, the mean over data sets, and the test over them."""

    by_dataset: dict[str, Interval]
    mean: Interval
    test: Comparison


class Contest:
    """The runs of one protocol and one backbone, to be compared by any metric.

    columns: what is compared: base, novel and their HM, or each number of shots.
    entries: the rows of the protocol's tables.
    notes: sentences on why runs could not be compared, without duplicates.
    """

    def __init__(self, runs: Sequence[Run], protocol: str) -> None:
        chosen = [run for run in runs if run.kind in KINDS[protocol]]
        rows: dict[tuple[str, str], Entry] = {}
        of_rows, notes = variants(chosen)
        for variant in of_rows:
            entry = Entry(variant.name, variant.method, variant.title, variant.key, {})
            rows.setdefault((variant.method, variant.key), entry).on[variant.dataset] = variant
        self.entries = list(rows.values())
        self.datasets = sorted({run.dataset for run in chosen})
        shots = sorted({run.shots for run in chosen}, key=by_shots)
        self.columns = [*PARTS.values(), "HM"] if protocol == "base2new" else list(map(shots_name, shots))
        self._notes = dict.fromkeys(notes)
        self._values: dict[tuple[str, bool], Values] = {}

    @property
    def notes(self) -> list[str]:
        """Sentences on the runs for the reader."""
        return list(dict.fromkeys([*self._notes, *(note for of in self._values.values() for note in of.notes())]))

    def conditions(self) -> dict[str, dict[str, str]]:
        """The conditions of each entry by its name."""
        return {e.name: conditions(run for variant in e.on.values() for run in variant.runs) for e in self.entries}

    def entry(self, method: str) -> Entry:
        """The method as configured, or its only variant.

        Raises:
            UserError: it was not run, or only as several variants.
        """
        of_method = [entry for entry in self.entries if entry.method == method]
        if not of_method:
            others = ", ".join(dict.fromkeys(entry.method for entry in self.entries)) or "no method"
            raise UserError(f"There is no finished run of {method} to compare with; there is {others}.")
        entry, *more = [entry for entry in of_method if not entry.variant] or of_method
        if more:
            names = "; ".join(entry.name for entry in of_method)
            raise UserError(
                f"{method} was run in several configurations ({names}), none of them as configured: run that one."
            )
        return entry

    def score(self, metric: str, entry: Entry, dataset: str, column: str) -> float | None:
        """The mean over seeds; for HM, the HM of the means."""
        if dataset not in entry.on:
            return None
        values = self._of(metric, False)
        cells = values.paired(*(entry.on[dataset].in_column(part) for part in _parts(column)))
        cell = combined(harmonic_mean, *cells) if column == "HM" else cells[0]
        return cell.mean if cell else None

    def difference(self, metric: str, first: Entry, second: Entry, dataset: str, column: str) -> Interval | None:
        """First minus second, paired over the seeds that both have; None, with a note, if they cannot be paired."""
        if dataset not in first.on or dataset not in second.on:
            return None
        parts = _parts(column)
        every = [entry.on[dataset].in_column(part) for entry in (first, second) for part in parts]
        values, what = self._of(metric, True), f"{first.name} and {second.name} on {dataset}, {column},"
        stored = [[run for run in runs if (run.path / "predictions.npz").is_file()] for runs in every]
        values.cell([run for runs, usable in zip(every, stored, strict=True) for run in runs if run not in usable])
        seeds = set.intersection(*({run.seed for run in runs} for runs in stored))
        if not seeds:
            if all(stored):
                self.note(f"{what} have no seed in common, so no difference is computed.")
            return None
        if any(len(runs) > len(seeds) for runs in every):
            self.note(f"{what} are compared only on {seeds_of(seeds)}.")
        cells = [values.cell([run for run in runs if run.seed in seeds]) for runs in stored]
        intervals = [cast(Interval, cell.interval) for cell in cells if cell and cell.seeds >= len(seeds)]
        if len(intervals) < len(cells):
            return None
        ours, theirs = intervals[: len(parts)], intervals[len(parts) :]
        if any(a.images != b.images for a, b in zip(ours, theirs, strict=True)):
            self.note(f"{what} were tested on different images, so no difference is computed.")
            return None
        return combine(_minus(harmonic_mean if column == "HM" else mean), *ours, *theirs, difference=True)

    def compare(self, metric: str, pairs: Sequence[tuple[Entry, Entry]], column: str) -> dict[tuple[str, str], Paired]:
        """{names of a pair: its difference}, where there is one; the p values are corrected together."""
        differences = {
            (first.name, second.name): {
                dataset: difference
                for dataset in self.datasets
                if (difference := self.difference(metric, first, second, dataset, column))
            }
            for first, second in pairs
        }
        differences = {pair: by_dataset for pair, by_dataset in differences.items() if by_dataset}
        values = {pair: {name: one.value for name, one in of.items()} for pair, of in differences.items()}
        tests = compare_differences(values, lower_is_better=find(metric).lower_is_better)
        return {
            pair: Paired(by_dataset, mean_difference(by_dataset), test)
            for (pair, by_dataset), test in zip(differences.items(), tests, strict=True)
        }

    def note(self, sentence: str) -> None:
        """Add a sentence to the notes."""
        self._notes[sentence] = None

    def _of(self, metric: str, intervals: bool) -> Values:
        return self._values.setdefault((metric, intervals), Values(metric, intervals))


def _minus(function: Callable[..., float]) -> Callable[..., float]:
    """The function of the first half of its arguments minus that of the second half."""
    return lambda *v: function(*v[: len(v) // 2]) - function(*v[len(v) // 2 :])


def mean_difference(differences: dict[str, Interval]) -> Interval:
    """The mean over data sets, with its interval over their test images."""
    return combine(mean, *differences.values())


def _parts(column: str) -> list[str]:
    """The columns that a column is computed from."""
    return list(PARTS.values()) if column == "HM" else [column]
