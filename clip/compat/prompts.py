"""Prompts in both towers, as MaPLe's code base requests them with the second argument of `build_model`.

Three designs (`design_details["trainer"]`):

- "CoOp", "CoCoOp": plain towers.
- "IVLP", "VPT": the prompts are parameters of the towers; trainers find them by "VPT" in their names. `visual.VPT` is
  the image tower's input prompt, and a block's `VPT_shallow` replaces the prompts at that layer's input, in layers 1 to
  depth - 1. The text tower's input prompts are part of the trainer's embeddings.
- "MaPLe" (arXiv 2210.03117): the trainer passes all prompts with each call, `visual(images, first, deeper)` and
  `transformer([hidden, deeper, 0])[0]`; the i-th of `deeper` replaces the prompts at the input of layer i + 1.

Prompts follow the first token of a text, and come last in an image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ogkd.models.errors import OpenAIError

from .transformer import ResidualAttentionBlock, Transformer, VisionTransformer, append, new_prompt

if TYPE_CHECKING:
    from typing_extensions import Unpack

Sizes = tuple[int, int, int, int, int, int]  # VisionTransformer's
PLAIN, OWN, GIVEN = ("CoOp", "CoCoOp"), ("IVLP", "VPT"), ("MaPLe",)


@dataclass(frozen=True)
class Design:
    """The content of `design_details`: the kind of prompts, the number of layers per tower and of tokens per layer.

    `maple_length` is given by MaPLe's trainers but not needed: the prompts of each call have that length.
    """

    trainer: str = "CoOp"
    vision_depth: int = 0
    language_depth: int = 0
    vision_ctx: int = 0
    language_ctx: int = 0
    maple_length: int = 0

    @classmethod
    def of(cls, details: Mapping[str, Any] | None) -> Design:
        """Read the design from a trainer's dict. Raises OpenAIError for an unknown trainer or key."""
        details = dict(details or {})
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(details) - known)
        if unknown or details.get("trainer", "CoOp") not in (*PLAIN, *OWN, *GIVEN):
            what = f"the key {unknown[0]!r}" if unknown else f"the trainer {details['trainer']!r}"
            raise OpenAIError(
                f"design_details has {what}, which clip.model.build_model does not know (it has the designs of "
                f"{', '.join((*PLAIN, *OWN, *GIVEN))}): put the model.py that your trainer came with beside it and "
                "import build_model from there."
            )
        return cls(**details)


def place(hidden: Tensor, prompt: Tensor, in_text: bool) -> Tensor:
    """Replace the n prompts in the hidden states (L, N, width) by `prompt` (n, width)."""
    length = prompt.shape[0]
    rows = prompt.to(hidden.dtype).unsqueeze(1).expand(-1, hidden.shape[1], -1)
    if in_text:
        return torch.cat([hidden[:1], rows, hidden[1 + length :]])
    return torch.cat([hidden[: hidden.shape[0] - length], rows])


class PromptedBlock(ResidualAttentionBlock):
    """A block with its own prompts, VPT_shallow (n, width)."""

    def __init__(self, width: int, heads: int, attn_mask: Tensor | None, length: int, in_text: bool) -> None:
        super().__init__(width, heads, attn_mask)
        self.in_text = in_text
        self.VPT_shallow = new_prompt(length, width)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(place(x, self.VPT_shallow, self.in_text))


def prompted_transformer(
    width: int,
    layers: int,
    heads: int,
    attn_mask: Tensor | None = None,
    *,
    depth: int,
    length: int,
    in_text: bool,
) -> Transformer:
    """Build a transformer with its own prompts in layers 1 to depth - 1; those of layer 0 are part of its input."""

    def block(layer: int) -> ResidualAttentionBlock:
        if 0 < layer < depth:
            return PromptedBlock(width, heads, attn_mask, length, in_text)
        return ResidualAttentionBlock(width, heads, attn_mask)

    return Transformer(width, layers, heads, blocks=map(block, range(layers)))


class MaPLeTransformer(Transformer):
    """A transformer that receives its prompts with each call: it maps [hidden, deeper, used] to the same three values.

    `hidden` (L, N, width) contains the first prompts, `deeper` the prompts (n, width) of the following layers, and
    `used` counts those already used. Hidden states alone are encoded without prompts.
    """

    def __init__(self, width: int, layers: int, heads: int, attn_mask: Tensor | None = None, *, in_text: bool) -> None:
        super().__init__(width, layers, heads, attn_mask)
        self.in_text = in_text

    def forward(self, x: Tensor | Sequence) -> Any:
        if isinstance(x, Tensor):
            return super().forward(x)
        hidden, deeper, used = x
        for layer, block in enumerate(self.resblocks):
            if layer > 0 and used < len(deeper):
                hidden = place(hidden, deeper[used], self.in_text)
                used += 1
            hidden = block(hidden)
        return [hidden, deeper, used]


class MaPLeVisionTransformer(VisionTransformer):
    """A ViT that receives its prompts with each call: `first` (n, width) beside the patches, then the deeper
    layers'."""

    def __init__(self, *sizes: Unpack[Sizes]) -> None:
        super().__init__(*sizes, partial(MaPLeTransformer, in_text=False))

    def forward(self, x: Tensor, first: Tensor | None = None, deeper: Sequence[Tensor] = ()) -> Tensor:
        tokens = self.embed(x)
        if first is None:
            return self.project(self.transformer(self.enter(tokens)))
        hidden, _, _ = self.transformer([self.enter(append(tokens, first)), deeper, 0])
        return self.project(hidden)


def vision_transformer(design: Design, *sizes: Unpack[Sizes]) -> VisionTransformer:
    """Build the ViT of a design; `sizes` are the arguments of VisionTransformer."""
    if design.trainer in GIVEN:
        return MaPLeVisionTransformer(*sizes)
    if design.trainer in OWN and design.vision_depth > 0:
        depth, length = design.vision_depth, design.vision_ctx
        transformer = partial(prompted_transformer, depth=depth, length=length, in_text=False)
        return VisionTransformer(*sizes, transformer, prompt_length=length)
    return VisionTransformer(*sizes)


def text_transformer(design: Design, width: int, layers: int, heads: int, attn_mask: Tensor) -> Transformer:
    """Build the text tower's transformer for a design."""
    if design.trainer in GIVEN:
        return MaPLeTransformer(width, layers, heads, attn_mask, in_text=True)
    if design.trainer in OWN:
        depth, length = design.language_depth, design.language_ctx
        return prompted_transformer(width, layers, heads, attn_mask, depth=depth, length=length, in_text=True)
    return Transformer(width, layers, heads, attn_mask)
