"""Training of the methods shown: their curves, from log.txt in the format of CoOp and Dassl."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ogkd.core.words import counted
from ogkd.reports.page.evidence import Evaluation
from ogkd.reports.page.figures import Drawing, training_figure
from ogkd.reports.page.material import Material

EPOCH = re.compile(r"^epoch \[(\d+)/\d+\] batch \[\d+/\d+\] (.*)$", re.MULTILINE)
VALUE = re.compile(r"(\S+) (\S+) \((\S+)\)")
LONGEST = 50_000_000  # maximum number of bytes read from a log
TERMS = {
    "loss": "the sum of the terms, which training lowers",
    "ce": "cross entropy of the labels",
    "sccm": "mean squared distance of the learned text features from the mean of the teacher's sentences",
    "kdsp": "divergence from the predictions of the teacher's selected sentences",
    "gad": "divergence from the teacher's predictions, diffused over related classes",
    "lgd": "the same on patches of the image, for the true class",
    "kg": "distance of the learned text features from those of the template",
    "kl": "divergence from the frozen model's predictions",
}

Curves = dict[str, dict[int, float]]  # {"loss" | "acc" | name of a loss term: {epoch: value}}


def training(anchor: str, shown: Sequence[Evaluation], material: Material) -> dict[str, Any] | None:
    """Curves of the methods shown, and what their loss terms are; None without any."""
    curves: list[Drawing] = []
    drawn: dict[str, None] = {}
    for test in shown:
        seeds = list(filter(None, (_curves_of(run.path / "log.txt", material) for run in test.runs)))
        if seeds:
            alt = f"Loss, accuracy and loss terms over the epochs, of {counted(len(seeds), 'seed')}."
            drawn |= {name: None for of_seed in seeds for name in of_seed}
            name = f"{anchor}-training{len(curves) + 1}"
            curves.append(material.draw(name, f"Training of {test.name}", alt, training_figure(seeds)))
    terms = "; ".join(f"{name}: {words}" for name, words in TERMS.items() if name in drawn)
    return {"curves": curves, "terms": terms} if curves else None


def training_curves(path: Path) -> Curves:
    """The mean of each value over an epoch's batches, up to the last logged one.

    If an epoch was repeated after an interruption, the last time counts. Empty without a log, or for a method that does
    not train in epochs. Non-finite values are left out.

    Raises:
        OSError: the log cannot be read.
    """
    if not path.is_file():
        return {}
    with path.open("rb") as file:
        text = file.read(LONGEST).decode("utf-8", "replace")
    curves: Curves = {}
    for epoch, values in EPOCH.findall("\n".join(text.splitlines())):
        for name, _, mean in VALUE.findall(values):
            try:
                value = float(mean)
            except ValueError:
                continue
            if name not in ("time", "data") and math.isfinite(value):
                curves.setdefault(name, {})[int(epoch)] = value
    return {name: dict(sorted(values.items())) for name, values in curves.items()}


def _curves_of(path: Path, material: Material) -> Curves:
    try:
        return training_curves(path)
    except OSError as error:
        material.unreadable(path, f"{path} cannot be read ({error.strerror}).")
        return {}
