"""Reasons to doubt a finite result, such as a loss that rose or an accuracy no better than chance."""

from __future__ import annotations

from collections.abc import Mapping

AT_CHANCE = "accuracy not above chance"
LOSS_ROSE = "training loss higher in the last epoch than in the first"


def doubts(
    accuracy: float, classes: int, training: Mapping[str, float | None] | None, trained: int | None = None
) -> list[str]:
    """The doubts about a run, for its log, its results.json and the footnotes of tables.

    accuracy: in percent, of a test on `classes` classes; chance is 100 / classes, and there is none with one class.
    trained: number of classes of the training images, of which the test should have all.
    training: the mean training losses "first_loss" and "last_loss", None if unknown.
    """
    first, last = (training or {}).get("first_loss"), (training or {}).get("last_loss")
    found = []
    if first is not None and last is not None and last > first:
        found.append(LOSS_ROSE)
    if classes > 1 and accuracy * classes <= 100 * (1 + 1e-9):
        found.append(AT_CHANCE)
    if trained is not None and classes < trained:
        found.append(f"tested on {classes} of {trained} classes")
    return found
