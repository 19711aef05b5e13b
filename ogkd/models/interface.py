"""The interface of every frozen vision-language model in this package, whatever its towers are."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ogkd.core.errors import brief
from ogkd.models.configurations import ImageSpec
from ogkd.models.edits import called, unprojected
from ogkd.models.errors import ModelError

Report = Callable[[str, int, int], None]
"""Called as report(stage, done, total) during long work; done and total count bytes or tensors. Stages may run at the
same time, in separate threads."""

DeepPrompts = Sequence[Tensor | None]

Foreign = Any  # a module of another library, or a tower: PyTorch does not say what attributes a module has


class ImageFeatures(NamedTuple):
    """The global token (B, D) and, when asked for, the patch tokens (B, P, D); projected, not normalised."""

    global_token: Tensor
    patch_tokens: Tensor | None


class Tokens(NamedTuple):
    """Token ids (N, L) int64 and a bool mask (N, L) of the real tokens; L is the longest real sequence in the batch."""

    ids: Tensor
    mask: Tensor


class FrozenCLIP(nn.Module):
    """A frozen pair of towers: eval mode, fp32, no parameter requires a gradient.

    `image` and `text` are towers of image_towers.py and text_towers.py. `tokenizer` maps a list of texts to a list of
    lists of token ids, without padding; one of tokenizers.py also names the ids.
    """

    image_tower: Foreign
    text_tower: Foreign

    def __init__(
        self,
        name: str,
        image: nn.Module,
        text: nn.Module,
        tokenizer: Callable[[list[str]], list[list[int]]],
        spec: ImageSpec,
        embed_dim: int,
        context_length: int,
        log_logit_scale: float,
        fingerprint: str,
    ) -> None:
        super().__init__()
        self.image_tower = image
        self.text_tower = text
        self._tokenizer = tokenizer
        self.name = name
        self.fingerprint = fingerprint
        self.image_size, self.mean, self.std = spec.size, spec.mean, spec.std
        self.embed_dim = embed_dim
        self.context_length = context_length
        self.logit_scale = math.exp(log_logit_scale)
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> FrozenCLIP:
        """Stay in eval mode, even if a trainer calls train() on everything it holds."""
        return super().train(False)

    @property
    def context_width(self) -> int:
        """Width of a word embedding and thus of a context vector."""
        return self.text_tower.width

    @property
    def text_layers(self) -> int:
        return self.text_tower.layers

    @property
    def has_text_dropout(self) -> bool:
        """Whether the text tower's architecture defines dropout, as a BERT's does and CLIP's own does not."""
        return bool(self.text_tower.dropout)

    @property
    def vision_width(self) -> int:
        """Width of the image tower's tokens (before projection)."""
        return self.image_tower.width

    @property
    def vision_layers(self) -> int:
        """Number of layers that take deep prompts; 0 for a ResNet."""
        return self.image_tower.layers

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    def encode_image(
        self,
        images: Tensor,
        patches: bool = False,
        deep_prompts: DeepPrompts | None = None,
        weights: Mapping[str, Tensor] | None = None,
        project: bool = True,
    ) -> ImageFeatures:
        """Encode normalised images (B, 3, H, W) with H = W = image_size.

        `deep_prompts`: up to vision_layers tensors (n, vision_width). The first is appended as n tokens to the input of
        layer 0, the i-th replaces these tokens at the input of layer i, and their outputs are dropped (MaPLe, arXiv
        2210.03117). `weights`: parameters of `image_tower` by name that replace its own in this call, see edits.py.
        Without `project`, tokens are those before the projection into the space shared with texts. Raises ModelError
        if the images have the wrong shape or the tower takes no deep prompts.
        """
        expected = (3, self.image_size, self.image_size)
        if images.ndim != 4 or tuple(images.shape[1:]) != expected:
            raise ModelError(
                f"{self.name} takes images of shape (B, {', '.join(map(str, expected))}), not "
                f"{tuple(images.shape)}: resize them to its image_size."
            )
        if deep_prompts is not None:
            if self.vision_layers == 0:
                raise ModelError(
                    f"{self.name}'s image tower is a ResNet, which has no deep prompts: choose a model with a ViT."
                )
            self._check_deep_prompts(deep_prompts, self.vision_width, self.vision_layers, "image")
        with contextlib.nullcontext() if project else unprojected(self.image_tower):
            return called(self.image_tower, weights, images, patches, deep_prompts)

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Return token ids and mask of the texts, padded to the longest of them, on the CPU.

        Raises ModelError, quoting the text, when one has more tokens than context_length.
        """
        if isinstance(texts, str):
            raise ModelError("tokenize takes a list of texts, not one string: put it into a list.")
        texts = list(texts)
        if not texts:
            return Tokens(torch.zeros(0, 0, dtype=torch.long), torch.zeros(0, 0, dtype=torch.bool))
        sequences = self._tokenizer(texts)
        for text, sequence in zip(texts, sequences, strict=True):
            if len(sequence) > self.context_length:
                raise ModelError(
                    f'The text "{brief(text, 80)}" has {len(sequence)} tokens but {self.name} reads at most '
                    f"{self.context_length}: shorten it."
                )
        length = max(map(len, sequences))
        ids = torch.zeros(len(texts), length, dtype=torch.long)
        mask = torch.zeros(len(texts), length, dtype=torch.bool)
        for row, sequence in enumerate(sequences):
            ids[row, : len(sequence)] = torch.tensor(sequence)
            mask[row, : len(sequence)] = True
        return Tokens(ids, mask)

    def vocabulary(self) -> list[str]:
        """Return the tokenizer's words in the order of their ids; word pieces keep the tokenizer's marks.

        Raises ModelError if the tokenizer cannot name its ids.
        """
        words = getattr(self._tokenizer, "words", None)
        if words is None:
            raise ModelError(
                f"The tokenizer of {self.name} cannot name its token ids: use one in transformers' format."
            )
        return words()

    def embed(self, ids: Tensor) -> Tensor:
        """Word embeddings (N, L, context_width) of token ids (N, L), without positions."""
        return self.text_tower.embed(ids.to(self.device))

    def encode_text(
        self,
        embeddings: Tensor,
        mask: Tensor,
        deep_prompts: DeepPrompts | None = None,
        deep_positions: Tensor | None = None,
        dropout: float = 0.0,
        weights: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """Encode word embeddings (N, L, context_width) to features (N, D), not normalised; differentiable.

        `mask` (N, L) is true for real tokens, which come first in each row; the last real one ends the text.
        `deep_prompts`: up to text_layers - 1 tensors, (n, context_width) for all texts or (N, n, context_width) for
        each. The i-th replaces the tokens at `deep_positions` (N, n), by default 1 .. n in each row, at the input of
        layer i + 1 (layer 0's are in the embeddings); None leaves that layer as it is.
        `dropout`: the rate of all the tower's dropout for this call, whatever its configuration says; in a BERT it
        applies to hidden states and attention probabilities, as in its own train mode. It draws from PyTorch's global
        generator of the device. A tower without dropout (see has_text_dropout) ignores it. Not thread-safe.
        `weights`: parameters of `text_tower` by name that replace its own in this call, see edits.py.

        Raises ModelError for a wrong shape, length or rate.
        """
        if embeddings.ndim != 3 or embeddings.shape[-1] != self.context_width or embeddings.shape[:2] != mask.shape:
            raise ModelError(
                f"{self.name} takes word embeddings (N, L, {self.context_width}) with a mask (N, L), not "
                f"{tuple(embeddings.shape)} with {tuple(mask.shape)}."
            )
        if embeddings.shape[1] > self.context_length:
            raise ModelError(
                f"A prompt has {embeddings.shape[1]} tokens but {self.name} reads at most {self.context_length}: "
                "use fewer context vectors or a shorter class name."
            )
        if deep_prompts is not None:
            self._check_deep_prompts(deep_prompts, self.context_width, self.text_layers - 1, "text")
            count = max((prompt.shape[-2] for prompt in deep_prompts if prompt is not None), default=0)
            if 1 + count > embeddings.shape[1]:
                raise ModelError(
                    f"{count} deep prompts do not fit into texts of {embeddings.shape[1]} tokens: use fewer."
                )
        if not 0 <= dropout < 1:
            raise ModelError(f"The text dropout rate must be at least 0 and below 1, not {dropout}.")
        with self.text_tower.dropout.at(dropout):
            args = embeddings, mask.to(embeddings.device), deep_prompts, deep_positions
            return called(self.text_tower, weights, *args)

    def _check_deep_prompts(self, prompts: DeepPrompts, width: int, most: int, tower: str) -> None:
        if len(prompts) > most:
            raise ModelError(
                f"The {tower} tower of {self.name} takes deep prompts for at most {most} layers, not {len(prompts)}: "
                "lower the prompt depth."
            )
        shapes = {tuple(prompt.shape) for prompt in prompts if prompt is not None}
        sizes = (2, 3) if tower == "text" else (2,)
        if len(shapes) > 1 or any(len(shape) not in sizes or shape[-1] != width for shape in shapes):
            raise ModelError(
                f"The {tower} tower of {self.name} takes deep prompts of one shape (n, {width}), not {sorted(shapes)}."
            )
