"""Results as a clinician reads them: one class against all others, at a threshold chosen on validation images.

An image is positive for a class if the class's probability, as the model gives it (without a temperature), reaches a
threshold. The threshold is chosen for a wanted sensitivity or specificity on validation images, never on test images,
so that the next image of the class is detected with at least the wanted probability (ogkd/evaluation/conformal.py).
n patients can promise at most n / (n + 1); with fewer there is no threshold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from ogkd.core import UserError, did_you_mean
from ogkd.core.schema import number, one_of
from ogkd.core.words import counted, listed
from ogkd.evaluation import shares
from ogkd.evaluation.conformal import TooFewImages, needed, reach
from ogkd.evaluation.predictions import Predictions, units
from ogkd.evaluation.shares import Shares
from ogkd.evaluation.statistics import DRAWS, Interval, bootstrap

KINDS = SENSITIVITY, SPECIFICITY = "sensitivity", "specificity"
LEVELS = (0.9, 0.95)  # sensitivities and specificities for which an exported prompt has thresholds
GRID = np.arange(1, 100) / 100  # threshold probabilities of a decision curve
LARGEST = 1e30  # log odds, which single precision can hold


@dataclass(frozen=True)
class Estimate:
    """A percentage with its 95 % interval; images, patients: how many it is measured on, None for a computed one or
    where patients are not known."""

    value: float
    low: float
    high: float
    images: int | None = None
    patients: int | None = None

    def __str__(self) -> str:
        return f"{self.value:.1f} % [{self.low:.1f}, {self.high:.1f}]"

    @property
    def basis(self) -> str:
        """What it is measured on: "40 images of 12 patients"."""
        return basis(self.images or 0, self.patients)


def basis(images: int, patients: int | None) -> str:
    """Images and, where they are known, patients in words: "40 images of 12 patients"."""
    of_patients = "" if patients is None else f" of {counted(patients, 'patient')}"
    return f"{counted(images, 'image')}{of_patients}"


@dataclass(frozen=True)
class Achieved:
    """The sensitivity and specificity for a class on some images; None where no image shows it, or all do."""

    sensitivity: Estimate | None
    specificity: Estimate | None


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold on the probability of a class, at and above which an image is positive.

    wanted: "sensitivity" or "specificity". level: the wanted one, in 0..1. validation: what the threshold achieves on
    the images that it was chosen on. test: on the test images; None if there are none.
    """

    classname: str
    wanted: str
    level: float
    threshold: float
    validation: Achieved
    test: Achieved | None = None

    @property
    def key(self) -> tuple[str, str, float]:
        """What it was chosen for: class, "sensitivity" or "specificity", and level."""
        return self.classname, self.wanted, self.level

    def on(self, predictions: Predictions) -> Achieved:
        """What the threshold achieves on other images."""
        return achieved(predictions, self.classname, self.threshold)

    def is_positive(self, probability: float) -> bool:
        """Whether an image with this probability of the class, without a temperature, is positive."""
        return probability >= self.threshold

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> OperatingPoint:
        """Read what `as_json` wrote and `SHAPE` describes."""
        known = {name: record[name] for name in ("classname", "wanted", "level", "threshold")}
        return cls(
            **known, validation=_achieved(record["validation"]), test=record["test"] and _achieved(record["test"])
        )


PERCENT = number(0, 100)
MEASURED = dict.fromkeys(("value", "low", "high"), PERCENT) | {"images": int, "patients": (int, None)}
_ACHIEVED = dict.fromkeys(KINDS, (MEASURED, None))
SHAPE = {
    "classname": str, "wanted": one_of(*KINDS), "level": number(above=0, below=1), "threshold": number(0, 2),
    "validation": _ACHIEVED, "test": (_ACHIEVED, None),
}  # fmt: skip
"""The shape of an operating point in JSON."""


# Class by class


@dataclass(frozen=True)
class ClassResult:
    """One class against all others at the model's own answers, the most likely class, averaged over seeds.

    auc: the area under the ROC curve of the class's probability, in percent.
    """

    name: str
    images: int
    patients: int | None
    sensitivity: Estimate | None
    specificity: Estimate | None
    auc: Interval | None


def by_class(seeds: Sequence[Predictions], draws: int = DRAWS) -> list[ClassResult]:
    """The result for each class; seeds: predictions of each seed, on the same images in the same order."""
    first, results = next((one for one in seeds if one.groups is not None), seeds[0]), []
    for label, name in enumerate(first.classnames):
        own = first.labels == label
        chosen = np.mean([one.predicted == label for one in seeds], axis=0)
        binary = seeds if len(first.classnames) == 2 else [one_vs_rest(one, name) for one in seeds]
        auc = bootstrap("macro_auroc", binary, draws=draws)  # of two classes both have the same, and the same interval
        sensitivity, specificity = _both(first, own, chosen, len(seeds))
        results.append(ClassResult(name, int(own.sum()), _patients(first, own), sensitivity, specificity, auc))
    return results


def one_vs_rest(predictions: Predictions, classname: str) -> Predictions:
    """The predictions as those of two classes: all others, and the class, whose logit is its log odds."""
    from scipy.special import logsumexp

    label = _label(predictions, classname)
    logits = predictions.logits.astype(np.float64)
    others = np.delete(logits, label, axis=1)
    odds = logits[:, label] - (logsumexp(others, axis=1) if others.size else 0.0)
    logits = np.stack([np.zeros_like(odds), np.clip(odds, -LARGEST, LARGEST)], axis=1)
    labels = (predictions.labels == label).astype(np.int64)
    return replace(predictions, labels=labels, logits=logits, classnames=(f"not {classname}", classname))


def roc(predictions: Predictions, classname: str) -> tuple[np.ndarray, np.ndarray]:
    """The ROC curve of a class's probability: 1 - specificity and sensitivity, both in 0..1 and increasing."""
    from sklearn.metrics import roc_curve

    binary = one_vs_rest(predictions, classname)
    return roc_curve(binary.labels, binary.logits[:, 1])[:2]


def precision_recall(predictions: Predictions, classname: str) -> tuple[np.ndarray, np.ndarray]:
    """The precision-recall curve of a class's probability: recall (sensitivity), decreasing, and precision."""
    from sklearn.metrics import precision_recall_curve

    binary = one_vs_rest(predictions, classname)
    precision, recall, _ = precision_recall_curve(binary.labels, binary.logits[:, 1])
    return recall, precision


class DecisionCurve(NamedTuple):
    """Net benefit (T,) of three ways to act at threshold probabilities (T,); that of acting on no image is 0."""

    thresholds: np.ndarray
    model: np.ndarray
    everyone: np.ndarray


def decision_curve(predictions: Predictions, classname: str, thresholds: np.ndarray = GRID) -> DecisionCurve:
    """The decision curve of a class's probability (Vickers and Elkin, Medical Decision Making 2006).

    Net benefit is the share of true positives minus that of false positives, which count threshold / (1 - threshold)
    each: who acts at a probability of 10 % accepts nine needless actions for each that is needed.
    """
    own, chances = _scores(predictions, classname)
    positive = chances[:, None] >= thresholds
    price = thresholds / (1 - thresholds)
    model = (positive & own[:, None]).mean(0) - (positive & ~own[:, None]).mean(0) * price
    return DecisionCurve(thresholds, model, own.mean() - (1 - own.mean()) * price)


# At a threshold


def choose(validation: Predictions, classname: str, wanted: str, level: float) -> OperatingPoint:
    """The threshold for a wanted sensitivity or specificity of at least `level`, in 0..1, for a class.

    Of n validation images of the class, each of another patient, the threshold is the k-th lowest probability, whose
    sensitivity is 1 - k / (n + 1) in expectation; k is the largest for which this reaches the level. With several
    images per patient, n is the number of patients, and images are counted by their share of their patient's. The
    specificity likewise, with the highest probabilities of other classes' images.

    Raises:
        TooFewImages: n / (n + 1) is below the level, n being patients where these are known.
        UserError: there is no such class, or the level is out of range.
    """
    if wanted not in KINDS or not 0 < level < 1:
        raise UserError(f"A wanted {wanted} must be a number between 0 and 1, such as 0.95, not {level}.")
    own, chances = _scores(validation, classname)
    counting = own if wanted == SENSITIVITY else ~own
    of_units = units(validation)[counting]
    if (patients := len(np.unique(of_units))) < needed(level):
        whose = classname if wanted == SENSITIVITY else f"classes other than {classname}"
        what = "images" if validation.groups is None else "patients"
        raise TooFewImages(
            f"Too few validation {what} for a {wanted} of {100 * level:g} % for {classname}: it needs at least "
            f"{needed(level)} of {whose}, but there are {patients}."
        )
    scores = -chances[counting] if wanted == SENSITIVITY else chances[counting]
    last = abs(reach(scores, of_units, level))
    if wanted == SENSITIVITY:
        above, below = last, chances[chances < last].max(initial=0.0)
    else:
        below, above = last, chances[chances > last].min(initial=1.0 if last < 1 else np.nextafter(1.0, 2.0))
    middle = (below + above) / 2  # so that rounding, which depends on the batch, turns no image on the threshold
    threshold = float(middle if middle > below else above)
    return OperatingPoint(classname, wanted, level, threshold, achieved(validation, classname, threshold))


def calibrated_on(images: int, drawn: int) -> str:
    """Which validation images temperature and thresholds are fitted to, in words."""
    if images == drawn:
        return f"the {images} validation images of the run"
    return f"all {images} labelled validation images of the split, of which the run drew {drawn}"


def choose_all(validation: Predictions, test: Predictions | None) -> list[OperatingPoint]:
    """The operating point of each class for each of LEVELS for which there are validation images enough."""
    points = []
    for name in validation.classnames if len(validation.classnames) > 1 else ():
        for wanted in KINDS:
            for level in LEVELS:
                try:
                    point = choose(validation, name, wanted, level)
                except TooFewImages:
                    continue
                points.append(point if test is None else replace(point, test=point.on(test)))
    return points


def achieved(predictions: Predictions, classname: str, threshold: float) -> Achieved:
    """Sensitivity and specificity for a class where an image is positive from a probability of `threshold` on."""
    own, chances = _scores(predictions, classname)
    return Achieved(*_both(predictions, own, (chances >= threshold).astype(np.float64)))


def predictive_values(of: Achieved, prevalence: float) -> tuple[Estimate, Estimate] | None:
    """The positive and the negative predictive value at a prevalence in 0..1, by Bayes' theorem.

    Their intervals are computed from the lower ends of both intervals and from the upper ones: wider than 95 % if
    anything. They hold if the class looks as it does in these images, only rarer or more common. None if sensitivity or
    specificity is not known, or no image would be positive, or none negative.
    """
    if not 0 < prevalence < 1:
        raise UserError(f"A prevalence must be a share between 0 and 1, such as 0.02, not {prevalence}.")
    if of.sensitivity is None or of.specificity is None:
        return None
    corners = [
        (getattr(of.sensitivity, end) / 100, getattr(of.specificity, end) / 100) for end in ("value", "low", "high")
    ]
    positive = _bayes([(sensitivity, 1 - specificity) for sensitivity, specificity in corners], prevalence)
    negative = _bayes([(specificity, 1 - sensitivity) for sensitivity, specificity in corners], 1 - prevalence)
    return None if positive is None or negative is None else (positive, negative)


def _bayes(rates: Sequence[tuple[float, float]], share: float) -> Estimate | None:
    """The percentage of answers that are right, and its ends. Rates: how often the answer is given in the cases in
    which it is right, which are a share of all, and in the others."""
    values = [100 * right * share / every for right, wrong in rates if (every := right * share + wrong * (1 - share))]
    return Estimate(values[0], values[1], values[2]) if len(values) == len(rates) else None


def _both(
    predictions: Predictions, own: np.ndarray, positive: np.ndarray, runs: int = 1
) -> tuple[Estimate | None, Estimate | None]:
    """Sensitivity and specificity; own: (N,) bool. positive: (N,) in 0..1, averaged over runs."""
    return estimate(predictions, positive, own, runs), estimate(predictions, 1 - positive, ~own, runs)


def estimate(predictions: Predictions, values: np.ndarray, inside: np.ndarray, runs: int = 1) -> Estimate | None:
    """The mean of values (N,) in 0..1, averaged over runs, of the images inside, (N,) bool; None without any."""
    if not inside.any():
        return None
    share = Shares(values, np.where(inside, 0, -1), np.ones(1))
    low, high = shares.interval(share, units(predictions), runs=runs)
    value = 100 * float(values[inside].mean())
    return Estimate(value, 100 * low, 100 * high, int(inside.sum()), _patients(predictions, inside))


def _patients(predictions: Predictions, inside: np.ndarray) -> int | None:
    return None if predictions.groups is None else len(np.unique(units(predictions)[inside]))


def _scores(predictions: Predictions, classname: str) -> tuple[np.ndarray, np.ndarray]:
    """Whether each image shows the class, and the class's probability, both (N,)."""
    label = _label(predictions, classname)
    return predictions.labels == label, predictions.probabilities[:, label]


def _label(predictions: Predictions, classname: str) -> int:
    names = predictions.classnames
    if classname not in names:
        near = did_you_mean(classname, names)
        raise UserError(f"There is no class {classname!r}{near}; there are {listed(names, len(names))}.")
    return names.index(classname)


def _achieved(record: Mapping[str, Any]) -> Achieved:
    return Achieved(*(of and Estimate(**{name: of[name] for name in MEASURED}) for of in map(record.get, KINDS)))
