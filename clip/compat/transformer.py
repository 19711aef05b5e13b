"""The transformers of CLIP (arXiv 2103.00020), with the parameter names of OpenAI's state dicts.

Hidden states are (L, N, width), sequence first, as trainers that call a tower directly expect. Parameters are created
in the order of OpenAI's code, so that a seed leaves the random generator in the same state.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn


class LayerNorm(nn.LayerNorm):
    """Layer normalisation that computes in fp32, whatever the precision of its input."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float()).to(x.dtype)


class QuickGELU(nn.Module):
    """x * sigmoid(1.702 x), the approximation of GELU with which OpenAI's models were trained."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class ResidualAttentionBlock(nn.Module):
    """Self-attention and an MLP, each with a preceding layer norm and a skip connection; keeps the shape (L, N,
    width)."""

    def __init__(self, d_model: int, n_head: int, attn_mask: Tensor | None = None) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(d_model, n_head)
        self.ln_1 = LayerNorm(d_model)
        layers = {
            "c_fc": nn.Linear(d_model, 4 * d_model),
            "gelu": QuickGELU(),
            "c_proj": nn.Linear(4 * d_model, d_model),
        }
        self.mlp = nn.Sequential(OrderedDict(layers))
        self.ln_2 = LayerNorm(d_model)
        self.attn_mask = attn_mask

    def attention(self, x: Tensor) -> Tensor:
        mask = None
        if self.attn_mask is not None:
            self.attn_mask = self.attn_mask.to(x)  # done once; not a buffer, which a traced archive would contain
            mask = self.attn_mask[: x.shape[0], : x.shape[0]]
        return self.attn(x, x, x, need_weights=False, attn_mask=mask)[0]

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


class Transformer(nn.Module):
    """A stack of blocks on hidden states (L, N, width).

    `attn_mask` (L, L) is added to the attention scores. `blocks` replaces the plain layers.
    """

    def __init__(
        self,
        width: int,
        layers: int,
        heads: int,
        attn_mask: Tensor | None = None,
        blocks: Iterable[nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.width = width
        self.layers = layers
        if blocks is None:
            blocks = (ResidualAttentionBlock(width, heads, attn_mask) for _ in range(layers))
        self.resblocks = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        return self.resblocks(x)


def new_prompt(length: int, width: int) -> nn.Parameter:
    """Create a learnable prompt (length, width), initialised like word embeddings: normal with standard deviation
    0.02."""
    return nn.Parameter(nn.init.normal_(torch.empty(length, width), std=0.02))


def append(tokens: Tensor, prompt: Tensor) -> Tensor:
    """Append a prompt (n, width) to tokens (N, L, width)."""
    return torch.cat([tokens, prompt.to(tokens.dtype).expand(tokens.shape[0], -1, -1)], dim=1)


class VisionTransformer(nn.Module):
    """The ViT image tower: images (N, 3, input_resolution, input_resolution) to features (N, output_dim).

    With a `prompt_length`, it has that many learnable prompt tokens, VPT, after the patches.
    """

    def __init__(
        self,
        input_resolution: int,
        patch_size: int,
        width: int,
        layers: int,
        heads: int,
        output_dim: int,
        new_transformer: Callable[[int, int, int], nn.Module] = Transformer,
        prompt_length: int = 0,
    ) -> None:
        super().__init__()
        self.input_resolution = input_resolution
        self.output_dim = output_dim
        self.conv1 = nn.Conv2d(3, width, kernel_size=patch_size, stride=patch_size, bias=False)
        self.VPT = new_prompt(prompt_length, width) if prompt_length else None
        scale = width**-0.5
        self.class_embedding = nn.Parameter(scale * torch.randn(width))
        patches = (input_resolution // patch_size) ** 2
        self.positional_embedding = nn.Parameter(scale * torch.randn(patches + 1, width))
        self.ln_pre = LayerNorm(width)
        self.transformer = new_transformer(width, layers, heads)
        self.ln_post = LayerNorm(width)
        self.proj = nn.Parameter(scale * torch.randn(width, output_dim))

    def embed(self, images: Tensor) -> Tensor:
        """Return the class token and patches with their positions, and the tower's own prompts: (N, L, width)."""
        patches = self.conv1(images).flatten(2).transpose(1, 2)
        first = self.class_embedding.to(patches.dtype).expand(patches.shape[0], 1, -1)
        tokens = torch.cat([first, patches], dim=1) + self.positional_embedding.to(patches.dtype)
        return tokens if self.VPT is None else append(tokens, self.VPT)

    def enter(self, tokens: Tensor) -> Tensor:
        """Turn tokens (N, L, width) into the transformer's input (L, N, width)."""
        return self.ln_pre(tokens).transpose(0, 1)

    def project(self, hidden: Tensor) -> Tensor:
        """Project the class token, the first of the transformer's output (L, N, width), to features (N, output_dim)."""
        features = self.ln_post(hidden[0])
        return features if self.proj is None else features @ self.proj

    def forward(self, x: Tensor) -> Tensor:
        return self.project(self.transformer(self.enter(self.embed(x))))
