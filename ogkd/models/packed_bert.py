"""A frozen BERT arranged for prompt tuning: a step reads each weight twice, and does little else.

A step needs the pooled output and its gradient with respect to the embeddings. So

- no weight has a gradient, and each is held twice, as it is and transposed, in the layout of the processor's matrix
  kernels, which would otherwise rearrange it in every step;
- query, key and value are one product;
- the sentences' tokens lie one behind the other, (T, width), without padding, except in attention;
- the last layer computes only the first token of each sentence, the one that is pooled.
"""

from __future__ import annotations

import copy
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ogkd.models.hooks import Deep
from ogkd.models.towers import TransformersText


class PackedBert(TransformersText):
    """The text tower `tower`, a BERT, in `dtype`; normalisation, softmax and residual sums are in fp32.

    Without gradients, and with vectors at layers, it is the tower as it was. So is a copy, whose weights may be edited.
    """

    def __init__(self, tower: TransformersText, dtype: torch.dtype) -> None:
        super().__init__(tower.transformer, tower.pooler, tower.projection)
        self.dtype = dtype

    @staticmethod
    def supports(tower: nn.Module) -> bool:
        """Whether a tower is a BERT of transformers whose first token is pooled, on a CPU with oneDNN's kernels."""
        if not isinstance(tower, TransformersText) or next(tower.parameters()).device.type != "cpu":
            return False
        config: Any = tower.transformer.config
        pools_first = type(tower.pooler).__name__ == "ClsLastHiddenStatePooler"
        is_bert = config.model_type == "bert" and config.hidden_act == "gelu" and not config.is_decoder
        kernels = torch.backends.mkldnn.is_available() and torch.backends.cpu.get_cpu_capability().startswith("AVX")
        return pools_first and is_bert and kernels

    def __deepcopy__(self, memo: dict) -> TransformersText:
        return TransformersText(
            *(copy.deepcopy(part, memo) for part in (self.transformer, self.pooler, self.projection))
        )

    @cached_property
    def layers(self) -> list[Layer]:
        return [Layer(layer, self.dtype) for layer in self.transformer.encoder.layer]

    def forward(self, embeddings: Tensor, mask: Tensor, deep: Deep | None, positions: Tensor | None = None) -> Tensor:
        if deep or not torch.is_grad_enabled():
            return super().forward(embeddings, mask, deep, positions)
        packing, table = _Packing(mask), self.transformer.embeddings
        added = table.position_embeddings.weight[: mask.shape[1]] + table.token_type_embeddings.weight[0]
        with torch.autocast(embeddings.device.type, enabled=False):
            hidden = table.dropout(table.LayerNorm(packing.packed(embeddings + added)))
            for layer in self.layers[:-1]:
                hidden = layer(hidden, packing)
            return self.layers[-1](hidden, packing, only_first=True)


class _Packing:
    """Where the T real tokens of N padded sentences of L tokens are."""

    def __init__(self, mask: Tensor) -> None:
        self.shape = mask.shape
        self.real = mask.flatten().nonzero().squeeze(1)  # (T,) positions in (N * L)
        self.row = mask.flatten().cumsum(0) - 1  # (N * L,) row of each token; of padding, the row of a real token
        self.first = self.row.view(self.shape)[:, 0]
        self.bias = torch.zeros(self.shape).masked_fill(~mask, -torch.inf)[:, None, None]

    def padded(self, packed: Tensor) -> Tensor:
        """(T, ...) -> (N, L, ...); what is in the place of padding does not matter."""
        return packed[self.row].unflatten(0, self.shape)

    def zero_padded(self, packed: Tensor) -> Tensor:
        """(T, width) -> (N, L, width) with zeros in the place of padding."""
        padded = packed.new_zeros(self.row.shape[0], packed.shape[1])
        return padded.index_copy_(0, self.real, packed).unflatten(0, self.shape)

    def packed(self, padded: Tensor) -> Tensor:
        """(N, L, ...) -> (T, ...)."""
        return padded.flatten(0, 1)[self.real]


class Layer:
    """One layer of a BERT (post-norm)."""

    def __init__(self, layer: Any, dtype: torch.dtype) -> None:
        attention, self.dtype = layer.attention, dtype
        self.heads = attention.self.num_attention_heads
        self.projections = _Linear(dtype, attention.self.query, attention.self.key, attention.self.value)
        self.out = _Linear(dtype, attention.output.dense)
        self.up, self.down = _Linear(dtype, layer.intermediate.dense), _Linear(dtype, layer.output.dense)
        self.dropout: Any = attention.self.dropout
        self.after_attention, self.after_mlp = attention.output, layer.output

    def __call__(self, hidden: Tensor, packing: _Packing, only_first: bool = False) -> Tensor:
        """From and to hidden states (T, width) in fp32; with `only_first` to those of the first tokens, (N, width)."""
        rate = self.dropout.p if self.dropout.training else 0.0
        seen = _Attention.apply(self.projections(hidden.to(self.dtype)), packing, self.heads, rate, only_first)
        hidden = hidden[packing.first] if only_first else hidden
        hidden = _added(hidden, self.out(seen), self.after_attention)
        return _added(hidden, self.down(F.gelu(self.up(hidden.to(self.dtype)))), self.after_mlp)


def _added(hidden: Tensor, change: Tensor, block: Any) -> Tensor:
    return block.LayerNorm(hidden + block.dropout(change))


class _Attention(torch.autograd.Function):
    """Queries, keys and values (T, 3 * width) -> what the tokens see (T, width), or with `only_first` the first of each
    sentence (N, width). In fp32: it is little work, and one function with its own derivative costs fewer passes."""

    @staticmethod
    def forward(ctx: Any, mixed: Tensor, packing: _Packing, heads: int, rate: float, only_first: bool) -> Tensor:
        split = packing.padded(mixed.float()).unflatten(-1, (3, heads, -1))  # (N, L, 3, H, d)
        query, key, value = split.permute(2, 0, 3, 1, 4).contiguous()  # (N, H, L, d)
        query = query[:, :, : 1 if only_first else None] * query.shape[-1] ** -0.5
        weights = (query @ key.mT + packing.bias).softmax(-1)
        dropout_mask = torch.empty_like(weights).bernoulli_(1 - rate).div_(1 - rate) if rate else None
        ctx.save_for_backward(query, key, value, weights, dropout_mask)
        ctx.packing, ctx.only_first, ctx.dtype = packing, only_first, mixed.dtype
        seen = (weights if dropout_mask is None else weights * dropout_mask) @ value
        seen = seen.transpose(1, 2).flatten(2)  # (N, L, width)
        return (seen[:, 0] if only_first else packing.packed(seen)).to(mixed.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        query, key, value, weights, dropout_mask = ctx.saved_tensors
        packing, (count, heads, length, depth) = ctx.packing, key.shape
        gradient = gradient.float()
        gradient = gradient[:, None] if ctx.only_first else packing.zero_padded(gradient)
        gradient = gradient.unflatten(-1, (heads, depth)).transpose(1, 2).contiguous()  # (N, H, L, d)
        of_weights = gradient @ value.mT
        of_weights = of_weights if dropout_mask is None else of_weights.mul_(dropout_mask)
        of_scores = weights * (of_weights - (of_weights * weights).sum(-1, keepdim=True))
        split = gradient.new_zeros(count, length, 3, heads, depth)
        of_query, of_key, of_value = split.permute(2, 0, 3, 1, 4)
        of_query[:, :, : query.shape[2]] = of_scores @ key * depth**-0.5
        of_key.copy_(of_scores.mT @ query)
        of_value.copy_((weights if dropout_mask is None else weights * dropout_mask).mT @ gradient)
        return packing.packed(split.flatten(2)).to(ctx.dtype), None, None, None, None


class _Linear:
    """Frozen linear layers of one input, one above another."""

    def __init__(self, dtype: torch.dtype, *layers: nn.Linear) -> None:
        weight = torch.cat([layer.weight for layer in layers]).detach().to(dtype)
        self.bias = torch.cat([layer.bias for layer in layers]).detach().to(dtype)
        self.weight, self.transposed = _arranged(weight), _arranged(weight.t().contiguous())

    def __call__(self, inputs: Tensor) -> Tensor:
        return _Product.apply(inputs, self)


class _Product(torch.autograd.Function):
    """inputs (T, in) -> (T, out), differentiable in the inputs alone."""

    @staticmethod
    def forward(ctx: Any, inputs: Tensor, layer: _Linear) -> Tensor:
        ctx.layer = layer
        return product(inputs, layer.weight, layer.bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return product(gradient.contiguous(), ctx.layer.transposed, None), None


_USUAL_ROWS = 32  # tokens of a few short sentences; the layout suits other numbers too


def _arranged(weight: Tensor) -> Tensor:
    return torch.ops.mkldnn._reorder_linear_weight(weight, _USUAL_ROWS)


def product(inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "none", [], "")
