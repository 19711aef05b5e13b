"""Small functions for semi-supervised learning."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def sharpen_prob(p: Tensor, temperature: float = 2) -> Tensor:
    """Raise probabilities (B, C) to the power of `temperature` and rescale each row to sum to 1."""
    return F.normalize(p**temperature, p=1, dim=1)


def reverse_index(data: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Reverse the rows of both."""
    return data.flip(0), label.flip(0)


def shuffle_index(data: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Shuffle the rows of both in the same random order."""
    order = torch.randperm(len(data))
    return data[order], label[order]


def create_onehot(label: Tensor, num_classes: int) -> Tensor:
    """Turn labels (B,) into one-hot float rows (B, num_classes)."""
    return F.one_hot(label.long(), num_classes).float()


def _progress(current: float, rampup_length: float) -> float:
    if rampup_length <= 0:
        raise ValueError(f"rampup_length is {rampup_length}, but it must be greater than 0")
    return min(max(current / rampup_length, 0.0), 1.0)


def sigmoid_rampup(current: float, rampup_length: float) -> float:
    """exp(-5 (1 - t)^2) with t = current / rampup_length, clipped to [0, 1]."""
    return math.exp(-5 * (1 - _progress(current, rampup_length)) ** 2)


def linear_rampup(current: float, rampup_length: float) -> float:
    """current / rampup_length, clipped to [0, 1]."""
    return _progress(current, rampup_length)


@torch.no_grad()
def ema_model_update(model: nn.Module, ema_model: nn.Module, alpha: float) -> None:
    """Update the parameters of ema_model to alpha * their value + (1 - alpha) * the model's."""
    for average, parameter in zip(ema_model.parameters(), model.parameters(), strict=True):
        average.lerp_(parameter.to(average), 1 - alpha)
