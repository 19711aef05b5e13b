"""Which images are unlike those that a prompt was learned with: by the cosine distance of an image's feature to the
nearest mean feature of a class, as in Nearest Class Mean classifiers.

Means and limit are of the validation images, which were encoded as any new image is. Nothing of a single image is
stored: each class needs two or more.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ogkd.core import UserError, atomic_path
from ogkd.core.schema import Rule, mismatch, number
from ogkd.core.words import counted

FALSE_ALARMS = 0.05  # the wanted share of flagged images among those that are like the validation images
UNLIKE = "unlike the training images"
SHAPE = {
    "limit": number(0, 2), "expected": number(above=0, below=1), "images": Rule(lambda n: n > 0, "a number of images"),
    "flagged": int,
}  # fmt: skip
"""The shape of `Reference.numbers`."""


@dataclass(frozen=True, eq=False)
class Reference:
    """What an image is compared with.

    means: (K, D) float32, the mean feature of each class, of length 1.
    limit: the distance above which an image is flagged.
    expected: the share of images like the validation images that is flagged, 0..1: a new image is as likely to take any
        place among n validation images in order of distance, so with few of them it is more than FALSE_ALARMS.
    images, flagged: the number of validation images, and of those among them that are flagged, each compared with the
        means of the others.
    """

    means: np.ndarray = field(repr=False)
    limit: float
    expected: float
    images: int
    flagged: int

    def exceeded(self, features: np.ndarray) -> np.ndarray:
        """Whether each image is flagged, (N,) bool, by its feature (N, D).

        Raises UserError if these are features of another model.
        """
        if features.shape[1] != self.means.shape[1]:
            raise UserError(
                f"The prompt's mean features have {self.means.shape[1]} numbers, but this model's features have "
                f"{features.shape[1]}: export the prompt again."
            )
        return 1 - (_unit(features) @ self.means.T).max(1) > self.limit

    def chance(self, flagged: int, total: int) -> float:
        """The probability that so many of `total` images, or more, are flagged if they are like the validation images:
        then their share is of a beta distribution, and their number of a beta-binomial one."""
        from scipy.stats import betabinom  # predict.py starts faster without

        above = round(self.expected * (self.images + 1))
        return float(betabinom.sf(flagged - 1, total, above, self.images + 1 - above))

    @property
    def numbers(self) -> dict[str, Any]:
        """All but the means, for JSON."""
        return {name: value for name, value in asdict(self).items() if name != "means"}

    def save(self, path: Path) -> None:
        """Write a compressed .npz without pickles, atomically."""
        arrays: dict[str, Any] = asdict(self)
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)

    @classmethod
    def load(cls, path: Path) -> Reference | None:
        """Read what `save` wrote; None if there is no such file, as in runs of older versions."""
        if not path.is_file():
            return None
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
                return reference(stored["means"], {name: stored[name].item() for name in SHAPE})
        except Exception as error:  # a corrupt archive makes zipfile, zlib and numpy raise almost anything
            reason = f"{type(error).__name__}: {error}"
            raise UserError(f"{path} is corrupt ({reason}): delete it, or train the run again (--rerun).") from None

    def __str__(self) -> str:
        few = "" if self.expected <= FALSE_ALARMS else ", as there are so few"
        return (
            f"Of the {counted(self.images, 'validation image')} {self.flagged} {'is' if self.flagged == 1 else 'are'}; "
            f"of images like these, {self.expected:.1%} are expected to be{few}."
        )


def reference(means: np.ndarray, numbers: dict[str, Any]) -> Reference:
    """A reference from its parts. Raises ValueError for anything that cannot be one."""
    wrong = mismatch(numbers, SHAPE)
    if wrong or means.ndim != 2 or not means.size or means.dtype.kind != "f" or not np.isfinite(means).all():
        raise ValueError(wrong or f"its mean features are an array of shape {means.shape}")
    return Reference(means.astype(np.float32), **{name: numbers[name] for name in SHAPE})


def fit(features: np.ndarray, labels: np.ndarray) -> Reference | None:
    """The reference of validation images: their features (N, D) and labels (N,). The limit is the lowest with at most
    FALSE_ALARMS expected, else the largest distance of a validation image. None if a class has a single image."""
    _, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if not len(codes) or counts.min() < 2:
        return None
    features = _unit(features)
    sums = np.stack([features[codes == code].sum(0) for code in range(len(counts))])
    means = _unit(sums).astype(np.float32)
    cosines = features @ means.T
    cosines[np.arange(len(codes)), codes] = (features * _unit(sums[codes] - features)).sum(1)  # without the image
    distances = np.sort(1 - cosines.max(1))
    above = max(1, int(FALSE_ALARMS * (len(distances) + 1)))
    limit = max(0.0, float(distances[-above]))
    flagged = int((distances > limit).sum())
    return Reference(means, limit, above / (len(distances) + 1), len(distances), flagged)


def _unit(features: np.ndarray) -> np.ndarray:
    """Rows of length 1 in double precision."""
    rows = features.astype(np.float64)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
