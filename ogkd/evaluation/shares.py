"""Intervals of shares (accuracy, sensitivity) that stay honest where a bootstrap does not: few images, all correct.

The interval of one share is Wilson's score interval (Journal of the American Statistical Association 1927). With
several images per patient it is computed for an effective number of images, from the variance between patients and
Student's t for the number of patients, as Korn and Graubard (Survey Methodology 1998) do for Clopper and Pearson's. A
mean of shares, such as the balanced accuracy, gets its interval from theirs by the method of variance estimates
recovery (Zou and Donner, Statistics in Medicine 2008).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

MANY = 15  # strata whose sum is about normal


@dataclass(frozen=True)
class Shares:
    """A metric in 0..1 as a sum over strata: offset + sum_s weights[s] * (mean of values where stratum == s).

    values: (N,) in 0..1. stratum: (N,) int64 below S, -1 for images that do not count. weights: (S,) positive.
    """

    values: np.ndarray
    stratum: np.ndarray
    weights: np.ndarray
    offset: float = 0.0


def wilson(share: float, number: float, level: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of a share, in 0..1, of `number` images (also a fraction, for an effective number)."""
    from scipy.special import ndtri

    square = ndtri((1 + level) / 2) ** 2
    middle = (share + square / (2 * number)) / (1 + square / number)
    half = np.sqrt(square * (share * (1 - share) / number + square / (4 * number**2))) / (1 + square / number)
    low = 0.0 if share <= 0 else max(0.0, middle - half)
    return float(low), 1.0 if share >= 1 else float(min(1.0, middle + half))


def effective_number(values: np.ndarray, units: np.ndarray, runs: int = 1) -> tuple[float, int]:
    """How many independent images say as much on the mean as these, and how many units (patients) they are from.

    values: (N,) in 0..1, of each image, averaged over `runs` seeds. units: (N,) int64, the patient of each image. Where
    all values are 0 or all are 1, nothing shows how alike a patient's images are: each patient counts once.
    """
    mean, number = float(values.mean()), len(values)
    _, codes = np.unique(units, return_inverse=True)
    clusters = int(codes.max()) + 1
    largest = mean * (1 - mean)
    if clusters == 1 or largest <= 0:
        return float(clusters), clusters
    sums = np.bincount(codes, weights=values - mean)
    correction = 1.0 if clusters == number else clusters / (clusters - 1)
    variance = correction * float(np.square(sums).sum()) / number**2
    if variance <= largest / (number * runs):
        return float(number * runs if variance else clusters), clusters
    return largest / variance, clusters


def interval(shares: Shares, units: np.ndarray, level: float = 0.95, runs: int = 1) -> tuple[float, float]:
    """The interval of a weighted sum of mean values, in 0..1; arguments as for `effective_number`.

    Student's t for the number of units replaces the normal quantile where it is not one share of independent images.
    A sum over many strata is about normal: its ends are about as far apart on both sides, while those of shares near 1
    are all far below, so that they would hide half of the chance.
    """
    from scipy.special import ndtri, stdtrit

    shares = _with_single_images_together(shares)
    strata = [shares.stratum == stratum for stratum in range(len(shares.weights))]
    means = [float(shares.values[inside].mean()) for inside in strata]
    numbers, clusters = zip(
        *(effective_number(shares.values[inside], units[inside], runs) for inside in strata), strict=True
    )
    if len(strata) > 1:  # the variance of each is estimated, with one degree of freedom less
        numbers = tuple(
            max(number - (units_ == inside.sum()), 1.0)
            for number, units_, inside in zip(numbers, clusters, strata, strict=True)
        )
    counted, free = sum(clusters), sum(clusters) - len(strata)
    factor = 1.0
    if free and (len(strata) > 1 or counted < (shares.stratum >= 0).sum()):
        factor = float(ndtri((1 + level) / 2) / stdtrit(free, (1 + level) / 2)) ** 2
    ends = [wilson(mean, number * factor, level) for mean, number in zip(means, numbers, strict=True)]
    value = shares.offset + float(np.dot(shares.weights, means))
    below, above = (np.abs([end[side] - mean for end, mean in zip(ends, means, strict=True)]) for side in (0, 1))
    low, high = (float(np.linalg.norm(shares.weights * part)) for part in (below, above))
    if len(strata) >= MANY:
        low, high = (max(end, float(np.hypot(low, high) / np.sqrt(2))) for end in (low, high))
    return max(0.0, value - low), min(1.0, value + high)


def _with_single_images_together(shares: Shares) -> Shares:
    """The same metric with the strata of one image as one: alone, each shows nothing of how much images differ."""
    number = len(shares.weights)
    single = np.flatnonzero(np.bincount(shares.stratum[shares.stratum >= 0], minlength=number) == 1)
    if len(single) < 2 or np.ptp(shares.weights[single]) > 0:
        return shares
    together = np.arange(number)
    together[single] = single[0]
    _, places = np.unique(together, return_inverse=True)
    stratum = np.where(shares.stratum < 0, -1, places[shares.stratum])
    return replace(shares, stratum=stratum, weights=np.bincount(places, weights=shares.weights))


def mean_over_runs(runs: Sequence[Shares | None]) -> Shares | None:
    """The same metric averaged over runs on the same images; None if it does not consist of shares, or of other images
    in each run."""
    known = [one for one in runs if one is not None]
    first = known[0] if known else None
    if first is None or len(known) < len(runs) or any((one.stratum != first.stratum).any() for one in known):
        return None
    values = np.mean([one.values for one in known], axis=0)
    return Shares(
        values,
        first.stratum,
        np.mean([one.weights for one in known], axis=0),
        float(np.mean([one.offset for one in known])),
    )
