from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def cross_entropy(input: Tensor, target: Tensor, label_smooth: float = 0, reduction: str = "mean") -> Tensor:
    """Cross entropy of logits (B, C) and labels (B,); the share label_smooth of each label is spread over all classes.

    `reduction` is mean, sum or none (one value per row, (B,)). Raises ValueError otherwise.
    """
    return F.cross_entropy(input, target, label_smoothing=label_smooth, reduction=reduction)
