"""Prediction sets: for each image the classes that cannot be excluded, so that the true one is among them as often as
wanted.

A class is in an image's set if its score, which is lower the better it fits, is at most a threshold from validation
images (ogkd/evaluation/conformal.py). Probabilities are those of the model, without a temperature. The scores:

LAC   1 - the class's probability (Sadinle, Lei and Wasserman, JASA 2019). The smallest sets; some may be empty.
APS   the probability of the class and of all likelier ones (Romano, Sesia and Candes, NeurIPS 2020).
RAPS  APS plus a penalty for each rank after the first (Angelopoulos et al., ICLR 2021), with the penalty of Full
      Conformal Adaptation (arXiv 2506.06076).

APS and RAPS are not randomised, and the likeliest class is always in their sets: the same image always has the same
set, and none is empty. For that they are larger and contain the true class rather more often than wanted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ogkd.core import UserError
from ogkd.core.schema import each, number, one_of
from ogkd.core.words import listed
from ogkd.evaluation.clinical import MEASURED, PERCENT, Estimate, estimate
from ogkd.evaluation.conformal import TooFewImages, needed, reach
from ogkd.evaluation.predictions import Predictions, units

SCORES = LAC, APS, RAPS = ("LAC", "APS", "RAPS")
PENALTY, FREE_RANKS = 0.001, 1  # of RAPS
DIGITS = 12  # sums of the same numbers in another order, also those of softmax, differ in the last bits
DIGITS_OF_P = 1e-6  # p values are stored in single precision
COVERAGES = (0.8, 0.9, 0.95, 0.99)  # for which an exported prompt has thresholds
P_VALUES = "full_conformal.npz"  # of a run, by trainers/ss_text.py
SHIFT = 0.05  # a difference of a class's shares in validation and test images from which a reader must know of it
UNLIKELY = 0.05  # p of such a difference by chance


@dataclass(frozen=True)
class Covered:
    """What sets achieve on some images: how often they contain the true class, overall and for each class (None for one
    without images), in percent; their mean number of classes; and the percentage of empty ones."""

    coverage: Estimate
    size: float
    empty: float
    by_class: dict[str, Estimate | None]

    @property
    def smallest(self) -> tuple[str, Estimate]:
        """The class that is covered worst."""
        return min(self._there, key=lambda pair: pair[1].value)

    def gap(self, wanted: float) -> float:
        """The mean over classes of the distance of their coverage from the wanted one, in points."""
        return float(np.mean([abs(of.value - 100 * wanted) for _, of in self._there]))

    @property
    def _there(self) -> list[tuple[str, Estimate]]:
        return [(name, of) for name, of in self.by_class.items() if of]


@dataclass(frozen=True)
class SetRule:
    """Which classes are in an image's set: those whose score is at most the class's threshold.

    coverage: how often the true class is to be in the set, in 0..1. per_class: whether this is to hold for each class,
    with a threshold of its own, instead of for all images together. images, patients: the validation images. test: what
    is achieved on the test images; None if there are none.
    """

    score: str
    coverage: float
    per_class: bool
    classnames: tuple[str, ...]
    thresholds: tuple[float, ...]
    images: int
    patients: int | None
    test: Covered | None = None

    @property
    def key(self) -> tuple[float, str, bool]:
        """What was wanted."""
        return self.coverage, self.score, self.per_class

    def sets(self, probabilities: np.ndarray) -> np.ndarray:
        """Whether each class is in each image's set, (N, C) bool, from the probabilities (N, C) without temperature."""
        inside = scores(probabilities, self.score) <= np.array(self.thresholds)
        if self.score != LAC:
            inside[np.arange(len(inside)), probabilities.argmax(1)] = True
        return inside

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> SetRule:
        """Read what `as_json` wrote and `SHAPE` describes."""
        test = record["test"]
        if test is not None:
            by_class = {name: of and _estimate(of) for name, of in test["by_class"].items()}
            test = Covered(_estimate(test["coverage"]), test["size"], test["empty"], by_class)
        fields = {name: record[name] for name in SHAPE} | {"test": test}
        return cls(**fields | {name: tuple(record[name]) for name in ("classnames", "thresholds")})


def _estimate(record: Mapping[str, Any]) -> Estimate:
    return Estimate(**{name: record[name] for name in MEASURED})


SHAPE = {
    "score": one_of(*SCORES), "coverage": number(above=0, below=1), "per_class": bool, "classnames": [str],
    "thresholds": each(number(0)), "images": int, "patients": (int, None),
    "test": ({"coverage": MEASURED, "size": number(0), "empty": PERCENT, "by_class": dict}, None),
}  # fmt: skip
"""The shape of a rule in JSON."""


def scores(probabilities: np.ndarray, score: str) -> np.ndarray:
    """The score (N, C) of each class for images with these probabilities (N, C); the lower, the better it fits."""
    if score == LAC:
        return np.round(1 - probabilities, DIGITS)
    order = np.argsort(-probabilities, axis=1, kind="stable")
    ranks = np.argsort(order, axis=1)  # 0 for the likeliest class
    sums = np.take_along_axis(np.cumsum(np.take_along_axis(probabilities, order, 1), axis=1), ranks, 1)
    penalty = PENALTY * np.maximum(ranks + 1 - FREE_RANKS, 0) if score == RAPS else 0.0
    return np.round(sums + penalty, DIGITS)


def check(coverage: float) -> None:
    """Raise UserError for a coverage that is out of range."""
    if not 0 < coverage < 1:
        raise UserError(f"A coverage must be a share between 0 and 1, such as 0.9, not {coverage}.")


def choose(validation: Predictions, coverage: float, score: str = LAC, per_class: bool = False) -> SetRule:
    """The rule by which sets contain the true class of an image of a new patient with a probability of `coverage`.

    Raises:
        TooFewImages: there are too few validation images, or patients where these are known.
        UserError: the coverage is out of range.
    """
    check(coverage)
    labels, of_units = validation.labels, units(validation)
    parts = [labels == label for label in range(len(validation.classnames))] if per_class else [labels >= 0]
    there = [len(np.unique(of_units[part])) for part in parts]
    if min(there) < needed(coverage):
        what = "images" if validation.groups is None else "patients"
        few = [f"{name} has {n}" for name, n in zip(validation.classnames, there, strict=False) if n < needed(coverage)]
        raise TooFewImages(
            f"Too few validation {what} for sets that contain the true class in {100 * coverage:g} %: "
            + (
                f"each class needs at least {needed(coverage)}, but {listed(few)}."
                if per_class
                else f"they need at least {needed(coverage)}, but there {'is' if there[0] == 1 else 'are'} {there[0]}."
            )
        )
    own = scores(validation.probabilities, score)[np.arange(len(validation)), labels]
    thresholds = [reach(own[part], of_units[part], coverage) for part in parts]
    thresholds *= 1 if per_class else len(validation.classnames)
    return SetRule(
        score, coverage, per_class, validation.classnames, tuple(thresholds), len(validation), validation.patients
    )


def choose_all(
    validation: Predictions, test: Predictions | None, coverages: Sequence[float] = COVERAGES
) -> list[SetRule]:
    """The rules of each score, for all images and per class, for each coverage for which there are images enough."""
    rules = []
    for coverage in coverages if len(validation.classnames) > 1 else ():
        for per_class in (False, True):
            for score in SCORES:
                try:
                    rule = choose(validation, coverage, score, per_class)
                except TooFewImages:
                    continue
                rules.append(rule if test is None else replace(rule, test=measured([rule], [test])))
    return rules


def measured(rules: Sequence[SetRule], tests: Sequence[Predictions]) -> Covered:
    """What sets achieve, averaged over seeds, each with its rule and its predictions on the same images."""
    return covered([rule.sets(test.probabilities) for rule, test in zip(rules, tests, strict=True)], tests[0])


def covered(sets: Sequence[np.ndarray], test: Predictions) -> Covered:
    """What sets (N, C) of the images of `test`, several seeds', achieve."""
    rows = np.arange(len(test))
    hits = np.mean([one[rows, test.labels] for one in sets], axis=0)
    sizes = np.array([one.sum(1) for one in sets])
    by_class = {
        name: estimate(test, hits, test.labels == label, len(sets)) for label, name in enumerate(test.classnames)
    }
    every = estimate(test, hits, rows >= 0, len(sets))
    assert every is not None  # there are images
    return Covered(every, float(sizes.mean()), 100 * float((sizes == 0).mean()), by_class)


def by_p_values(path: Path, test: Predictions, coverage: float, per_class: bool) -> np.ndarray:
    """The sets (N, C) of full conformal prediction, from the p values in a run's file.

    Raises UserError if the file is corrupt or of other images.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            values = stored["per_class" if per_class else "every"]
        if values.shape != test.logits.shape or values.dtype.kind != "f":
            raise ValueError("it is of other images")
    except Exception as error:  # a corrupt archive makes zipfile, zlib and numpy raise almost anything
        raise UserError(f"{path} is corrupt ({error}): run it again with --rerun.") from None
    return values > 1 - coverage + DIGITS_OF_P


def shares_differ(validation: Predictions, test: Predictions) -> str:
    """A phrase on the class whose shares among validation and test images differ most; "" if they are about the same,
    or as different as those of few images are by chance.

    Sets for all images together promise their coverage for the shares of the validation images. Where those are
    equally many of each class, that is by design and not by chance.
    """
    from scipy.stats import chi2_contingency, chisquare

    counts = np.array([np.bincount(one.labels, minlength=len(test.classnames)) for one in (validation, test)])
    first, second = counts / counts.sum(1, keepdims=True)
    most = int(np.argmax(np.abs(first - second)))
    if abs(first[most] - second[most]) <= SHIFT:
        return ""
    by_design = np.ptp(counts[0]) == 0
    if (chisquare(counts[1]) if by_design else chi2_contingency(counts[:, counts.any(0)])).pvalue >= UNLIKELY:
        return ""
    return (
        f"{100 * first[most]:.0f} % of the validation images but {100 * second[most]:.0f} % of the test images are "
        f"{test.classnames[most]}, and the coverage is promised for the shares of the former"
    )
