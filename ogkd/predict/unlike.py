"""Which images are unlike those that a prompt was trained on: by the free energy of their logits.

The energy is -log(sum(exp(logits))) (Liu et al., Energy-based Out-of-distribution Detection, NeurIPS 2020): it is high
for an image that agrees with no class. The threshold is one number, from the validation images, so it says nothing
about any of them and can be handed over with a prompt.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ogkd.core.words import counted

FALSE_ALARMS = 0.05  # the wanted share of flagged images among those that are like the training images
UNLIKE = "unlike the training images"


class Threshold(NamedTuple):
    """The energy above which an image is flagged.

    expected: the share of images like the validation images that is flagged, 0..1: a new image is as likely to take any
        place among n validation images in order of energy, so with few of them it is more than FALSE_ALARMS.
    images, flagged: the number of validation images, and of those among them that are flagged.
    """

    energy: float
    expected: float
    images: int
    flagged: int

    def exceeded(self, logits: np.ndarray) -> np.ndarray:
        """Whether each image is flagged, (N,) bool, by its logits (N, C)."""
        return energies(logits) > self.energy

    def chance(self, flagged: int, number: int) -> float:
        """The probability that so many of `number` images, or more, are flagged if they are like the validation images:
        then their share is of a beta distribution, and their number of a beta-binomial one."""
        from scipy.stats import betabinom  # predict.py starts faster without

        above = round(self.expected * (self.images + 1))
        return float(betabinom.sf(flagged - 1, number, above, self.images + 1 - above))

    def __str__(self) -> str:
        few = "" if self.expected <= FALSE_ALARMS else ", as there are so few"
        return (
            f"Of the {counted(self.images, 'validation image')} {self.flagged} {'is' if self.flagged == 1 else 'are'}; "
            f"of images like these, {self.expected:.1%} are expected to be{few}."
        )


def energies(logits: np.ndarray) -> np.ndarray:
    """The free energy of each image, (N,), from its logits (N, C)."""
    return -np.logaddexp.reduce(logits.astype(np.float64), axis=1)


def threshold(validation: np.ndarray) -> Threshold:
    """The threshold from the logits (N, C) of validation images: the lowest with at most FALSE_ALARMS expected, or else
    the highest energy of a validation image."""
    ordered, number = np.sort(energies(validation)), len(validation)
    above = max(1, int(FALSE_ALARMS * (number + 1)))
    limit = float(ordered[-above])
    return Threshold(limit, above / (number + 1), number, int((ordered > limit).sum()))
