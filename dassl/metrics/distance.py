"""Distances between all rows of two matrices."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def euclidean_squared_distance(input1: Tensor, input2: Tensor) -> Tensor:
    """(M, D), (N, D) -> (M, N) squared Euclidean distances."""
    squares = input1.square().sum(1)[:, None] + input2.square().sum(1)[None]
    return squares - 2 * input1 @ input2.t()


def cosine_distance(input1: Tensor, input2: Tensor) -> Tensor:
    """(M, D), (N, D) -> (M, N) values of 1 - cosine."""
    return 1 - F.normalize(input1, dim=1) @ F.normalize(input2, dim=1).t()


def compute_distance_matrix(input1: Tensor, input2: Tensor, metric: str = "euclidean") -> Tensor:
    """(M, D), (N, D) -> (M, N) by "euclidean" (squared) or "cosine"."""
    for name, value in (("input1", input1), ("input2", input2)):
        if not isinstance(value, torch.Tensor) or value.dim() != 2:
            raise ValueError(f"{name} must be a matrix")
    if input1.shape[1] != input2.shape[1]:
        raise ValueError(f"rows of {input1.shape[1]} and {input2.shape[1]} numbers cannot be compared")
    metrics = {"euclidean": euclidean_squared_distance, "cosine": cosine_distance}
    if metric not in metrics:
        raise ValueError(f"metric '{metric}' is none of {', '.join(metrics)}")
    return metrics[metric](input1, input2)
