"""The base class of methods that learn a prototype of each class in the space of image and text features."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from ogkd.tuning.feature_method import FeatureMethod


class PrototypeMethod(FeatureMethod):
    """Classifies by the cosine to `self.prototypes` (C, D)."""

    compares_tokens = True
    prototypes: Tensor

    def classifier(self) -> Callable[[Tensor], Tensor]:
        weights = self.scale * F.normalize(self.prototypes, dim=-1).t()
        return lambda features: features @ weights


def confidence(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean probability (C,) of the true class over each class's images, from logits (N, C) and labels (N,); for a
    class without images, the mean over the others."""
    counts = labels.bincount(minlength=logits.shape[1])
    of_truth = logits.softmax(-1).gather(1, labels[:, None]).squeeze(1)
    means = logits.new_zeros(logits.shape[1]).index_add(0, labels, of_truth) / counts
    return means.where(counts > 0, means[counts > 0].mean())
