"""How often intervals hold the truth: `python -m benchmarks.coverage [--repeats 200]` prints a table of percentages.

Logits of imagined patients are drawn again and again; the truth is the metric's mean on large samples of the same kind.
An interval of 95 % should hold it in 92 to 98 of 100 samples. The answers are calibrated, so the truth of the ECE is
almost 0, while it is larger on few images.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ogkd.evaluation.metrics import compute
from ogkd.evaluation.predictions import Predictions
from ogkd.evaluation.statistics import bootstrap

METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "macro_auroc", "macro_specificity", "nll", "brier", "aurc",
           "expected_calibration_error")  # fmt: skip
SKILL, SHARPNESS, TRUTH_PATIENTS, DRAWS = 1.5, 1.5, 20_000, 400


@dataclass(frozen=True)
class Setting:
    """Patients per class, images per patient, and the share of the noise that a patient's images have in common."""

    patients: tuple[int, ...]
    images: int
    alike: float

    def sample(self, random: np.random.Generator, times: int = 1) -> Predictions:
        """Predictions of `times` as many patients."""
        classes = len(self.patients)
        label = np.repeat(range(classes), np.array(self.patients) * times)
        own = random.normal(size=(len(label), 1, classes)) * self.alike**0.5
        logits = own + random.normal(size=(len(label), self.images, classes)) * (1 - self.alike) ** 0.5
        logits[np.arange(len(label)), :, label] += SKILL
        names = tuple(map(str, range(len(label) * self.images)))
        groups = np.repeat(np.arange(len(label)), self.images) if self.images > 1 else None
        labels, rows = np.repeat(label, self.images), SHARPNESS * logits.reshape(-1, classes)
        return Predictions(names, labels, rows, tuple("abcdefgh"[:classes]), groups)

    def __str__(self) -> str:
        return f"{' + '.join(map(str, self.patients))} patients, {self.images} images each"


SETTINGS = (
    Setting((40, 40, 40), 1, 0.0), Setting((10, 10, 10), 1, 0.0), Setting((200, 10), 1, 0.0),
    Setting((20, 20, 20), 8, 0.5), Setting((5, 5, 5), 10, 0.5), Setting((3, 4), 30, 0.4), Setting((60, 3), 4, 0.3),
)  # fmt: skip


def coverage(setting: Setting, metrics: Sequence[str], repeats: int, seed: int = 0) -> dict[str, float]:
    """The percentage of intervals that hold the truth, by metric."""
    random = np.random.default_rng(seed)
    large = setting.sample(random, max(1, TRUTH_PATIENTS // sum(setting.patients)))
    truth = {metric: compute(metric, large) for metric in metrics}
    held = dict.fromkeys(metrics, 0)
    for _ in range(repeats):
        sample = setting.sample(random)
        for metric in metrics:
            interval, true = bootstrap(metric, sample, draws=DRAWS), truth[metric]
            held[metric] += interval is not None and true is not None and interval.low <= true <= interval.high
    return {metric: 100 * held[metric] / repeats for metric in metrics}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=200, help="samples per setting")
    repeats = parser.parse_args().repeats
    print(pd.DataFrame({str(one): coverage(one, METRICS, repeats) for one in SETTINGS}).T.to_markdown(floatfmt=".0f"))


if __name__ == "__main__":
    main()
