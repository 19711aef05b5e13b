"""Metrics: functions of predictions, registered by name with title, unit and direction.

A new metric is a function here:

    @metric(title="error rate", unit="%", lower_is_better=True)
    def error_rate(predictions: Predictions) -> float | None:
        "Share of the images that are misclassified."
        return 100.0 - accuracy(predictions)

Tables, reports and intervals find it in METRICS. It may only use attributes with one row per image (labels, logits,
log_probabilities, probabilities, predicted, correct, confidence, by_confidence) and classnames, since intervals pass it
resampled rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from typing import Any, TypeVar

import numpy as np

from ogkd.core import UserError, did_you_mean
from ogkd.evaluation.predictions import Predictions
from ogkd.evaluation.shares import Shares

CALIBRATION_BINS = 15
OF_FEW_IMAGES = (
    "A calibration error is larger on few images than on many, and there its interval may miss the true one: compare "
    "it on the same images only."
)
COVERAGE = Fraction(4, 5)
TEMPERATURES = (0.01, 100.0)

Samples = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Metric:
    """A registered metric. `function` returns a number in `unit`, or None if it is undefined.

    needs: keyword arguments of the function besides the predictions: "costs", a (C, C) matrix with the cost of
        predicting the column's class for the row's, 0 on the diagonal; "order", the classes' grades: C different
        numbers, e.g. 0 to 4 for Kellgren-Lawrence.
    inflated: whether repeated images increase it, as with calibration errors over bins; bootstrap draws are then
        shifted so that their mean is the value.
    resampled: computes the metric on many samples, for fast intervals. From predictions it makes, once, a function of
        counts (R, N), the number of times each image is in each of R samples, that returns (R,) values, NaN where
        undefined. Without it the metric is computed sample by sample.
    limits: the smallest and the largest possible value, from the same keyword arguments; of percentages 0 and 100.
    """

    name: str
    title: str
    unit: str
    lower_is_better: bool
    function: Callable[..., float | None]
    needs: Set[str] = frozenset()
    inflated: bool = False
    resampled: Callable[..., Samples] | None = None
    shares: Callable[[Predictions], Shares | None] | None = None
    limits: Callable[..., tuple[float, float]] | None = None


METRICS: dict[str, Metric] = {}
Function = TypeVar("Function", bound=Callable[..., float | None])


def metric(**facts: Any) -> Callable[[Function], Function]:
    """Register a function of predictions by its name, with the other fields of Metric; unit: "%" or "" (a number)."""

    def register(function: Function) -> Function:
        name = function.__name__
        if name in METRICS:
            raise ValueError(f"The metric {name} is registered twice.")
        METRICS[name] = Metric(name=name, function=function, **facts)
        return function

    return register


def find(name: str) -> Metric:
    """The metric with a name. Raises UserError, suggesting the nearest name, if there is none."""
    if name not in METRICS:
        known = list(METRICS)
        raise UserError(f"There is no metric {name!r}{did_you_mean(name, known)}; there are {', '.join(known)}.")
    return METRICS[name]


def compute(name: str, predictions: Predictions, *, costs: object = None, order: object = None) -> float | None:
    """A metric's value; None if it is undefined or its other inputs are not given.

    costs: (C, C) numbers, costs[true, predicted], finite, at least 0 and 0 on the diagonal.
    order: the grade of each class, C different numbers.
    Raises UserError for an unknown name, or for invalid costs or grades.
    """
    return bound(name, len(predictions.classnames), costs=costs, order=order)[0](predictions)


def bound(
    name: str, num_classes: int, *, costs: object = None, order: object = None
) -> tuple[Callable[..., float | None], Callable[..., Samples] | None]:
    """The metric and its `resampled`, if it has one, as functions of predictions only; costs and order are checked.

    If an input that it needs is not given, the metric is None everywhere.
    """
    entry, given = find(name), {"costs": _costs(costs, num_classes), "order": _order(order, num_classes)}
    needed = {need: given[need] for need in entry.needs}
    if any(value is None for value in needed.values()):
        return lambda predictions: None, None
    return partial(entry.function, **needed), entry.resampled and partial(entry.resampled, **needed)


def limits(name: str, num_classes: int, *, costs: object = None, order: object = None) -> tuple[float, float]:
    """The smallest and the largest possible value of a metric; infinite where it has no such limit."""
    entry, given = find(name), {"costs": _costs(costs, num_classes), "order": _order(order, num_classes)}
    if entry.limits is not None:
        return entry.limits(**{need: given[need] for need in entry.needs})
    return (0.0, 100.0) if entry.unit == "%" else (-math.inf, math.inf)


def _costs(costs: object, num_classes: int) -> np.ndarray | None:
    if costs is None:
        return None
    costs = np.asarray(costs, dtype=np.float64)
    if costs.shape != (num_classes, num_classes):
        raise UserError(f"Costs for {num_classes} classes have shape {costs.shape}: give a row and a column per class.")
    if not np.isfinite(costs).all() or (costs < 0).any() or costs.diagonal().any():
        raise UserError("Costs must be finite, at least 0, and 0 on the diagonal (correct predictions).")
    return costs


def _order(order: object, num_classes: int) -> np.ndarray | None:
    if order is None:
        return None
    grades = np.asarray(order, dtype=np.float64)
    if grades.shape != (num_classes,):
        raise UserError(f"Grades for {num_classes} classes have shape {grades.shape}: give one number per class.")
    if not np.isfinite(grades).all() or len(np.unique(grades)) < num_classes:
        raise UserError("Grades must be finite and differ from class to class.")
    return grades


def _mean_of(values: Callable[..., np.ndarray]) -> Callable[..., Samples]:
    """`resampled` for a metric that is the mean of one number per image, (N,)."""

    def resampled(predictions: Predictions, **needed: Any) -> Samples:
        numbers = values(predictions, **needed).astype(np.float64)
        return lambda counts: counts @ numbers / counts.sum(1)

    return resampled


def _share_of(values: Callable[[Predictions], np.ndarray]) -> Callable[[Predictions], Shares]:
    """`shares` for a metric that is a share of all images."""
    return lambda tested: Shares(values(tested).astype(np.float64), np.zeros(len(tested), np.int64), np.ones(1))


def per_class(tested: Predictions) -> Shares:
    """`shares` for a mean over the classes that have images."""
    _, stratum = np.unique(tested.labels, return_inverse=True)
    present = int(stratum.max()) + 1
    return Shares(tested.correct.astype(np.float64), stratum, np.full(present, 1 / present))


# Metrics in results.json


@metric(
    title="accuracy", unit="%", lower_is_better=False,
    resampled=_mean_of(lambda tested: 100.0 * tested.correct), shares=_share_of(lambda tested: tested.correct),
)  # fmt: skip
def accuracy(predictions: Predictions) -> float:
    """Percentage of the images whose predicted class is the label."""
    return 100.0 * float(predictions.correct.mean())


@metric(
    title="error rate", unit="%", lower_is_better=True,
    resampled=_mean_of(lambda tested: 100.0 * ~tested.correct), shares=_share_of(lambda tested: ~tested.correct),
)  # fmt: skip
def error_rate(predictions: Predictions) -> float:
    """100 - accuracy."""
    return 100.0 - accuracy(predictions)


@metric(title="macro F1", unit="%", lower_is_better=False)
def macro_f1(predictions: Predictions) -> float:
    """Mean F1 over the classes that have images; a class without correct predictions counts as 0."""
    counts = _counts(predictions)
    images = counts.sum(1)
    present = images > 0
    return 100.0 * float((2 * counts.diagonal() / np.maximum(images + counts.sum(0), 1))[present].mean())


def _resampled_ece(predictions: Predictions) -> Samples:
    """A product with the images' gaps, each in the column of its bin."""
    gaps = np.zeros((len(predictions), CALIBRATION_BINS))
    gaps[np.arange(len(gaps)), _bins(predictions.confidence)] = predictions.correct - predictions.confidence
    return lambda counts: 100.0 * np.abs(counts @ gaps).sum(1) / counts.sum(1)


@metric(title="ECE", unit="%", lower_is_better=True, inflated=True, resampled=_resampled_ece)
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


def summary(predictions: Predictions) -> dict[str, Any]:
    """The entries of results.json that depend on the predictions. Equal predictions give bit-identical values."""
    return {
        **{name: compute(name, predictions) for name in ("accuracy", "macro_f1", "expected_calibration_error")},
        "per_class_accuracy": per_class_accuracy(predictions),
        "confusion_matrix": confusion_matrix(predictions),
        "classnames": list(predictions.classnames),
        "num_test": len(predictions.labels),
        "num_patients": predictions.patients,
    }


# Discrimination


def _resampled_balanced_accuracy(predictions: Predictions) -> Samples:
    """Two products: images, and correct ones, of each class."""
    images = np.eye(len(predictions.classnames))[predictions.labels]
    correct = images * predictions.correct[:, None]

    def samples(counts: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            return 100.0 * np.nanmean((counts @ correct) / (counts @ images), axis=1)

    return samples


@metric(
    title="balanced accuracy", unit="%", lower_is_better=False,
    resampled=_resampled_balanced_accuracy, shares=per_class,
)  # fmt: skip
def balanced_accuracy(predictions: Predictions) -> float:
    """Mean accuracy over the classes that have images, that is, the macro sensitivity (recall)."""
    counts = _counts(predictions)
    images = counts.sum(1)
    return 100.0 * float((counts.diagonal()[images > 0] / images[images > 0]).mean())


def per_class_specificity(predictions: Predictions) -> dict[str, float | None]:
    """Percentage of other classes' images that are not predicted as the class; None if others have no images."""
    counts = _counts(predictions)
    others = len(predictions.labels) - counts.sum(1)
    return _shares(predictions, others - (counts.sum(0) - counts.diagonal()), others)


def _specific(tested: Predictions) -> Shares | None:
    """`shares` for the macro specificity: by true class, what its images take from the other classes' specificity."""
    images = np.bincount(tested.labels, minlength=len(tested.classnames))
    others = len(tested) - images
    if not others.all():
        return None
    costs = np.where(tested.correct, 0.0, images[tested.labels] / others[tested.predicted]) / len(images)
    _, stratum = np.unique(tested.labels, return_inverse=True)
    worst = np.array([images[c] / np.delete(others, c).min() / len(images) for c in np.flatnonzero(images)])
    return Shares(1 - costs / worst[stratum], stratum, worst, 1 - worst.sum())


@metric(title="macro specificity", unit="%", lower_is_better=False, shares=_specific)
def macro_specificity(predictions: Predictions) -> float | None:
    """Mean specificity over the classes for which it is defined; None for a single class."""
    values = [value for value in per_class_specificity(predictions).values() if value is not None]
    return float(np.mean(values)) if values else None


def _resampled_auroc(predictions: Predictions) -> Samples:
    """One sort per class. Each image of the class is above the drawn images below it and half of those that tie with
    it; of these, the class's own pairs are half the square of its number. All sums are of whole numbers, so exact."""
    classes, columns = [], predictions.probabilities.T
    for label, scores in enumerate(columns[: 1 if len(columns) == 2 else None]):  # of two classes both have the same
        own, order = np.flatnonzero(predictions.labels == label), np.argsort(scores)
        below, upto = (np.searchsorted(scores[order], scores[own], side) for side in ("left", "right"))
        classes.append((own, order, below, upto))

    def samples(counts: np.ndarray) -> np.ndarray:
        total, areas = counts.sum(1), np.full((len(classes), len(counts)), np.nan)
        counts = counts.astype(np.int32)
        reached = np.zeros((len(counts), counts.shape[1] + 1), np.int32)  # images drawn up to each place of the order
        for (own, order, below, upto), area in zip(classes, areas, strict=True):
            np.cumsum(counts.take(order, axis=1), axis=1, out=reached[:, 1:])
            weights = counts.take(own, axis=1).astype(np.int64)
            images = weights.sum(1)
            twice = (weights * (reached.take(below, axis=1) + reached.take(upto, axis=1))).sum(1) - images**2
            np.divide(twice, 2 * images * (total - images), out=area, where=(images > 0) & (images < total))
        defined = (~np.isnan(areas)).sum(0)
        with np.errstate(invalid="ignore"):
            return 100.0 * np.nansum(areas, axis=0) / defined

    return samples


@metric(title="macro AUROC", unit="%", lower_is_better=False, resampled=_resampled_auroc)
def macro_auroc(predictions: Predictions) -> float | None:
    """Mean area under the one-vs-rest ROC curve of a class's probability, over the classes that have images.

    None unless two classes have images. Ties count as half: the Mann-Whitney statistic (Hanley and McNeil, Radiology
    1982).
    """
    areas = []
    for label in range(len(predictions.classnames)):
        own = predictions.labels == label
        if own.any() and not own.all():
            scores = predictions.probabilities[:, label]
            others = np.sort(scores[~own])
            below = np.searchsorted(others, scores[own], "left") + np.searchsorted(others, scores[own], "right")
            areas.append(below.mean() / (2 * len(others)))
    return 100.0 * float(np.mean(areas)) if areas else None


# Calibration


def _resampled_adaptive_ece(predictions: Predictions) -> Samples:
    ranked = _Ranked(predictions)

    def samples(counts: np.ndarray) -> np.ndarray:
        values = []
        for images, correct in ranked.sums(counts):
            ends = -(-np.arange(CALIBRATION_BINS + 1) * int(images[-1]) // CALIBRATION_BINS)
            confidence = np.append(0.0, np.cumsum(np.diff(images) * ranked.confidence))
            gaps = np.diff(np.interp(ends, images, correct) - np.interp(ends, images, confidence))
            values.append(100.0 * np.abs(gaps).sum() / images[-1])
        return np.array(values)

    return samples


@metric(title="adaptive ECE", unit="%", lower_is_better=True, inflated=True, resampled=_resampled_adaptive_ece)
def adaptive_ece(predictions: Predictions) -> float:
    """ECE over 15 bins with equal numbers of images in order of confidence (sizes differ by at most one).

    Images with equal confidence share their mean correctness, so that their order does not matter.
    Mukhoti et al., NeurIPS 2020 (arXiv 2002.09437), after Nguyen and O'Connor, EMNLP 2015.
    """
    correct, confidence = _by_confidence(predictions)
    place = np.arange(len(correct)) * CALIBRATION_BINS // len(correct)
    return 100.0 * float(np.abs(np.bincount(place, weights=correct - confidence)).sum() / len(correct))


def _resampled_classwise_ece(predictions: Predictions) -> Samples:
    """As `_resampled_ece`, with a column for each bin of each class."""
    from scipy.sparse import csr_array

    number, size = predictions.probabilities.shape
    gap = -predictions.probabilities
    gap[np.arange(number), predictions.labels] += 1
    place = _bins(predictions.probabilities) + CALIBRATION_BINS * np.arange(size)
    starts = np.arange(number + 1) * size
    gaps = csr_array((gap.ravel(), place.ravel(), starts), shape=(number, size * CALIBRATION_BINS))
    return lambda counts: 100.0 * np.abs(counts @ gaps).sum(1) / (counts.sum(1) * size)


@metric(title="classwise ECE", unit="%", lower_is_better=True, inflated=True, resampled=_resampled_classwise_ece)
def classwise_ece(predictions: Predictions) -> float:
    """Mean over all classes of the ECE of a class's probability, in 15 equal bins.

    Kull et al., NeurIPS 2019 (arXiv 1910.12656).
    """
    number, size = predictions.probabilities.shape
    gap = -predictions.probabilities
    gap[np.arange(number), predictions.labels] += 1
    place = _bins(predictions.probabilities) + CALIBRATION_BINS * np.arange(size)
    return 100.0 * float(np.abs(np.bincount(place.ravel(), weights=gap.ravel())).sum() / (number * size))


def _surprise(predictions: Predictions) -> np.ndarray:
    """Negative log-likelihood of each label in nats, (N,)."""
    return 0.0 - np.take_along_axis(predictions.log_probabilities, predictions.labels[:, None], 1)[:, 0]


@metric(
    title="NLL", unit="", lower_is_better=True, resampled=_mean_of(_surprise), limits=lambda: (0.0, math.inf)
)  # fmt: skip
def nll(predictions: Predictions) -> float:
    """Mean negative log-likelihood of the labels, in nats."""
    return float(_surprise(predictions).mean())


def _squared_distance(predictions: Predictions) -> np.ndarray:
    """Squared distance of each image's probabilities from its one-hot label, (N,)."""
    distance = predictions.probabilities.copy()
    distance[np.arange(len(distance)), predictions.labels] -= 1
    return np.square(distance).sum(1)


@metric(
    title="Brier score", unit="", lower_is_better=True, resampled=_mean_of(_squared_distance), limits=lambda: (0.0, 2.0)
)  # fmt: skip
def brier(predictions: Predictions) -> float:
    """Mean squared distance of the probabilities from the one-hot label, 0 to 2.

    Brier, Monthly Weather Review 1950.
    """
    return float(_squared_distance(predictions).mean())


def fit_temperature(validation: Predictions) -> float:
    """The temperature that minimises the NLL of validation logits divided by it (Guo et al., ICML 2017).

    Limited to 0.01 to 100. Validation images without mistakes give 0.01, which means that they are too few. 1 if all
    temperatures are equivalent.
    """
    from scipy.optimize import brentq

    logits = validation.logits.astype(np.float64)
    logits -= logits.max(1, keepdims=True)
    true = np.take_along_axis(logits, validation.labels[:, None], 1).mean()

    def slope(log_inverse: float) -> float:
        """Derivative of the NLL with respect to the inverse temperature, in which it is convex."""
        weights = np.exp(logits * np.exp(log_inverse))
        return float(((weights * logits).sum(1) / weights.sum(1)).mean() - true)

    low, high = (-float(np.log(bound)) for bound in reversed(TEMPERATURES))
    if slope(low) >= 0:
        return 1.0 if slope(high) <= 0 else TEMPERATURES[1]
    return TEMPERATURES[0] if slope(high) <= 0 else float(np.exp(-brentq(slope, low, high)))


def with_temperature(predictions: Predictions, temperature: float) -> Predictions:
    """The predictions with their logits divided by a temperature."""
    if not 0 < temperature < float("inf"):
        raise UserError(f"A temperature must be a finite number above 0, not {temperature}.")
    logits = predictions.logits.astype(np.float64) / temperature
    return replace(predictions, logits=logits)


# Selective prediction


def _resampled_aurc(predictions: Predictions) -> Samples:
    """Images that tie, among them the copies of one image, share a rate m of correct ones: after a images with c
    correct ones, the j-th of w such images has the accuracy (c + j m) / (a + j) = m + (c - a m) / (a + j)."""
    ranked, harmonic = _Ranked(predictions), np.zeros(1)

    def samples(counts: np.ndarray) -> np.ndarray:
        nonlocal harmonic
        values, most = [], int(counts.sum(1).max())
        if len(harmonic) <= most:
            harmonic = np.append(0.0, np.cumsum(1.0 / np.arange(1, most + 1)))
        for images, correct in ranked.sums(counts):
            before, number = images[:-1], np.diff(images)
            rate = np.diff(correct) / np.maximum(number, 1)
            accuracies = number * rate + (correct[:-1] - before * rate) * np.diff(harmonic.take(images))
            values.append(100.0 * (1.0 - accuracies.sum() / images[-1]))
        return np.array(values)

    return samples


@metric(title="AURC", unit="%", lower_is_better=True, resampled=_resampled_aurc)
def aurc(predictions: Predictions) -> float:
    """Area under the risk-coverage curve: the mean, over k = 1 to N, of the error rate on the k most confident images.

    Images with equal confidence share their mean correctness, as if their order were random.
    Geifman et al., ICLR 2019 (arXiv 1805.08206).
    """
    return 100.0 * float(risk_coverage(predictions)[1].mean())


def _of_the_confident(tested: Predictions) -> Shares:
    """`shares` for the accuracy at 80 % coverage."""
    correct, _ = _by_confidence(tested)
    values, stratum = np.empty(len(tested)), np.full(len(tested), -1)
    values[tested.by_confidence] = correct
    stratum[tested.by_confidence[: math.ceil(len(tested) * COVERAGE)]] = 0
    return Shares(values, stratum, np.ones(1))


def _resampled_accuracy_at_80_coverage(predictions: Predictions) -> Samples:
    ranked = _Ranked(predictions)

    def samples(counts: np.ndarray) -> np.ndarray:
        values = []
        for images, correct in ranked.sums(counts):
            covered = math.ceil(int(images[-1]) * COVERAGE)
            values.append(100.0 * np.interp(covered, images, correct) / covered)
        return np.array(values)

    return samples


@metric(
    title="accuracy at 80 % coverage",
    unit="%",
    lower_is_better=False,
    resampled=_resampled_accuracy_at_80_coverage,
    shares=_of_the_confident,
)
def accuracy_at_80_coverage(predictions: Predictions) -> float:
    """Accuracy on the most confident 80 % of the images, rounded up to a whole number; ties as in AURC.

    Geifman and El-Yaniv, NeurIPS 2017 (arXiv 1705.08500).
    """
    correct, _ = _by_confidence(predictions)
    return 100.0 * float(correct[: math.ceil(len(correct) * COVERAGE)].mean())


def risk_coverage(predictions: Predictions) -> tuple[np.ndarray, np.ndarray]:
    """The risk-coverage curve: the fraction of images kept, 1/N to 1, and the error rate on them, both (N,)."""
    correct, _ = _by_confidence(predictions)
    kept = np.arange(1, len(correct) + 1)
    return kept / len(correct), 1.0 - np.cumsum(correct) / kept


# Severity of mistakes


def _cost(predictions: Predictions, costs: np.ndarray) -> np.ndarray:
    """The cost of each prediction, (N,)."""
    return costs[predictions.labels, predictions.predicted]


@metric(
    title="expected cost", unit="", lower_is_better=True, needs={"costs"}, resampled=_mean_of(_cost),
    limits=lambda costs: (0.0, float(costs.max())),
)  # fmt: skip
def expected_cost(predictions: Predictions, costs: np.ndarray) -> float:
    """Mean cost over all images; a correct prediction costs nothing."""
    return float(_cost(predictions, costs).mean())


def _resampled_severity(predictions: Predictions, costs: np.ndarray) -> Samples:
    mistakes, cost = (~predictions.correct).astype(np.float64), _cost(predictions, costs)

    def samples(counts: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            return counts @ cost / (counts @ mistakes)

    return samples


@metric(
    title="mistake severity", unit="", lower_is_better=True, needs={"costs"}, resampled=_resampled_severity,
    limits=lambda costs: (float(costs[~np.eye(len(costs), dtype=bool)].min(initial=costs.max())), float(costs.max())),
)  # fmt: skip
def mistake_severity(predictions: Predictions, costs: np.ndarray) -> float | None:
    """Mean cost over the mistakes only; None without mistakes. Only compare methods with similar accuracy.

    Bertinetto et al., CVPR 2020 (arXiv 1912.09393).
    """
    wrong = ~predictions.correct
    return float(costs[predictions.labels[wrong], predictions.predicted[wrong]].mean()) if wrong.any() else None


@metric(
    title="quadratic weighted kappa", unit="", lower_is_better=False, needs={"order"},
    limits=lambda order: (-1.0, 1.0),
)  # fmt: skip
def quadratic_weighted_kappa(predictions: Predictions, order: np.ndarray) -> float | None:
    """Agreement beyond chance, disagreements weighted by the squared difference in grades: 1 is perfect, 0 is chance.

    None if all labels and predictions are the same class. Cohen, Psychological Bulletin 1968.
    """
    counts = _counts(predictions)
    weights = np.square(order[:, None] - order)
    by_chance = (weights * np.outer(counts.sum(1), counts.sum(0))).sum() / counts.sum()
    return float(1.0 - (weights * counts).sum() / by_chance) if by_chance else None


def _grade_error(predictions: Predictions, order: np.ndarray) -> np.ndarray:
    """|grade of the prediction - grade of the label| of each image, (N,)."""
    return np.abs(order[predictions.predicted] - order[predictions.labels])


@metric(
    title="mean absolute grade error", unit="", lower_is_better=True, needs={"order"}, resampled=_mean_of(_grade_error),
    limits=lambda order: (0.0, float(np.ptp(order))),
)  # fmt: skip
def mean_absolute_grade_error(predictions: Predictions, order: np.ndarray) -> float:
    """Mean |grade of the prediction - grade of the label|, in grades."""
    return float(_grade_error(predictions, order).mean())


# Helpers


def _counts(predictions: Predictions) -> np.ndarray:
    """The confusion matrix as an array, (C, C) int64."""
    size = len(predictions.classnames)
    return np.bincount(predictions.labels * size + predictions.predicted, minlength=size * size).reshape(size, size)


def _shares(predictions: Predictions, parts: np.ndarray, totals: np.ndarray) -> dict[str, float | None]:
    """Percentages by class name; None if the total is 0."""
    return {
        name: 100.0 * float(part / total) if total else None
        for name, part, total in zip(predictions.classnames, parts, totals, strict=True)
    }


def _bins(values: np.ndarray) -> np.ndarray:
    """Index of each value's bin among CALIBRATION_BINS equal bins, open below and closed above; 0 is in the first."""
    return np.clip(np.ceil(values * CALIBRATION_BINS).astype(np.int64) - 1, 0, CALIBRATION_BINS - 1)


def _by_confidence(predictions: Predictions) -> tuple[np.ndarray, np.ndarray]:
    """Correctness and confidence, most confident first; images with equal confidence share their mean correctness."""
    order = predictions.by_confidence
    confidence = predictions.confidence[order]
    starts = np.flatnonzero(np.append(True, confidence[1:] != confidence[:-1]))
    sizes = np.diff(np.append(starts, len(order)))
    shared = np.add.reduceat(predictions.correct[order].astype(np.float64), starts) / sizes
    return np.repeat(shared, sizes), confidence


class _Ranked:
    """Resampled images in order of confidence; images that tie are one of G groups, whose members share their sums.

    confidence: that of each group, (G,), the largest first.
    """

    def __init__(self, predictions: Predictions) -> None:
        self.order = predictions.by_confidence
        confidence = predictions.confidence[self.order]
        starts = np.flatnonzero(np.append(True, confidence[1:] != confidence[:-1]))
        self.confidence, self.ends = confidence[starts], np.append(starts, len(confidence))
        self.correct = predictions.correct[self.order]

    def sums(self, counts: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """For each sample of counts (R, N): how many images, and how many correct ones, are before each group and after
        the last, both (G + 1,)."""
        reached = np.zeros((2, counts.shape[1] + 1), np.int32)
        for row in counts.astype(np.int32):
            weights = row.take(self.order)
            np.cumsum(weights, out=reached[0, 1:])
            np.cumsum(weights * self.correct, out=reached[1, 1:])
            images, correct = reached.take(self.ends, axis=1)
            yield images, correct
