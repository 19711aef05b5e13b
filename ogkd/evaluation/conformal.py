"""Split conformal prediction: how far validation scores must reach so that those of new patients are within.

A score says how badly an image fits a label. Of n validation images of different patients, the next one's score is at
most their k-th smallest with a probability of at least k / (n + 1) (Papadopoulos et al., ECML 2002). Where patients
have several images, which are alike, n is the number of patients, and an image counts by its share of its patient's
(hierarchical conformal prediction, Lee, Barber and Willett, 2023): the promise is for an image of a new patient.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from ogkd.core import UserError

ROUNDING = 1e-9


class TooFewImages(UserError):
    """There are too few validation images for what is wanted."""


def needed(level: float) -> int:
    """The fewest validation images of different patients that can promise a level, in 0..1: n / (n + 1) reaches it."""
    return math.ceil(1 / (1 - Fraction(str(level)))) - 1


def scatter(level: float, number: int) -> tuple[float, float]:
    """Between which shares, in 0..1, what one choice on `number` images of different patients reaches lies in 95 % of
    choices; on average it is at least `level` (Vovk, ACML 2012)."""
    from scipy.stats import beta

    within = math.ceil(round((number + 1) * level, 9))
    low, high = beta.ppf((0.025, 0.975), within, number + 1 - within)
    return float(low), float(high)


def reach(scores: np.ndarray, units: np.ndarray, level: float) -> float:
    """The smallest of the scores (N,) that an image of a new patient exceeds with a probability of at most 1 - level.

    units: (N,) the patient of each image; of at least `needed(level)` patients.
    """
    _, unit, sizes = np.unique(units, return_inverse=True, return_counts=True)
    order = np.argsort(-scores, kind="stable")
    weights = 1 / sizes[unit][order]
    beyond = np.cumsum(weights) - weights  # patients' worth of images with a larger score than each
    most = float((len(sizes) + 1) * (1 - Fraction(str(level))) - 1)
    return float(scores[order][beyond <= most + ROUNDING][-1])
