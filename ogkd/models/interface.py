"""The interface of every frozen vision-language model in this package, whatever its towers are."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ogkd.core.errors import brief
from ogkd.models.configurations import ImageSpec
from ogkd.models.errors import ModelError
from ogkd.models.hooks import Deep
from ogkd.models.paths import AddedPath, PackedAttention
from ogkd.models.tokenizers import Tokenizer


class ImageFeatures(NamedTuple):
    """The global token (B, D) and, with patches, the patch tokens (B, P, D); not normalised."""

    global_token: Tensor
    patch_tokens: Tensor | None

    def normalised(self) -> ImageFeatures:
        """The tokens with length 1."""
        patches = self.patch_tokens
        return ImageFeatures(
            F.normalize(self.global_token, dim=-1), None if patches is None else F.normalize(patches, dim=-1)
        )


class Tokens(NamedTuple):
    """Token ids (N, L) int64 and a bool mask (N, L) of the real tokens; L is the longest real sequence in the batch."""

    ids: Tensor
    mask: Tensor


class FrozenCLIP(nn.Module):
    """A frozen pair of towers: eval mode, fp32, no parameter requires a gradient.

    `image` and `text` are towers of towers.py. `tokenizer` maps a list of texts to a list of lists of token ids,
    without padding; one of tokenizers.py also names the ids. `logit_bias` is what a model trained with a sigmoid adds
    to every logit; a softmax over classes is the same without it.

    A method can change a tower for one call, by vectors at its layers (`prompts`, `deep`) or dropout, leave out the
    projection (`projected=False`, then `image_projection` or `text_projection`), or make a copy whose weight matrices
    are its own function of the frozen ones (`linear_layers`, `edited`).
    """

    image_tower: Any
    text_tower: Any
    image_change = ""  # what a view of a model changes in its image tower; features are cached under it

    def __init__(
        self,
        name: str,
        image: nn.Module,
        text: nn.Module,
        tokenizer: Tokenizer,
        spec: ImageSpec,
        embed_dim: int,
        context_length: int,
        log_logit_scale: float,
        fingerprint: str,
        logit_bias: float = 0.0,
    ) -> None:
        super().__init__()
        self.image_tower = image
        self.text_tower = text
        self.tokenizer = tokenizer
        self.name = name
        self.fingerprint = fingerprint
        self.image_size, self.mean, self.std = spec.size, spec.mean, spec.std
        self.embed_dim = embed_dim
        self.context_length = context_length
        self.logit_scale, self.logit_bias = math.exp(log_logit_scale), logit_bias
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
        return len(self.text_tower.blocks)

    @property
    def text_projection(self) -> nn.Module:
        """From pooled texts (N, context_width) to features (N, D)."""
        return self.text_tower.projection

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
        """Number of layers that take prompts; 0 for a tower that is not a ViT."""
        return len(self.image_tower.blocks)

    @property
    def has_patches(self) -> bool:
        """Whether the image tower gives patch tokens in the space of texts; without, `patches` are None."""
        return getattr(self.image_tower, "has_patches", True)

    @property
    def image_norm(self) -> nn.Module:
        """The norm that image tokens (..., vision_width) pass through before the first layer, if there is one."""
        return self.image_tower.first_norm

    @property
    def image_projection(self) -> nn.Module:
        """From image tokens (..., vision_width) to features (..., D)."""
        return self.image_tower.projection

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    def encode_image(
        self, images: Tensor, patches: bool = False, prompts: Deep | None = None, projected: bool = True
    ) -> ImageFeatures:
        """Encode normalised images (B, 3, H, W) with H = W = image_size.

        `prompts`: vectors (n, vision_width), or (B, n, vision_width) for every image its own, by the number of the
        layer. The first are appended as n tokens to the input of their layer, those of later layers take their place,
        and their outputs are dropped (MaPLe, arXiv 2210.03117). A function changes a layer's input (B, L, width).
        `projected`: without it, tokens are those after the last norm, of width vision_width.

        Raises ModelError if the images have the wrong shape, or the tower takes no such prompts or does not pool.
        """
        expected = (3, self.image_size, self.image_size)
        if images.ndim != 4 or tuple(images.shape[1:]) != expected:
            raise ModelError(
                f"{self.name} takes images of shape (B, {', '.join(map(str, expected))}), not "
                f"{tuple(images.shape)}: resize them to its image_size."
            )
        if prompts is not None:
            self.require_layers()
            self._check_deep(prompts, self.vision_width, self.vision_layers, "image")
        features = self.image_tower(images, patches, prompts, projected)
        shape = tuple(features.global_token.shape[1:])
        width = self.embed_dim if projected else self.vision_width
        if shape != (width,):
            raise ModelError(
                f"The image tower of {self.name} gives an image features of shape {shape}, not ({width},): "
                "choose a model whose configuration has a pooling and the right embed_dim."
            )
        return features

    @cached_property
    def text_frame(self) -> tuple[int, int]:
        """How many special tokens the tokenizer puts before a text and after it: (1, 1), or (0, 1) for SigLIP."""
        (empty,), (word,) = self.tokenizer([""]), self.tokenizer(["a"])
        before = sum(1 for one, other in zip(empty, word, strict=False) if one == other)
        return before, len(empty) - before

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Return token ids and mask of the texts, padded to the longest of them, on the CPU.

        Raises ModelError, quoting the text, when one has more tokens than context_length.
        """
        if isinstance(texts, str):
            raise ModelError("tokenize takes a list of texts, not one string: put it into a list.")
        texts = list(texts)
        if not texts:
            return Tokens(torch.zeros(0, 0, dtype=torch.long), torch.zeros(0, 0, dtype=torch.bool))
        sequences = self.tokenizer(texts)
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

    def vocabulary(self) -> dict[int, str]:
        """The tokenizer's words by their ids; word pieces keep its marks. Special tokens are none, nor are a BERT's
        unused ones."""
        special, words = set(self.tokenizer.special()), enumerate(self.tokenizer.words())
        return {token: word for token, word in words if token not in special and not word.startswith("[unused")}

    def embed(self, ids: Tensor) -> Tensor:
        """Word embeddings (N, L, context_width) of token ids (N, L), without positions."""
        return self.text_tower.embed(ids.to(self.device))

    def encode_text(
        self,
        embeddings: Tensor,
        mask: Tensor,
        deep: Deep | None = None,
        positions: Tensor | None = None,
        dropout: float = 0.0,
        projected: bool = True,
    ) -> Tensor:
        """Encode word embeddings (N, L, context_width) to features (N, D), not normalised; differentiable.

        `mask` (N, L) is true for real tokens, which come first in each row; the last real one ends the text.
        `deep`: vectors (n, context_width), or (N, n, context_width) for every text its own, by the number of the layer
        at whose input they replace the tokens at `positions` (N, n), by default 1 .. n in each row. A function changes
        a layer's input (N, L, context_width).
        `dropout`: the rate of all the tower's dropout for this call, whatever its configuration says; in a BERT it
        applies to hidden states and attention probabilities, as in its own train mode. It draws from PyTorch's global
        generator of the device. A tower without dropout (see has_text_dropout) ignores it. Not thread-safe.
        `projected`: without it, features are the pooled states (N, context_width).

        Raises ModelError for a wrong shape, length, layer or rate.
        """
        if embeddings.ndim != 3 or embeddings.shape[-1] != self.context_width or embeddings.shape[:2] != mask.shape:
            raise ModelError(
                f"{self.name} takes word embeddings (N, L, {self.context_width}) with a mask (N, L), not "
                f"{tuple(embeddings.shape)} with {tuple(mask.shape)}."
            )
        length = embeddings.shape[1]
        if length > self.context_length:
            raise ModelError(
                f"A prompt has {length} tokens but {self.name} reads at most {self.context_length}: "
                "use fewer context vectors or a shorter class name."
            )
        if deep is not None:
            most = self._check_deep(deep, self.context_width, self.text_layers, "text")
            if most >= length:
                raise ModelError(f"{most} deep prompts do not fit into texts of {length} tokens: use fewer.")
        if not 0 <= dropout < 1:
            raise ModelError(f"The text dropout rate must be at least 0 and below 1, not {dropout}.")
        with self.text_tower.dropout.at(dropout):
            pooled = self.text_tower(embeddings, mask.to(embeddings.device), deep, positions)
        return self.text_projection(pooled) if projected else pooled

    def linear_layers(self) -> dict[str, tuple[nn.Module, str]]:
        """Every weight matrix of the towers' linear layers by its name in the model: (the layer, the weight's name in
        it). Packed attention is one matrix, in_proj_weight or qkv.weight: query, key and value one above another."""
        kinds = {nn.Linear: "weight", nn.MultiheadAttention: "in_proj_weight"}
        layers: dict[str, tuple[nn.Module, str]] = {}
        for path, module in self.named_modules():
            name = next((name for kind, name in kinds.items() if isinstance(module, kind)), "")
            if getattr(module, name, None) is not None:
                layers[f"{path}.{name}"] = module, name
        return layers

    def edited(self, edits: Mapping[str, nn.Module]) -> FrozenCLIP:
        """A copy that shares this model's weights, except that each matrix named in `edits` (see linear_layers) is what
        its module computes from the frozen one, as torch.nn.utils.parametrize has it, such as other singular values.
        What an AddedPath computes of the layer's input is added to its output instead. Train `edits`; this model stays
        as it is.

        What the copy computes changes while it learns, so it is never cached: its `fingerprint` is empty.
        """
        other = self.sharing_weights()
        other.fingerprint = ""
        layers = other.linear_layers()
        for name, edit in edits.items():
            layer, weight = layers[name]
            if not isinstance(edit, AddedPath):
                parametrize.register_parametrization(layer, weight, edit)
                continue
            if isinstance(layer, nn.MultiheadAttention):
                parent, _, child = name.removesuffix(f".{weight}").rpartition(".")
                packed = PackedAttention(layer)
                setattr(other.get_submodule(parent), child, packed)
                layer = packed.in_proj
            layer.add_module("path", edit)
            layer.register_forward_hook(_add_path)
        return other

    def sharing_weights(self) -> FrozenCLIP:
        """A copy of the modules with the same tensors and paths."""
        paths = (module for module in self.modules() if isinstance(module, AddedPath))
        shared: tuple[Tensor | AddedPath, ...] = (*self.parameters(), *self.buffers(), *paths)
        return copy.deepcopy(self, {id(part): part for part in shared})

    def require_layers(self) -> None:
        """Raise ModelError for an image tower that has no layers to change, such as a ResNet."""
        if not self.vision_layers:
            raise ModelError(
                f"The image tower of {self.name} is not a ViT, so it has no layers that take prompts or other changes: "
                "choose a model with a ViT."
            )

    def _check_deep(self, deep: Deep, width: int, layers: int, tower: str) -> int:
        """The largest number of vectors at a layer. Raises ModelError for a layer or shape that the tower lacks."""
        beyond = [number for number in deep if not 0 <= number < layers]
        if beyond:
            raise ModelError(
                f"The {tower} tower of {self.name} has layers 0 to {layers - 1}, not {beyond[0]}: lower the prompt "
                "depth."
            )
        shapes = [tuple(change.shape) for change in deep.values() if isinstance(change, Tensor)]
        wrong = [shape for shape in shapes if len(shape) not in (2, 3) or shape[-1] != width]
        if wrong:
            raise ModelError(
                f"The {tower} tower of {self.name} takes deep prompts of shape (n, {width}) or (N, n, {width}), not "
                f"{wrong[0]}."
            )
        return max((shape[-2] for shape in shapes), default=0)


def _add_path(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return output + layer.path(inputs[0])  # type: ignore[operator]
