"""Reasons to doubt a finite result: a loss that rose, answers that are no better than one and the same answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

from ogkd.core import UserError
from ogkd.evaluation.collect import Run
from ogkd.evaluation.metrics import confusion_matrix
from ogkd.evaluation.predictions import Predictions
from ogkd.evaluation.shares import wilson

AT_CHANCE = "accuracy not above chance"
BALANCED_AT_CHANCE = "balanced accuracy not above chance"
NOT_ABOVE_ONE_ANSWER = "accuracy not above the"  # begins the doubt that a common class raises
LOSS_ROSE = "training loss higher in the last epoch than in the first"
FLAT = "all probabilities are about 1 / number of classes, so they say nothing of confidence"
FLATNESS = 0.01  # above 1 / C
IMBALANCE = 1.5  # times its equal share of the images: a commoner class hides the others in the accuracy
ROUNDING = 1e-9

Counts: TypeAlias = Sequence[Sequence[int]]  # images by true class (rows) and answer (columns)


def doubts(
    counts: Counts,
    names: Sequence[str],
    training: Mapping[str, float | None] | None,
    trained: int | None = None,
) -> list[str]:
    """The doubts about a run, for its log, its results.json and the footnotes of tables.

    counts: images by true class (rows) and answer (columns). names: the classes.
    trained: number of classes of the training images, of which the test should have all.
    training: the mean training losses "first_loss" and "last_loss", None if unknown.
    """
    first, last = (training or {}).get("first_loss"), (training or {}).get("last_loss")
    reasons = [LOSS_ROSE] if first is not None and last is not None and last > first else []
    reasons += about_answers(counts, names)
    if trained is not None and len(names) < trained:
        reasons.append(f"tested on {len(names)} of {trained} classes")
    return reasons


def about_answers(counts: Counts, names: Sequence[str]) -> list[str]:
    """The doubts about answers; none with one class. Always giving one answer is no fault if only it is tested."""
    images, answers = [sum(row) for row in counts], [sum(column) for column in zip(*counts, strict=True)]
    correct, total, most = _correct(counts), sum(images), max(images, default=0)
    if len(names) < 2 or not total:
        return []
    reasons = []
    if correct * len(names) <= total:
        reasons.append(AT_CHANCE)
    elif correct <= most < total:
        name = names[images.index(most)]
        reasons.append(f"{NOT_ABOVE_ONE_ANSWER} {100 * most / total:.1f} % of the most common class, {name}")
    if max(answers) == total > most:
        reasons.append(f"{names[answers.index(total)]} is the answer for all test images")
    elif imbalanced(counts) and _balanced_at_chance(counts):
        reasons.append(BALANCED_AT_CHANCE)
    return reasons


def about_probabilities(probabilities: np.ndarray) -> list[str]:
    """The doubt about probabilities (N, C) that hardly differ between the classes; none with one class."""
    classes = probabilities.shape[1]
    return [FLAT] if classes > 1 and probabilities.max() < 1 / classes + FLATNESS else []


def imbalanced(counts: Counts) -> bool:
    """Whether one class has so many of the test images that the accuracy says little of the others, so that the
    balanced accuracy decides which method is the best."""
    images = [sum(row) for row in counts]
    return len(images) > 1 and max(images) * len(images) > IMBALANCE * sum(images)


def no_better_than_one_answer(counts: Counts, names: Sequence[str]) -> bool:
    """Whether answers are no better than one and the same answer: by the accuracy or, where classes are imbalanced, by
    the balanced accuracy."""
    if imbalanced(counts) and sum(sum(row) > 0 for row in counts) > 1:
        return _balanced_at_chance(counts)
    return bool(about_answers(counts, names))


def calibration_is_trivial(counts: Counts) -> bool:
    """Whether an accuracy cannot be told from always naming the commonest class (by Wilson's interval).

    Answers whose probabilities are the classes' shares are perfectly calibrated, and say nothing of an image.
    """
    total, most = sum(map(sum, counts)), max(map(sum, counts), default=0)
    return bool(total) and 0 < most < total and wilson(_correct(counts) / total, total)[0] <= most / total


def about_run(run: Run) -> list[str]:
    """The doubts about a run's answers, also for runs of versions that did not record them; none if its results have
    no numbers of images and its predictions are missing."""
    counts, names = counts_of(run)
    return about_answers(counts, names)


def doubtful(run: Run) -> bool:
    """Whether a run's answers are no better than one and the same answer, so that it is never the best."""
    return no_better_than_one_answer(*counts_of(run))


def counts_of(run: Run) -> tuple[Counts, Sequence[str]]:
    """A run's images by true class and answer, with the classes; empty for one that diverged, or if neither its results
    nor its predictions have them."""
    counts, names = run.results.get("confusion_matrix"), run.results.get("classnames")
    if run.diverged:
        return [], []
    if counts is None or names is None:
        try:
            predictions = Predictions.load(run.path / "predictions.npz")
        except UserError:
            return [], []
        counts, names = confusion_matrix(predictions), predictions.classnames
    square = len(counts) == len(names) and all(len(row) == len(names) for row in counts)
    return (counts, names) if square else ([], [])


def _correct(counts: Counts) -> int:
    return sum(row[i] for i, row in enumerate(counts))


def _balanced_at_chance(counts: Counts) -> bool:
    shares = [row[i] / sum(row) for i, row in enumerate(counts) if sum(row)]
    return len(shares) > 1 and sum(shares) <= 1 + ROUNDING
