"""A cell of a table: a metric's mean over the seeds of one variant."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias, cast

import numpy as np

from ogkd.core import UserError
from ogkd.evaluation.clinical import Estimate
from ogkd.evaluation.collect import Run
from ogkd.evaluation.doubts import calibration_is_trivial, counts_of, doubtful
from ogkd.evaluation.metrics import compute, find
from ogkd.evaluation.predictions import Predictions
from ogkd.evaluation.relations import interval, relations
from ogkd.evaluation.statistics import DRAWS, Interval, combine


@dataclass(frozen=True)
class Cell:
    """A mean over seeds with its population standard deviation, or with its interval over test images.

    interval: shown instead of the deviation.
    decimals: digits after the point, if they differ from the table's.
    doubtful: whether the answers are no better than one and the same answer, so that the cell is never the best.
    """

    mean: float
    std: float = 0.0
    seeds: int = 1
    interval: Interval | None = None
    decimals: int | None = None
    doubtful: bool = False

    @classmethod
    def of(cls, interval: Interval | Estimate | None, decimals: int | None = None) -> Cell | None:
        """The value of an interval with its bounds; None without one. `combined` needs draws: no estimate has some."""
        return cls(interval.value, interval=cast(Interval, interval), decimals=decimals) if interval else None


@dataclass(frozen=True)
class Text:
    """Text in place of a number, with small print on the page. Falsy, like a missing cell."""

    text: str
    below: str = ""

    def __bool__(self) -> Literal[False]:
        return False


AnyCell: TypeAlias = Cell | Text | None
DIVERGED = Text("diverged")  # for a cell whose runs all diverged


def cell(values: Sequence[float]) -> Cell | None:
    """Mean and population standard deviation of values, one per seed; None without values."""
    return Cell(float(np.mean(values)), float(np.std(values)), len(values)) if len(values) else None


def combined(function: Callable[..., float], *cells: AnyCell) -> AnyCell:
    """A number computed from several cells, with an interval if they have intervals; a text or None if one is missing.

    It has no deviation, since it is computed from means over seeds. A mean is doubtful if all of its cells are, an HM
    if one of them is.
    """
    known = [one for one in cells if one]
    if len(known) < len(cells):
        return next((one for one in cells if isinstance(one, Text)), None)
    if not cells:
        return None
    intervals = [one.interval for one in known if one.interval is not None]
    interval = None if len(intervals) < len(known) else combine(function, *intervals)
    doubtful = (any if function is harmonic_mean else all)(one.doubtful for one in known)
    return Cell(function(*(one.mean for one in known)), interval=interval, doubtful=doubtful)


def mean(*values: float) -> float:
    """The arithmetic mean."""
    return sum(values) / len(values)


def harmonic_mean(base: float, novel: float) -> float:
    """2 base novel / (base + novel); 0 where both are 0."""
    return 0.0 if base + novel == 0 else 2 * base * novel / (base + novel)


def on_same_seeds(*columns: Sequence[Run]) -> list[list[Run]]:
    """The runs of each column with the seeds that all columns have finished; all runs of a column that has none."""
    seeds = [{run.seed for run in runs if not run.diverged} for runs in columns]
    both = set.intersection(*seeds)
    return [[run for run in runs if run.seed in both or not of] for runs, of in zip(columns, seeds, strict=True)]


@dataclass
class Values:
    """A metric's values for runs, and the runs without a value, by reason.

    A value is read from results.json or else computed from the predictions in the run's folder. Intervals are always
    computed from the predictions.

    intervals: whether cells are intervals with their value, over the seeds that have predictions. draws: if given,
        cells without them get one beside their value, with so many draws.
    """

    metric: str
    intervals: bool = False
    draws: int = 0
    missing: dict[str, list[Run]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        find(self.metric)
        self._cells: dict[tuple, Cell | None] = {}
        self._beside = Values(self.metric, True, self.draws) if self.draws and not self.intervals else None

    def cell(self, runs: Sequence[Run]) -> AnyCell:
        """The mean over the runs (one per seed) that have a value. Runs that diverged have none; if all of them
        diverged, the result is a text that says so."""
        finished = [run for run in runs if not run.diverged]
        if runs and not finished:
            return DIVERGED
        if self.intervals:
            key = tuple(run.path for run in finished)
            if key not in self._cells:
                self._cells[key] = self._with_interval(finished)
            result = self._cells[key]
        else:
            result = cell([value for run in finished if (value := self.of(run)) is not None])
            if result and self._beside and (beside := self._beside.cell(finished)):
                result = replace(result, interval=beside.interval)
        return result and replace(result, doubtful=any(map(self._doubtful, finished)))

    def paired(self, *columns: Sequence[Run]) -> list[AnyCell]:
        """The cells of columns, each over the seeds that all have."""
        return [self.cell(runs) for runs in on_same_seeds(*columns)]

    def _doubtful(self, run: Run) -> bool:
        """Whether the run is never the best. Answers at chance can be well calibrated without being of any use."""
        return doubtful(run) or (find(self.metric).inflated and calibration_is_trivial(counts_of(run)[0]))

    def of(self, run: Run) -> float | None:
        """The value of one run; None, with a reason in `missing`, if it has none."""
        if self.metric in run.results:
            value = run.results[self.metric]
        else:
            predictions = self._predictions(run)
            if predictions is None:
                return None
            value = compute(self.metric, predictions, **relations(self.metric, run, predictions.classnames))
        return self._lacking(run, "is undefined on") if value is None else value

    def notes(self) -> list[str]:
        """A sentence for each reason why runs have no value."""
        return [
            f"{self.metric} {reason} {runs[0].path}" + (f" and {len(runs) - 1} more runs." if runs[1:] else ".")
            for reason, runs in self.missing.items()
        ]

    def _with_interval(self, runs: Sequence[Run]) -> Cell | None:
        seeds = [predictions for run in runs if (predictions := self._predictions(run))]
        if not seeds:
            return None
        try:
            result = interval(self.metric, runs[0], seeds, self.draws or DRAWS)
        except UserError as error:
            return self._lacking(runs[0], f"has no interval ({error}) on")
        if result is None:
            return self._lacking(runs[0], "is undefined on")
        return Cell(result.value, seeds=len(seeds), interval=result)

    def _predictions(self, run: Run) -> Predictions | None:
        """The predictions; None, with a reason in `missing`, if they or the metric's other inputs are missing."""
        path = run.path / "predictions.npz"
        if not path.is_file():
            return self._lacking(run, "cannot be computed, since no predictions were stored, for")
        try:
            predictions = Predictions.load(path)
            relations(self.metric, run, predictions.classnames)
        except UserError as error:
            return self._lacking(run, f"cannot be computed ({str(error).rstrip('.')}) for")
        return predictions

    def _lacking(self, run: Run, reason: str) -> Any:
        self.missing.setdefault(reason, []).append(run)
        return None
