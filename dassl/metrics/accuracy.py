from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor


def compute_accuracy(output: Tensor, target: Tensor, topk: Sequence[int] = (1,)) -> list[Tensor]:
    """Return top-k accuracies in percent, one tensor (1,) per k, for logits (B, C) and labels (B,); k is at most C."""
    if isinstance(output, (tuple, list)):
        output = output[0]
    most = min(max(topk), output.shape[1])
    hits = output.topk(most, dim=1).indices == target[:, None]
    return [100.0 * hits[:, :k].any(1).float().mean().reshape(1) for k in topk]
