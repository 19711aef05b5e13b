"""A cell of a table: a metric's mean over the seeds of one variant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from dassl.utils import UserError

from .collect import Run
from .metrics import compute, find
from .predictions import Predictions


@dataclass(frozen=True)
class Cell:
    """A mean over seeds with its population standard deviation."""

    mean: float
    std: float = 0.0
    seeds: int = 1


def cell(values: Sequence[float]) -> Cell | None:
    """Mean and population standard deviation of values, one per seed; None without values."""
    return Cell(float(np.mean(values)), float(np.std(values)), len(values)) if len(values) else None


def harmonic_mean(base: float, novel: float) -> float:
    """2 base novel / (base + novel); 0 where both are 0."""
    return 2 * base * novel / (base + novel) if base + novel > 0 else 0.0


def hm_cell(base: Cell | None, novel: Cell | None) -> Cell | None:
    """HM of the seed means, which as one number has no deviation."""
    return None if base is None or novel is None else Cell(harmonic_mean(base.mean, novel.mean))


@dataclass
class Values:
    """A metric's values of runs, and the runs that have none, by the reason.

    A value is what results.json holds, or else is computed from the predictions in the run's folder.
    """

    metric: str
    missing: dict[str, list[Run]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.needs = find(self.metric).needs

    def cell(self, runs: Sequence[Run]) -> Cell | None:
        """The mean over runs, one per seed, that have a value."""
        values = [self.of(run) for run in runs]
        return cell([value for value in values if value is not None])

    def of(self, run: Run) -> float | None:
        """The value of one run; None, with a reason in `missing`, where it has none."""
        if self.metric in run.results:
            value, reason = run.results[self.metric], "is undefined on"
        elif not (run.path / "predictions.npz").is_file():
            value, reason = None, "cannot be computed, since no predictions were kept, for"
        else:
            try:
                value = compute(self.metric, Predictions.load(run.path / "predictions.npz"))
                reason = f"needs the classes' {' and '.join(self.needs)} for" if self.needs else "is undefined on"
            except UserError as error:
                value, reason = None, f"cannot be computed ({error}) for"
        if value is None:
            self.missing.setdefault(reason, []).append(run)
        return value

    def notes(self) -> list[str]:
        """A sentence for each reason why runs have no value."""
        return [
            f"{self.metric} {reason} {runs[0].path}" + (f" and {len(runs) - 1} more runs." if runs[1:] else ".")
            for reason, runs in self.missing.items()
        ]
