"""One method on one set of test images: its runs, their predictions, and what these say."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import cast

import numpy as np

from ogkd.classes import Geometry, geometry_file, read_geometry
from ogkd.core import UserError
from ogkd.evaluation.collect import Run
from ogkd.evaluation.doubts import calibration_is_trivial, counts_of
from ogkd.evaluation.metrics import METRICS, compute, find
from ogkd.evaluation.predictions import Predictions, same_images
from ogkd.evaluation.relations import relations
from ogkd.evaluation.statistics import DRAWS
from ogkd.reports.cells import Cell
from ogkd.reports.page.material import Material
from ogkd.reports.render import Row

FEWEST_DRAWS = 300
CALLS = 300_000  # total number of draws of a page, which bounds the time for intervals
ROWS = 600_000_000  # total number of resampled images
ALWAYS = ("OGKD", "ZeroShot")  # in detailed figures, besides the best
MOST = 6  # methods in a figure, as many as there are colours


@dataclass(eq=False)
class Evaluation:
    """A method's finished runs on the same test images, one per seed.

    row, column: its place in the table. lead: what precedes the column whose values decide which method is the best.
    """

    dataset: str
    row: Row
    column: str
    runs: list[Run]
    material: Material
    lead: str = ""

    @property
    def name(self) -> str:
        return self.row.name

    @property
    def accuracy(self) -> Cell:
        """The mean over seeds, in percent, with its interval over test images."""
        return cast(Cell, self.row.cells[self.column])

    @property
    def score(self) -> Cell:
        """The same of the leading metric; the accuracy of runs without predictions."""
        return cast(Cell, self.row.cells[f"{self.lead}{self.column}"] or self.accuracy)

    @property
    def doubtful(self) -> bool:
        """Whether it is never the best: the answers of a seed are no better than one and the same answer, or are those
        for validation images."""
        return self.row.on_validation or self.accuracy.doubtful

    @cached_property
    def trivially_calibrated(self) -> bool:
        """Whether a seed's accuracy cannot be told from one answer for all, so that its calibration means nothing."""
        return any(calibration_is_trivial(counts_of(run)[0]) for run in self.runs)

    @cached_property
    def predictions(self) -> list[Predictions]:
        """Predictions of each seed that stored them, all on the same images; others are left out with a note."""
        usable: list[Predictions] = []
        for run in self.runs:
            path = run.path / "predictions.npz"
            try:
                one = Predictions.load(path) if path.is_file() else None
            except UserError as error:
                self.material.unreadable(path, error)
                continue
            if one and usable and not same_images(usable[0], one):
                self.material.remark(
                    f"{self.name} on {self.dataset}: seed {run.seed} was tested on different images from "
                    "earlier seeds, so figures leave it out."
                )
            elif one:
                usable.append(one)
        return usable

    @cached_property
    def pooled(self) -> Predictions:
        """The predictions of all seeds, concatenated."""
        seeds = self.predictions
        return Predictions(
            tuple(image for one in seeds for image in one.images),
            np.concatenate([one.labels for one in seeds]),
            np.concatenate([one.logits for one in seeds]),
            seeds[0].classnames,
            None
            if seeds[0].groups is None
            else np.concatenate([one.groups for one in seeds if one.groups is not None]),
        )

    def forget(self) -> None:
        """Drop the predictions from memory; they are read when needed."""
        for name in ("predictions", "pooled"):
            self.__dict__.pop(name, None)

    @cached_property
    def geometry(self) -> Geometry | None:
        """How the classes relate; None if that is not known or, with a remark, if it does not fit."""
        name, config = (self.runs[0].results[key] for key in ("dataset", "config"))
        own_images = isinstance(config.get("DATASET"), dict) and config["DATASET"].get("FOLDER")
        if own_images or not self.predictions:
            return None
        try:
            return read_geometry(name, self.predictions[0].classnames) if geometry_file(name).is_file() else None
        except (UserError, ValueError, OSError) as error:
            self.material.remark(f"No severity of mistakes for {name}: {error}")
            return None

    @cached_property
    def metrics(self) -> dict[str, float]:
        """Each metric's mean over the seeds that have predictions; undefined metrics are left out."""
        means = {}
        for name in METRICS:
            if not self.predictions or (find(name).needs and self.geometry is None):
                continue
            with suppress(UserError):  # a geometry without grades
                needed = relations(name, self.runs[0], self.predictions[0].classnames)
                values = [compute(name, one, **needed) for one in self.predictions]
                if None not in values:
                    means[name] = float(np.mean(np.array(values, dtype=float)))
        return means


def choose(tests: Sequence[Evaluation], methods: Sequence[str] | None) -> list[Evaluation]:
    """One test per method for the detailed figures: by default of the best method, OGKD and zero-shot.

    tests: those of one set of test images. methods: classes of methods that replace these defaults. A method that was
        run in several configurations is shown as configured, else in its best one.
    """
    ordered = sorted(tests, key=lambda test: (test.doubtful, -test.score.mean))
    chosen = ordered[:1] if methods is None else []
    for method in ALWAYS if methods is None else methods:
        of_method = [test for test in ordered if test.row.method == method]
        configured = [test for test in of_method if not test.row.variant] or of_method
        chosen += [test for test in configured[:1] if test not in chosen]
    return chosen


def draws_for(runs: Sequence[Run]) -> int:
    """Bootstrap draws per interval: fewer than usual if there are very many intervals."""
    images = sum(number for run in runs if type(number := run.results.get("num_test")) is int)
    return min(DRAWS, max(FEWEST_DRAWS, min(CALLS // max(len(runs), 1), ROWS // max(images, 1))))
