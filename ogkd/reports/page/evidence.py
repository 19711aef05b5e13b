"""The tests on a page: the runs of one method on one set of test images, one per seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ogkd.classes import Geometry, geometry_file, read_geometry
from ogkd.core import UserError
from ogkd.evaluation.collect import Run
from ogkd.evaluation.doubts import about_run
from ogkd.evaluation.metrics import METRICS, compute, find
from ogkd.evaluation.predictions import Predictions
from ogkd.evaluation.relations import relations
from ogkd.evaluation.statistics import DRAWS, Interval, bootstrap
from ogkd.reports.page.notes import Notes
from ogkd.reports.variants import Variant

FEWEST_DRAWS = 300
CALLS = 300_000  # total number of draws, which bounds the time for intervals
ROWS = 600_000_000  # total number of resampled images


@dataclass
class Evaluation:
    """A method's runs on the same test images, one per seed.

    part: train_base, test_new or few_shot. shots: the shot count of the runs.
    """

    variant: Variant
    part: str
    shots: int
    runs: list[Run]
    notes: Notes
    shown: Callable[[Path], str]

    @property
    def name(self) -> str:
        return self.variant.name

    @property
    def accuracy(self) -> float:
        """Mean over seeds, in percent."""
        return float(np.mean([run.results["accuracy"] for run in self.runs]))

    @cached_property
    def doubtful(self) -> bool:
        """Whether the answers of a seed are no better than one and the same answer."""
        return any(map(about_run, self.runs))

    @cached_property
    def predictions(self) -> list[Predictions]:
        """Predictions of each seed that stored them, all on the same images; others are left out with a note."""
        found: list[Predictions] = []
        for run in self.runs:
            path = run.path / "predictions.npz"
            if not path.is_file():
                continue
            try:
                one = Predictions.load(path)
            except UserError as error:
                self.notes.unreadable(f"{self.shown(run.path)}/predictions.npz", error)
                continue
            if found and not _same(found[0], one):
                self.notes.remark(
                    f"{self.name} on {self.variant.dataset}: seed {run.seed} was tested on different images from "
                    "earlier seeds, so figures leave it out."
                )
                continue
            found.append(one)
        return found

    @cached_property
    def pooled(self) -> Predictions | None:
        """The predictions of all seeds, concatenated; None if there are none."""
        if len(self.predictions) < 2:
            return self.predictions[0] if self.predictions else None
        return Predictions(
            tuple(image for one in self.predictions for image in one.images),
            np.concatenate([one.labels for one in self.predictions]),
            np.concatenate([one.logits for one in self.predictions]),
            self.predictions[0].classnames,
        )

    def forget(self) -> None:
        """Drop the predictions from memory; they are read again when needed."""
        for name in ("predictions", "pooled"):
            self.__dict__.pop(name, None)

    @cached_property
    def geometry(self) -> Geometry | None:
        """How the classes relate, if the data set has a geometry file."""
        if not self.predictions:
            return None
        return known_geometry(self.runs[0], self.predictions[0].classnames, self.notes)

    @cached_property
    def metrics(self) -> dict[str, float]:
        """Each metric's mean over the seeds that have predictions; undefined metrics are left out."""
        found: dict[str, float] = {}
        for metric in METRICS if self.predictions else ():
            needed = self._needed(metric)
            values = [None if needed is None else compute(metric, one, **needed) for one in self.predictions]
            defined = [value for value in values if value is not None]
            if len(defined) == len(values):
                found[metric] = float(np.mean(defined))
        return found

    def interval(self, metric: str, draws: int) -> Interval | None:
        """The metric with its interval over test images; None without predictions or the metric's other inputs."""
        needed = self._needed(metric) if self.predictions else None
        return None if needed is None else bootstrap(metric, self.predictions, draws=draws, **needed)

    def _needed(self, metric: str) -> dict[str, Any] | None:
        """The metric's inputs besides the predictions; None if they are not known."""
        if find(metric).needs and self.geometry is None:
            return None
        try:
            return relations(metric, self.runs[0], self.predictions[0].classnames)
        except UserError:  # a geometry without grades
            return None


def draws_for(tests: Sequence[Evaluation]) -> int:
    """Bootstrap draws per interval: fewer than usual if there are very many intervals."""
    calls = sum(len(test.runs) for test in tests)
    images = [_images(run) for test in tests for run in test.runs]
    affordable = min(CALLS // max(calls, 1), ROWS // max(sum(images), 1))
    return int(min(DRAWS, max(FEWEST_DRAWS, affordable)))


def known_geometry(run: Run, classnames: Sequence[str], notes: Notes) -> Geometry | None:
    """The geometry of a run's data set; None if there is none or, with a note, if it does not fit."""
    dataset, config = run.results["dataset"], run.results["config"].get("DATASET")
    if isinstance(config, dict) and config.get("FOLDER"):
        return None
    try:
        if not geometry_file(dataset).is_file():
            return None
        return read_geometry(dataset, classnames)
    except (UserError, ValueError, OSError) as error:
        notes.remark(f"No severity of mistakes for {dataset}: {error}")
        return None


def _same(first: Predictions, second: Predictions) -> bool:
    return (
        (first.images, first.classnames) == (second.images, second.classnames)
        and first.labels.shape == second.labels.shape
        and bool((first.labels == second.labels).all())
    )


def _images(run: Run) -> int:
    number = run.results.get("num_test")
    return number if type(number) is int else 0
