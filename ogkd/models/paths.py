"""Learned paths beside the frozen linear layers of a tower."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class AddedPath(nn.Module):
    """A module whose output (..., out), of the input (..., in) of a linear layer, is added to the layer's output."""


class PackedAttention(nn.Module):
    """An nn.MultiheadAttention, with its weights, whose packed projection `in_proj` is a layer, so that it has an input
    and an output to which something can be added."""

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        self.heads, self.batch_first = attention.num_heads, attention.batch_first
        self.in_proj = nn.Linear(1, 1, device="meta")
        self.in_proj.weight, self.in_proj.bias = attention.in_proj_weight, attention.in_proj_bias
        self.out_proj = attention.out_proj

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, need_weights: bool = False, attn_mask: Tensor | None = None
    ) -> tuple[Tensor, None]:
        """As nn.MultiheadAttention of one input, (N, L, width) or (L, N, width); `attn_mask` (L, L) is added to the
        scores."""
        mixed = self.in_proj(query if self.batch_first else query.transpose(0, 1))
        split = mixed.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (3, N, H, L, d)
        mask = None if attn_mask is None else attn_mask.to(mixed.dtype)
        seen = F.scaled_dot_product_attention(split[0], split[1], split[2], attn_mask=mask)
        out = self.out_proj(seen.transpose(1, 2).flatten(2))
        return out if self.batch_first else out.transpose(0, 1), None
