"""Which images are unlike those that a prompt was learned with: by the cosine distance of an image's feature to the
nearest mean feature of a class, as in Nearest Class Mean classifiers.

Means and limit are of the validation images, which were encoded as any new image is. Images of one patient are alike,
so each is compared with the means of other patients, and counts by its share of the patient's images. Nothing of a
single patient is stored: each class needs two or more.
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
    "flagged": int, "units?": int,
}  # fmt: skip
"""The shape of `Reference.numbers`."""
_NAMES = [name.removesuffix("?") for name in SHAPE]


@dataclass(frozen=True, eq=False)
class Reference:
    """What an image is compared with.

    means: (K, D) float32, the mean feature of each class, of length 1.
    limit: the distance above which an image is flagged.
    expected: the share of images like the validation images that is flagged, 0..1: a new image is as likely to take any
        place among n validation images in order of distance, so with few of them it is more than FALSE_ALARMS.
    images, flagged: the number of validation images, and of those among them that are flagged, each compared with the
        means of the others.
    units: the number of patients of the validation images, an image without one counting as one; 0 if not recorded.
    """

    means: np.ndarray = field(repr=False)
    limit: float
    expected: float
    images: int
    flagged: int
    units: int = 0

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
        """The probability that so many of `total` patients' (or single) images, or more, are flagged if they are like
        the validation images: then their share is of a beta distribution, and their number of a beta-binomial one."""
        from scipy.stats import betabinom  # predict.py starts faster without

        places = (self.units or self.images) + 1
        above = round(self.expected * places, 6)
        return float(betabinom.sf(flagged - 1, total, above, places - above))

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
                return reference(stored["means"], {name: stored[name].item() for name in _NAMES if name in stored})
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
    return Reference(means.astype(np.float32), **{name: numbers[name] for name in _NAMES if name in numbers})


def fit(features: np.ndarray, labels: np.ndarray, units: np.ndarray | None = None) -> Reference | None:
    """The reference of validation images: their features (N, D), labels (N,) and patients (N,), else each image is of
    another. The limit is the lowest with at most FALSE_ALARMS expected, else the largest distance of a validation
    image. None if a class has a single patient."""
    units = np.arange(len(labels)) if units is None else units
    classes, codes = np.unique(labels, return_inverse=True)
    of_units, unit, sizes = np.unique(units, return_inverse=True, return_counts=True)
    if not len(codes) or np.bincount(np.unique(unit * len(classes) + codes) % len(classes)).min() < 2:
        return None
    features = _unit(features)
    sums = np.stack([features[codes == code].sum(0) for code in range(len(classes))])
    means = _unit(sums).astype(np.float32)
    cosines = features @ means.T
    for rows in np.split(np.argsort(unit, kind="stable"), np.cumsum(sizes)[:-1]):
        for code in np.unique(codes[rows]):  # without the patient
            others = sums[code] - features[rows[codes[rows] == code]].sum(0)
            cosines[rows, code] = (features[rows] * _unit(others[None])).sum(1)
    distances = 1 - cosines.max(1)
    order = np.argsort(distances)
    weights = 1 / sizes[unit][order]
    places = np.cumsum(weights[::-1])[::-1] - weights + 1  # among patients, of a limit at each image
    expected = np.maximum(np.round(places, 9), 1) / (len(of_units) + 1)
    place = min(int((expected > FALSE_ALARMS).sum()), len(order) - 1)
    limit = max(0.0, float(distances[order[place]]))
    flagged = int((distances > limit).sum())
    return Reference(means, limit, float(expected[place]), len(order), flagged, len(of_units))


def _unit(features: np.ndarray) -> np.ndarray:
    """Rows of length 1 in double precision."""
    rows = features.astype(np.float64)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
