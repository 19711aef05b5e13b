"""CalibPrompt's terms, options of every prompt method (Basu et al., BMVC 2025, arXiv 2509.15226)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ogkd.tuning.options import Option, Options

CALIBRATION_OPTIONS = Options(
    LABEL_SMOOTHING=Option(0.0, "share of a label that the other classes get, in the cross entropy", least=0, below=1),
    SMAC=Option(0.0, "weight of the distance between mean probabilities and smoothed class shares of a batch", least=0),
    SEPARATION=Option(0.0, "weight of the mean cosine between the text features of different classes", least=0),
)
"""All off by default. The paper with BiomedCLIP: 0.1, 1, 3 and batches of 16; shares of small batches mean little."""


def smoothed_cross_entropy(logits: Tensor, label: Tensor, share: float) -> Tensor:
    """The cross entropy of logits (B, C) against 1 - share for the label and share / (C - 1) for each other class."""
    plain = F.cross_entropy(logits, label)
    if share == 0:
        return plain
    others = -logits.log_softmax(-1).sum(-1).mean() - plain
    return (1 - share) * plain + share / max(1, logits.shape[-1] - 1) * others


def smac(logits: Tensor, label: Tensor, share: float) -> Tensor:
    """The mean over classes of |mean probability in the batch - the class's share of the labels, smoothed likewise|."""
    classes = logits.shape[-1]
    shares = F.one_hot(label, classes).to(logits).mean(0)
    smoothed = shares * (1 - share) + (1 - shares) * share / max(1, classes - 1)
    return (logits.softmax(-1).mean(0) - smoothed).abs().mean()


def separation(text: Tensor) -> Tensor:
    """The mean cosine between different rows of normalised text features (..., C, D), 0 for one class."""
    classes = text.shape[-2]
    cosines = text @ text.transpose(-1, -2)
    return (cosines.sum((-1, -2)) - cosines.diagonal(dim1=-2, dim2=-1).sum(-1)).mean() / max(1, classes * (classes - 1))
