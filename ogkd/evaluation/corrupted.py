"""What a run predicted on corrupted copies of its test images, and how much worse it is there.

    RUN/corruptions/settings.json         modality, seed of the random numbers, input size, hash of predictions.npz
    RUN/corruptions/<kind>/level<n>.npz   predictions, as in predictions.npz

The measures are those of MedMNIST-C (Di Salvo et al., arXiv 2406.17536): the balanced error, averaged over the levels
of a kind and then over kinds. There errors are divided by AlexNet's on the same images, here by zero-shot's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ogkd.core import UserError
from ogkd.core.hashes import file_sha256
from ogkd.core.schema import read_record
from ogkd.data.corruptions import KINDS, LEVELS
from ogkd.evaluation.conformal import TooFewImages
from ogkd.evaluation.metrics import compute
from ogkd.evaluation.predictions import Predictions
from ogkd.evaluation.sets import SetRule, choose
from ogkd.evaluation.statistics import Interval, bootstrap, paired_difference

FOLDER, SETTINGS = "corruptions", "settings.json"
COVERAGE = 0.9  # of prediction sets


@dataclass(frozen=True)
class Corrupted:
    """The predictions of a run on its test images, clean and by kind and level.

    rule: that of its prediction sets of COVERAGE; None if it has too few validation images.
    """

    clean: Predictions
    kinds: dict[str, dict[int, Predictions]]
    settings: dict[str, Any]
    rule: SetRule | None

    def of(self, kind: str) -> list[Predictions]:
        """Those of each level of a kind."""
        return list(self.kinds[kind].values())

    def coverage(self, predictions: Sequence[Predictions]) -> float | None:
        """How often prediction sets contain the true class, in percent."""
        if self.rule is None:
            return None
        return float(
            np.mean(
                [100 * self.rule.sets(one.probabilities)[np.arange(len(one)), one.labels].mean() for one in predictions]
            )
        )


def path_of(run: Path, kind: str, level: int) -> Path:
    """The file of a run's predictions on a kind and level."""
    return run / FOLDER / kind / f"level{level}.npz"


def settings_of(run: Path) -> dict[str, Any] | None:
    """What a run was tested on; None without such a test. Raises UserError if the file is corrupt."""
    path = run / FOLDER / SETTINGS
    return read_record(path, dict, "delete the folder and corrupt the run again") if path.is_file() else None


def predictions_hash(run: Path) -> str:
    """The hash that ties a test on corrupted images to the run's test on clean ones."""
    return file_sha256(run / "predictions.npz")


def read(run: Path) -> Corrupted | None:
    """What is stored of a run; None if it was not tested on corrupted images.

    Raises:
        UserError: a file is corrupt, or the run was tested again since.
    """
    settings = settings_of(run)
    if settings is None:
        return None
    clean = Predictions.load(run / "predictions.npz")
    if settings.get("predictions") != predictions_hash(run):
        raise UserError(f"{run} was tested again after it was tested on corrupted images: corrupt it again.")
    kinds = {
        kind: levels
        for kind in KINDS
        if (levels := {n: Predictions.load(path) for n in LEVELS if (path := path_of(run, kind, n)).is_file()})
    }
    return Corrupted(clean, kinds, settings, _rule(run, clean)) if kinds else None


def _rule(run: Path, clean: Predictions) -> SetRule | None:
    path = run / "val_predictions.npz"
    try:
        rule = choose(Predictions.load(path), COVERAGE) if path.is_file() else None
    except TooFewImages:
        return None
    return rule if rule is not None and rule.classnames == clean.classnames else None


@dataclass(frozen=True)
class Harm:
    """How corruptions harm a method: means over levels and kinds, and seeds. Errors are balanced, in percent.

    drop: the error minus that on clean images, in points. ece, nll: calibration on corrupted images.
    """

    error: Interval
    drop: Interval
    ece: float
    nll: float


def harm(clean: Sequence[Predictions], worse: Sequence[Predictions]) -> Harm:
    """The harm of corruptions; clean: each seed's predictions. worse: those of each seed, kind and level, which all
    count alike."""
    error = balanced_error(worse)
    drop = paired_difference("balanced_accuracy", list(clean), list(worse))
    assert drop is not None
    return Harm(error, drop, *calibration(worse))


def balanced_error(predictions: Sequence[Predictions]) -> Interval:
    """The mean balanced error in percent with its interval over test images, or patients where they are known."""
    of = bootstrap("balanced_accuracy", list(predictions))
    assert of is not None  # there are images
    turned = {name: 100 - getattr(of, name) for name in ("value", "samples", "raw")}
    return replace(of, **turned, low=100 - of.high, high=100 - of.low)


def errors(predictions: Sequence[Predictions]) -> float:
    """The mean balanced error in percent."""
    return float(np.mean([100 - (compute("balanced_accuracy", one) or 0.0) for one in predictions]))


def calibration(predictions: Sequence[Predictions]) -> tuple[float, float]:
    """The mean ECE in percent and the mean NLL."""
    ece, nll = (
        float(np.mean([compute(name, one) or 0.0 for one in predictions]))
        for name in ("expected_calibration_error", "nll")
    )
    return ece, nll
