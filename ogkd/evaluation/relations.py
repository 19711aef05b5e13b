"""What metrics and intervals need about a run besides its predictions: how its classes relate, from
geometry/<DATASET>.yaml."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from ogkd.classes import costs, geometry_file, read_geometry
from ogkd.core import UserError
from ogkd.evaluation.collect import Run
from ogkd.evaluation.metrics import find
from ogkd.evaluation.predictions import Predictions
from ogkd.evaluation.statistics import DRAWS, Interval, bootstrap


def relations(metric: str, run: Run, classnames: tuple[str, ...]) -> dict[str, Any]:
    """The inputs that a metric needs about the run's classes, as keywords of metrics.compute; {} for most metrics.

    classnames: the classes of the predictions, in order. For a subset of a data set's classes, such as the novel ones,
        distances and grades are those in the whole tree or order.

    Raises:
        UserError: the data set has no geometry, its geometry lacks the grades that the metric needs, or it is for
            other classes.
    """
    needs = find(metric).needs
    if not needs:
        return {}
    known = _relations(run.results["dataset"], classnames)
    if "order" in needs and "order" not in known:
        raise UserError("it needs grades, an 'order' in the data set's file in geometry")
    return {need: known[need] for need in needs}


def interval(metric: str, run: Run, seeds: Sequence[Predictions], draws: int = DRAWS) -> Interval | None:
    """A metric's mean over seeds with its interval over test images, as every table and the page show it.

    run: any of the runs, which share their classes. seeds: the predictions of each. Errors and None are as in
        `relations` and `bootstrap`.
    """
    return bootstrap(metric, seeds, draws=draws, **relations(metric, run, seeds[0].classnames))


@cache
def _relations(dataset: str, classnames: tuple[str, ...]) -> dict[str, np.ndarray]:
    if not geometry_file(dataset).is_file():
        raise UserError(f"it needs to know how the classes of {dataset} relate, a geometry/{dataset}.yaml")
    geometry = read_geometry(dataset, classnames)
    known = {"costs": costs(geometry)}
    if geometry.is_ordered:
        known["order"] = np.array([geometry.all_classnames.index(name) for name in classnames], dtype=np.float64)
    return known
