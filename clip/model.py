"""OpenAI's module clip.model under its own names: open_clip's towers, called as OpenAI's.

That is, their hidden states are (L, N, width), and the blocks of the text tower hold its causal mask. Parameters have
the names, shapes and precisions of OpenAI's state dicts, and a seed draws them as for OpenAI's.

The second argument of `build_model`, `design_details`, is that of MaPLe's code base. Its `trainer` is one of

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
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from open_clip import transformer
from open_clip.model import CLIPTextCfg, CLIPVisionCfg
from open_clip.model import convert_weights_to_fp16 as convert_weights
from open_clip.modified_resnet import AttentionPool2d, Bottleneck, ModifiedResNet
from open_clip.transformer import LayerNormFp32 as LayerNorm
from open_clip.transformer import QuickGELU
from torch import Tensor, nn

from ogkd.models.errors import OpenAIError
from ogkd.models.openai_models import SIZES, config_of, not_openai

__all__ = [
    "CLIP", "AttentionPool2d", "Bottleneck", "LayerNorm", "ModifiedResNet", "QuickGELU", "ResidualAttentionBlock",
    "Transformer", "VisionTransformer", "build_model", "convert_weights",
]  # fmt: skip

PLAIN, OWN, GIVEN = ("CoOp", "CoCoOp"), ("IVLP", "VPT"), ("MaPLe",)
DESIGN = {"vision_depth": 0, "language_depth": 0, "vision_ctx": 0, "language_ctx": 0, "maple_length": 0}


class ResidualAttentionBlock(transformer.ResidualAttentionBlock):
    """A block on hidden states (L, N, width). `VPT_shallow` (n, width), if any, replaces the prompts in its input."""

    attn_mask: Tensor | None
    in_text: bool
    VPT_shallow: nn.Parameter | None

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        if self.VPT_shallow is not None:
            x = place(x, self.VPT_shallow, self.in_text)
        if self.attn_mask is not None:
            self.attn_mask = self.attn_mask.to(x)  # done once; not a buffer, which a traced archive would contain
        mask = None if self.attn_mask is None else self.attn_mask[: len(x), : len(x)]
        return super().forward(x, attn_mask=mask)


class Transformer(transformer.Transformer):
    """A stack of blocks on hidden states (L, N, width), or on MaPLe's [hidden, deeper, used], where `hidden` contains
    the first prompts, `deeper` the prompts (n, width) of the following layers, and `used` counts those already used."""

    @classmethod
    def of(cls, stack: Any, mask: Tensor | None) -> Transformer:
        """Turn open_clip's stack into one of this class. The text tower's has a mask."""
        stack.__class__ = cls
        for block in stack.resblocks:
            block.__class__, block.attn.batch_first = ResidualAttentionBlock, False
            block.attn_mask, block.in_text = mask, mask is not None
            block.VPT_shallow = None
        return stack

    def forward(self, x: Tensor | Sequence) -> Any:  # type: ignore[override]
        hidden, deeper, used = (x, (), 0) if isinstance(x, Tensor) else x
        for layer, block in enumerate(self.resblocks):
            if layer > 0 and used < len(deeper):
                hidden = place(hidden, deeper[used], block.in_text)
                used += 1
            hidden = block(hidden)
        return hidden if isinstance(x, Tensor) else [hidden, deeper, used]


class VisionTransformer(transformer.VisionTransformer):
    """The ViT image tower: images (N, 3, input_resolution, input_resolution) to features (N, output_dim).

    Its prompts at the input are `VPT` (n, width), if any, or `first`, which a call passes with those of deeper layers.
    """

    input_resolution: int
    VPT: nn.Parameter | None

    def forward(self, x: Tensor, first: Tensor | None = None, deeper: Sequence[Tensor] = ()) -> Tensor:  # type: ignore[override]
        tokens = self._embeds(x)
        first = self.VPT if first is None else first
        if first is not None:
            prompt = self.ln_pre(first.to(tokens.dtype))
            tokens = torch.cat([tokens, prompt.expand(len(tokens), -1, -1)], dim=1)
        hidden, _, _ = self.transformer([tokens.transpose(0, 1), deeper, 0])
        features = self.ln_post(hidden[0])
        return features if self.proj is None else features @ self.proj


def new_prompt(length: int, width: int) -> nn.Parameter:
    """A learnable prompt (length, width), drawn like word embeddings."""
    return nn.Parameter(torch.empty(length, width).normal_(std=0.02))


def place(hidden: Tensor, prompt: Tensor, in_text: bool) -> Tensor:
    """Replace the n prompts in the hidden states (L, N, width) by `prompt` (n, width)."""
    length = len(prompt)
    rows = prompt.to(hidden.dtype).unsqueeze(1).expand(-1, hidden.shape[1], -1)
    if in_text:
        return torch.cat([hidden[:1], rows, hidden[1 + length :]])
    return torch.cat([hidden[: len(hidden) - length], rows])


class CLIP(open_clip.CLIP):
    """Both towers with their projections. If vision_layers is a tuple the image tower is a ResNet, if a number a ViT.

    Raises OpenAIError if the design is unknown or the tower cannot provide it.
    """

    def __init__(
        self,
        embed_dim: int,
        image_resolution: int,
        vision_layers: Sequence[int] | int,
        vision_width: int,
        vision_patch_size: int | None,
        context_length: int,
        vocab_size: int,
        transformer_width: int,
        transformer_heads: int,
        transformer_layers: int,
        design_details: Mapping[str, Any] | None = None,
    ) -> None:
        trainer, design = _design(design_details)
        prompted = trainer in GIVEN or design["vision_depth"] > 0
        if prompted and not isinstance(vision_layers, int):
            raise OpenAIError(
                f"The image tower is a ResNet, which cannot take the prompts of the {trainer} design: choose a ViT, "
                "such as ViT-B/16."
            )
        patch = vision_patch_size or 16
        state = torch.get_rng_state()
        super().__init__(
            embed_dim,
            CLIPVisionCfg(vision_layers, vision_width, image_size=image_resolution, patch_size=patch),  # type: ignore[arg-type]
            CLIPTextCfg(
                context_length, vocab_size, width=transformer_width, heads=transformer_heads, layers=transformer_layers
            ),
            quick_gelu=True,
            cast_dtype=torch.float16,
        )
        if isinstance(vision_layers, int):
            self.visual.__class__, self.visual.VPT = VisionTransformer, None
            Transformer.of(self.visual.transformer, None)
        self.visual.input_resolution = image_resolution
        Transformer.of(self.transformer, self.attn_mask)
        if trainer in OWN:
            self._draw_prompts(state, design)

    def _draw_prompts(self, state: Tensor, design: Mapping[str, int]) -> None:
        """Draw the towers' own prompts as MaPLe's code does, among the parameters of the towers, of which open_clip
        draws the same number in another order. `state` is the generator's before the towers."""

        def draw_layers(stack: Any, depth: int, length: int) -> None:
            for layer, block in enumerate(stack.resblocks):
                nn.MultiheadAttention(stack.width, block.attn.num_heads)
                nn.Linear(stack.width, 4 * stack.width), nn.Linear(4 * stack.width, stack.width)
                if 0 < layer < depth:
                    block.VPT_shallow = new_prompt(length, stack.width)

        image = self.visual
        with torch.random.fork_rng(devices=[]):
            if isinstance(image, VisionTransformer):
                torch.set_rng_state(state)
                width, depth, length = image.transformer.width, design["vision_depth"], design["vision_ctx"]
                nn.Conv2d(3, width, image.patch_size, image.patch_size, bias=False)
                image.VPT = new_prompt(length, width) if depth else None
                torch.randn_like(image.class_embedding), torch.randn_like(image.positional_embedding)
                draw_layers(image.transformer, depth, length)
                torch.randn_like(image.proj)
            draw_layers(self.transformer, design["language_depth"], design["language_ctx"])
        for name, prompt in self.named_parameters():
            if "VPT" in name:
                torch.empty_like(prompt).normal_()  # so that the generator ends where that code leaves it

    @property
    def dtype(self) -> torch.dtype:
        return self.visual.conv1.weight.dtype

    def encode_image(self, image: Tensor) -> Tensor:  # type: ignore[override]
        """Encode normalised images (N, 3, H, W) to features (N, embed_dim), which are not normalised."""
        return self.visual(image.to(self.dtype))

    def encode_text(self, text: Tensor) -> Tensor:  # type: ignore[override]
        """Encode token ids (N, L) to features (N, embed_dim), which are not normalised; the highest id ends a text."""
        x = self.token_embedding(text).to(self.dtype)
        x = x + self.positional_embedding[: x.shape[1]].to(self.dtype)
        x = self.transformer(x.transpose(0, 1)).transpose(0, 1)
        x = self.ln_final(x).to(self.dtype)
        return x[torch.arange(x.shape[0], device=x.device), text.argmax(dim=-1)] @ self.text_projection

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """Return the logits of the texts for each image (N, M) and of the images for each text (M, N)."""
        images, texts = F.normalize(self.encode_image(image), dim=-1), F.normalize(self.encode_text(text), dim=-1)
        logits = self.logit_scale.exp() * images @ texts.t()
        return logits, logits.t()


def _design(details: Mapping[str, Any] | None) -> tuple[str, dict[str, int]]:
    """The trainer of a design and the number of layers per tower and of tokens per layer."""
    given = dict(details or {})
    trainer = given.pop("trainer", "CoOp")
    unknown = sorted(set(given) - set(DESIGN))
    if unknown or trainer not in (*PLAIN, *OWN, *GIVEN):
        what = f"the key {unknown[0]!r}" if unknown else f"the trainer {trainer!r}"
        raise OpenAIError(
            f"design_details has {what}, which clip.model.build_model does not know (it has the designs of "
            f"{', '.join((*PLAIN, *OWN, *GIVEN))}): put the model.py that your trainer came with beside it and import "
            "build_model from there."
        )
    return trainer, {**DESIGN, **given}


def build_model(state_dict: Mapping[str, Tensor], design_details: Mapping[str, Any] | None = None) -> CLIP:
    """Build the model of a state dict in OpenAI's format: fp16, on the CPU, in eval mode. The dict is not changed.

    The state dict need not contain the prompts of `design_details`. Raises OpenAIError if the format or the design does
    not match.
    """
    config = config_of(state_dict)
    vision, text = config["vision_cfg"], config["text_cfg"]
    model = CLIP(
        config["embed_dim"], vision["image_size"], vision["layers"], vision["width"], vision.get("patch_size"),
        text["context_length"], text["vocab_size"], text["width"], text["heads"], text["layers"], design_details,
    )  # fmt: skip
    convert_weights(model)
    state = {key: value for key, value in state_dict.items() if key not in SIZES}
    try:
        missing, unexpected = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise not_openai(str(error).splitlines()[-1].strip().rstrip(".")) from error
    faults = [f"it lacks {key}" for key in missing if "VPT" not in key] + [f"it has {key}" for key in unexpected]
    if faults:
        raise not_openai(faults[0])
    return model.eval()
