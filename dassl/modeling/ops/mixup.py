from __future__ import annotations

import torch
from torch import Tensor
from torch.distributions import Beta


def mixup(
    x1: Tensor, x2: Tensor, y1: Tensor, y2: Tensor, beta: float, preserve_order: bool = False
) -> tuple[Tensor, Tensor]:
    """Mix the images (B, C, H, W) and label rows (B, N) of two batches, with one share per pair drawn from
    Beta(beta, beta); with `preserve_order` the first batch gets the larger share."""
    share = Beta(beta, beta).sample((len(x1), 1, 1, 1)).to(x1.device)
    if preserve_order:
        share = torch.maximum(share, 1 - share)
    rows = share[:, :, 0, 0]
    return x1 * share + x2 * (1 - share), y1 * rows + y2 * (1 - rows)
