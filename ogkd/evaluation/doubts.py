"""Reasons to doubt a finite result: a loss that rose, answers that are no better than one and the same answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ogkd.core import UserError
from ogkd.evaluation.collect import Run
from ogkd.evaluation.metrics import confusion_matrix
from ogkd.evaluation.predictions import Predictions

AT_CHANCE = "accuracy not above chance"
LOSS_ROSE = "training loss higher in the last epoch than in the first"


def doubts(
    counts: Sequence[Sequence[int]],
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


def about_answers(counts: Sequence[Sequence[int]], names: Sequence[str]) -> list[str]:
    """The doubts about answers; none with one class. Always giving one answer is no fault if only it is tested."""
    images, answers = [sum(row) for row in counts], [sum(column) for column in zip(*counts, strict=True)]
    correct, total, most = sum(row[i] for i, row in enumerate(counts)), sum(images), max(images, default=0)
    if len(names) < 2 or not total:
        return []
    reasons = []
    if correct * len(names) <= total:
        reasons.append(AT_CHANCE)
    elif correct <= most < total:
        name = names[images.index(most)]
        reasons.append(f"accuracy not above the {100 * most / total:.1f} % of the commonest class, {name}")
    if max(answers) == total > most:
        reasons.append(f"{names[answers.index(total)]} is the answer for all test images")
    return reasons


def about_run(run: Run) -> list[str]:
    """The doubts about a run's answers, also for runs of versions that did not record them; none if its results have
    no numbers of images and its predictions are missing."""
    counts, names = run.results.get("confusion_matrix"), run.results.get("classnames")
    if run.diverged:
        return []
    if counts is None or names is None:
        try:
            predictions = Predictions.load(run.path / "predictions.npz")
        except UserError:
            return []
        counts, names = confusion_matrix(predictions), predictions.classnames
    square = len(counts) == len(names) and all(len(row) == len(names) for row in counts)
    return about_answers(counts, names) if square else []
