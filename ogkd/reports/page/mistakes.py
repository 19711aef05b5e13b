"""A method's mistakes: the most confident and the most costly ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ogkd.evaluation.predictions import Predictions
from ogkd.reports.page.images import Thumbnail

MOST = 8


@dataclass(frozen=True)
class Mistake:
    """A misclassified image. confidence: probability of the predicted class in percent."""

    true: str
    predicted: str
    confidence: float
    probability: float  # of the true class, in percent
    image: Thumbnail | None


def confident_mistakes(
    predictions: Predictions, thumbnail: Callable[[str], Thumbnail] | None, most: int = MOST
) -> list[Mistake]:
    """The most confident mistakes of one run. thumbnail: None for a page without images and their names."""
    wrong = np.flatnonzero(~predictions.correct)
    surest = wrong[np.argsort(-predictions.confidence[wrong], kind="stable")][:most]
    return [
        Mistake(
            predictions.classnames[predictions.labels[row]],
            predictions.classnames[predictions.predicted[row]],
            100 * float(predictions.confidence[row]),
            100 * float(predictions.probabilities[row, predictions.labels[row]]),
            thumbnail(predictions.images[row]) if thumbnail else None,
        )
        for row in surest
    ]


@dataclass(frozen=True)
class Confusion:
    """Images of one class that were predicted as another. share: percentage of the true class's images."""

    true: str
    predicted: str
    images: float
    share: float
    cost: float | None


def costliest(predictions: Predictions, seeds: int, costs: np.ndarray | None, most: int = 6) -> list[Confusion]:
    """The confusions that contribute most to the expected cost or, without costs, the most frequent ones.

    predictions: pooled over seeds; images are counted per seed.
    """
    size = len(predictions.classnames)
    counts = np.bincount(predictions.labels * size + predictions.predicted, minlength=size * size).reshape(size, size)
    weight = counts * (np.ones((size, size)) if costs is None else costs)
    np.fill_diagonal(weight, 0)
    largest = np.argsort(-weight, axis=None, kind="stable")[:most]
    found = [divmod(int(flat), size) for flat in largest if weight.flat[flat] > 0]
    return [
        Confusion(
            predictions.classnames[i],
            predictions.classnames[j],
            counts[i, j] / seeds,
            100 * counts[i, j] / counts[i].sum(),
            None if costs is None else float(costs[i, j]),
        )
        for i, j in found
    ]
