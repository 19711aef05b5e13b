"""A frozen model whose features can be computed by hand: the interface of the real ones on towers of one line each."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ogkd.models import FrozenCLIP, ImageFeatures, ImageSpec
from ogkd.models.hooks import TextDropout

GRID = 4  # patches per side
LAYERS = 3


def deep_sum(prompts: Mapping[int, Tensor] | None, first: int = 0) -> Tensor | float:
    """What deep prompts (n, D), or (N, n, D), add to a feature: the sum of their vectors, those of layer i times
    i + 1 - first."""
    return sum((i + 1 - first) * prompt.sum(-2) for i, prompt in (prompts or {}).items())


class ToyImageTower(nn.Module):
    """A patch token is a linear map of the patch's mean colour, the global token the tokens' sum, weighted by place."""

    blocks = range(LAYERS)
    colour: Tensor
    place: Tensor

    def __init__(self, width: int, random: torch.Generator) -> None:
        super().__init__()
        self.width, self.projection, self.first_norm = width, nn.Identity(), nn.Identity()
        self.register_buffer("colour", torch.randn(3, width, generator=random))
        self.register_buffer("place", torch.randn(GRID * GRID, generator=random))

    def forward(
        self, images: Tensor, patches: bool, deep_prompts: Mapping[int, Tensor] | None, projected: bool = True
    ) -> ImageFeatures:
        tokens = F.adaptive_avg_pool2d(images, GRID).flatten(2).transpose(1, 2) @ self.colour
        whole = self.place @ tokens + deep_sum(deep_prompts)
        return ImageFeatures(whole, tokens if patches else None)


class ToyTextTower(nn.Module):
    """A text's feature is the sum of its real tokens' embeddings, the first left out and the n-th divided by n, and may
    be dropped."""

    blocks = range(LAYERS)

    def __init__(self, width: int) -> None:
        super().__init__()
        self.drop, self.projection = nn.Dropout(0.1), nn.Identity()
        self.dropout = TextDropout(self)
        self.width, self.vectors = width, [torch.zeros(width), torch.zeros(width)]  # of the start and the end

    def embed(self, ids: Tensor) -> Tensor:
        return torch.stack(self.vectors)[ids]

    def forward(
        self, embeddings: Tensor, mask: Tensor, deep_prompts: Mapping[int, Tensor] | None, positions: Tensor | None
    ) -> Tensor:
        share = 1 / torch.arange(embeddings.shape[1]).to(embeddings)
        share[0] = 0
        return self.drop((embeddings * mask[..., None]).transpose(1, 2) @ share + deep_sum(deep_prompts, first=1))


class ToyCLIP(FrozenCLIP):
    """Texts in `words` are one token with a given vector (D,), which is also the text's feature; others are split at
    blanks into words with random vectors. The same arguments make the same model.
    """

    def __init__(self, words: Mapping[str, Tensor], width: int, spec: ImageSpec, scale: float = 10.0) -> None:
        random = torch.Generator().manual_seed(0)
        image, text = ToyImageTower(width, random), ToyTextTower(width)
        ids: dict[str, int] = {}

        def number(word: str) -> int:
            if word not in ids:
                ids[word] = len(text.vectors)
                text.vectors.append(words[word] if word in words else torch.randn(width, generator=random))
            return ids[word]

        def tokenizer(texts: list[str]) -> list[list[int]]:
            return [[0, *map(number, [text] if text in words else text.split()), 1] for text in texts]

        super().__init__("toy", image, text, tokenizer, spec, width, 32, math.log(scale), "toy")
        self.logit_scale = scale

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    @property
    def dtype(self) -> torch.dtype:
        return torch.float32
