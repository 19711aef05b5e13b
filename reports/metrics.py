"""Metrics: functions of predictions, registered under their names with title, unit and direction.

A new metric is a function here:

    @metric(title="error rate", unit="%", lower_is_better=True)
    def error_rate(predictions: Predictions) -> float | None:
        "Share of the images that are misclassified."
        return 100.0 - accuracy(predictions)

Tables, reports and intervals find it in METRICS. It uses the images' rows alone (labels, logits, log_probabilities,
probabilities, predicted, correct, confidence, classnames), since intervals hand it resampled rows.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from dassl.utils import UserError

from .predictions import Predictions

CALIBRATION_BINS = 15
COVERAGE = Fraction(4, 5)
NEEDS = ("costs", "grades")
TEMPERATURES = (0.01, 100.0)


@dataclass(frozen=True)
class Metric:
    """A registered metric. `function` returns a number in `unit`, or None where it is undefined.

    needs: what the function takes beside the predictions, by keyword: "costs", a (C, C) matrix with the cost of
        predicting the column's class for the row's, 0 on the diagonal; "grades", C different numbers, the place of each
        class on an ordered scale.
    """

    name: str
    title: str
    unit: str
    lower_is_better: bool
    function: Callable[..., float | None]
    needs: frozenset[str] = frozenset()


METRICS: dict[str, Metric] = {}


def metric(
    *, title: str, unit: str, lower_is_better: bool, needs: set[str] | frozenset[str] = frozenset()
) -> Callable[[Callable[..., float | None]], Callable[..., float | None]]:
    """Register a function of predictions under its name. unit: "%" or "" (a plain number)."""

    def register(function: Callable[..., float | None]) -> Callable[..., float | None]:
        name = function.__name__
        if name in METRICS:
            raise ValueError(f"The metric {name} is registered twice.")
        METRICS[name] = Metric(name, title, unit, lower_is_better, function, frozenset(needs))
        return function

    return register


def find(name: str) -> Metric:
    """The metric of a name. Raises UserError, with the nearest name, when there is none."""
    if name not in METRICS:
        near = difflib.get_close_matches(name, METRICS, 1)
        raise UserError(
            f"There is no metric {name!r}{f', do you mean {near[0]!r}?' if near else '.'} "
            f"Known are {', '.join(METRICS)}."
        )
    return METRICS[name]


def compute(name: str, predictions: Predictions, *, costs: object = None, grades: object = None) -> float | None:
    """A metric's value; None where it is undefined or what it needs is not given.

    costs: (C, C) numbers, costs[true, predicted], finite, at least 0 and 0 on the diagonal.
    grades: C different numbers. Raises UserError for an unknown name, costs or grades of another form.
    """
    return bound(name, len(predictions.classnames), costs=costs, grades=grades)(predictions)


def compute_all(predictions: Predictions, *, costs: object = None, grades: object = None) -> dict[str, float | None]:
    """Every metric's value, by name, in the order of METRICS."""
    return {name: compute(name, predictions, costs=costs, grades=grades) for name in METRICS}


def bound(
    name: str, num_classes: int, *, costs: object = None, grades: object = None
) -> Callable[[Predictions], float | None]:
    """The metric as a function of predictions alone, its costs and grades checked once."""
    found, given = find(name), {"costs": _costs(costs, num_classes), "grades": _grades(grades, num_classes)}
    needed = {need: given[need] for need in NEEDS if need in found.needs}
    if any(value is None for value in needed.values()):
        return lambda predictions: None
    return lambda predictions: found.function(predictions, **needed)


def _costs(costs: object, num_classes: int) -> np.ndarray | None:
    if costs is None:
        return None
    costs = np.asarray(costs, dtype=np.float64)
    if costs.shape != (num_classes, num_classes):
        raise UserError(f"Costs for {num_classes} classes have shape {costs.shape}: give a row and a column per class.")
    if not np.isfinite(costs).all() or (costs < 0).any() or costs.diagonal().any():
        raise UserError("Costs must be finite, none below 0, and 0 on the diagonal, where nothing is mistaken.")
    return costs


def _grades(grades: object, num_classes: int) -> np.ndarray | None:
    if grades is None:
        return None
    grades = np.asarray(grades, dtype=np.float64)
    if grades.shape != (num_classes,):
        raise UserError(f"Grades for {num_classes} classes have shape {grades.shape}: give one number per class.")
    if not np.isfinite(grades).all() or len(np.unique(grades)) < num_classes:
        raise UserError("Grades must be finite and differ from class to class.")
    return grades


# What results.json holds


@metric(title="accuracy", unit="%", lower_is_better=False)
def accuracy(predictions: Predictions) -> float:
    """Share of the images whose predicted class is the label."""
    return 100.0 * float(predictions.correct.mean())


@metric(title="error rate", unit="%", lower_is_better=True)
def error_rate(predictions: Predictions) -> float:
    """100 - accuracy."""
    return 100.0 - accuracy(predictions)


@metric(title="macro F1", unit="%", lower_is_better=False)
def macro_f1(predictions: Predictions) -> float:
    """Mean F1 of the classes that have images; a class that is never hit counts as 0."""
    counts = _counts(predictions)
    images = counts.sum(1)
    present = images > 0
    return 100.0 * float((2 * counts.diagonal() / np.maximum(images + counts.sum(0), 1))[present].mean())


@metric(title="ECE", unit="%", lower_is_better=True)
def expected_calibration_error(predictions: Predictions) -> float:
    """Mean |accuracy - confidence| over 15 equal bins of confidence in (0, 1], weighted by their share of the images.

    Naeini et al., AAAI 2015.
    """
    gap = predictions.correct - predictions.confidence
    return 100.0 * float(np.abs(np.bincount(_bins(predictions.confidence), weights=gap)).sum() / len(gap))


def confusion_matrix(predictions: Predictions) -> list[list[int]]:
    """Images by true class (rows) and predicted class (columns)."""
    return _counts(predictions).tolist()


def per_class_accuracy(predictions: Predictions) -> dict[str, float | None]:
    """Accuracy in percent on the images of each class, which is its sensitivity; None for a class without images."""
    counts = _counts(predictions)
    return _shares(predictions, counts.diagonal(), counts.sum(1))


def summary(predictions: Predictions) -> dict[str, object]:
    """What results.json holds of the predictions. Equal predictions give equal numbers, to the last bit."""
    return {
        **{name: compute(name, predictions) for name in ("accuracy", "macro_f1", "expected_calibration_error")},
        "per_class_accuracy": per_class_accuracy(predictions),
        "confusion_matrix": confusion_matrix(predictions),
        "classnames": list(predictions.classnames),
        "num_test": len(predictions.labels),
    }


def _counts(predictions: Predictions) -> np.ndarray:
    """The confusion matrix as an array, (C, C) int64."""
    size = len(predictions.classnames)
    return np.bincount(predictions.labels * size + predictions.predicted, minlength=size * size).reshape(size, size)


def _shares(predictions: Predictions, parts: np.ndarray, totals: np.ndarray) -> dict[str, float | None]:
    """Percentages by class name; None where the total is 0."""
    return {
        name: 100.0 * float(part / total) if total else None
        for name, part, total in zip(predictions.classnames, parts, totals, strict=True)
    }


def _bins(values: np.ndarray) -> np.ndarray:
    """Place of each value in CALIBRATION_BINS equal bins, open below and closed above; 0 is in the first."""
    return np.clip(np.ceil(values * CALIBRATION_BINS).astype(np.int64) - 1, 0, CALIBRATION_BINS - 1)
