"""CLIP in OpenAI's layout, built from a state dict alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from ogkd.models.errors import OpenAIError

from .prompts import Design, text_transformer, vision_transformer
from .resnet import ModifiedResNet
from .transformer import LayerNorm, VisionTransformer

_SIZES_IN_ARCHIVES = ("input_resolution", "context_length", "vocab_size")
_FIRST_LOGIT_SCALE = math.log(1 / 0.07)


class CLIP(nn.Module):
    """Both towers with their projections. If vision_layers is a tuple the image tower is a ResNet, if a number a ViT.

    `design_details` are those of MaPLe's code base (see compat/prompts.py). Raises OpenAIError if the tower cannot
    provide them.
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
        super().__init__()
        design = Design.of(design_details)
        self.context_length = context_length
        self.vocab_size = vocab_size
        self.visual: VisionTransformer | ModifiedResNet
        if isinstance(vision_layers, int):
            patch = cast(int, vision_patch_size)
            sizes = (image_resolution, patch, vision_width, vision_layers, vision_width // 64, embed_dim)
            self.visual = vision_transformer(design, *sizes)
        else:
            if design.trainer == "MaPLe" or design.vision_depth > 0:
                raise OpenAIError(
                    f"The image tower is a ResNet, which cannot take the prompts of the {design.trainer} design: "
                    "choose a ViT, such as ViT-B/16."
                )
            heads = vision_width * 32 // 64
            self.visual = ModifiedResNet(vision_layers, embed_dim, heads, image_resolution, vision_width)
        self.transformer = text_transformer(
            design, transformer_width, transformer_layers, transformer_heads, self.build_attention_mask()
        )
        self.token_embedding = nn.Embedding(vocab_size, transformer_width)
        self.positional_embedding = nn.Parameter(torch.empty(context_length, transformer_width))
        self.ln_final = LayerNorm(transformer_width)
        self.text_projection = nn.Parameter(torch.empty(transformer_width, embed_dim))
        self.logit_scale = nn.Parameter(torch.tensor(_FIRST_LOGIT_SCALE))
        self.initialize_parameters()

    @torch.no_grad()
    def initialize_parameters(self) -> None:
        """Initialise the text tower and a ResNet's attention from normal distributions, as for training."""
        self.token_embedding.weight.normal_(std=0.02)
        self.positional_embedding.normal_(std=0.01)
        if isinstance(self.visual, ModifiedResNet):
            pool = self.visual.attnpool
            for layer in (pool.q_proj, pool.k_proj, pool.v_proj, pool.c_proj):
                layer.weight.normal_(std=pool.c_proj.in_features**-0.5)
            for name, parameter in self.visual.named_parameters():
                if name.endswith("bn3.weight") and name.startswith("layer"):
                    parameter.zero_()
        width, layers = self.transformer.width, self.transformer.layers
        residual = width**-0.5 * (2 * layers) ** -0.5
        block: Any
        for block in self.transformer.resblocks:
            block.attn.in_proj_weight.normal_(std=width**-0.5)
            block.attn.out_proj.weight.normal_(std=residual)
            block.mlp.c_fc.weight.normal_(std=(2 * width) ** -0.5)
            block.mlp.c_proj.weight.normal_(std=residual)
        self.text_projection.normal_(std=width**-0.5)

    def build_attention_mask(self) -> Tensor:
        """The causal mask (context_length, context_length): -inf above the diagonal, 0 elsewhere."""
        return torch.full((self.context_length, self.context_length), -math.inf).triu(1)

    @property
    def dtype(self) -> torch.dtype:
        return self.visual.conv1.weight.dtype

    def encode_image(self, image: Tensor) -> Tensor:
        """Encode normalised images (N, 3, H, W) to features (N, embed_dim), which are not normalised."""
        return self.visual(image.to(self.dtype))

    def encode_text(self, text: Tensor) -> Tensor:
        """Encode token ids (N, L) to features (N, embed_dim), which are not normalised; the highest id ends a text."""
        x = self.token_embedding(text).to(self.dtype)
        x = x + self.positional_embedding[: x.shape[1]].to(self.dtype)
        x = self.transformer(x.transpose(0, 1)).transpose(0, 1)
        x = self.ln_final(x).to(self.dtype)
        return x[torch.arange(x.shape[0], device=x.device), text.argmax(dim=-1)] @ self.text_projection

    def forward(self, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits of the texts for each image (N, M) and of the images for each text (M, N)."""
        images = nn.functional.normalize(self.encode_image(image), dim=-1)
        texts = nn.functional.normalize(self.encode_text(text), dim=-1)
        logits = self.logit_scale.exp() * images @ texts.t()
        return logits, logits.t()


def convert_weights(model: nn.Module) -> None:
    """Convert the model to fp16 as OpenAI does: convolutions, linear layers, attention and projections.

    Embeddings, norms and the logit scale stay in fp32.
    """
    for module in model.modules():
        parameters: list[nn.Parameter | None]
        if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Linear, nn.MultiheadAttention)):
            parameters = list(module.parameters(recurse=False))
        else:
            parameters = [getattr(module, name, None) for name in ("text_projection", "proj")]
        for parameter in parameters:
            if isinstance(parameter, nn.Parameter):
                parameter.data = parameter.data.half()


def build_model(state_dict: Mapping[str, Tensor], design_details: Mapping[str, Any] | None = None) -> CLIP:
    """Build the model of a state dict in OpenAI's format: fp16, on the CPU, in eval mode. The dict is not changed.

    `design_details`, given by trainers of MaPLe's code base, adds prompts to the towers (see compat/prompts.py); the
    state dict need not contain them. Raises OpenAIError if the format or the design does not match.
    """
    sizes = _sizes(state_dict)
    model = CLIP(*sizes, design_details)
    convert_weights(model)
    state = {key: value for key, value in state_dict.items() if key not in _SIZES_IN_ARCHIVES}
    try:
        missing, unexpected = model.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise _not_openai(str(error).splitlines()[-1].strip().rstrip(".")) from error
    faults = [f"it lacks {key}" for key in missing if "VPT" not in key] + [f"it has {key}" for key in unexpected]
    if faults:
        raise _not_openai(faults[0])
    return model.eval()


class _Sizes(NamedTuple):
    """The arguments of CLIP's constructor, in order."""

    embed_dim: int
    image_resolution: int
    vision_layers: tuple[int, ...] | int
    vision_width: int
    vision_patch_size: int | None
    context_length: int
    vocab_size: int
    transformer_width: int
    transformer_heads: int
    transformer_layers: int


_Vision = tuple[int, int | tuple[int, ...], int, int | None]


def _sizes(state: Mapping[str, Tensor]) -> _Sizes:
    def count(prefix: str) -> int:
        return len({key[len(prefix) :].split(".")[0] for key in state if key.startswith(prefix)})

    try:
        text_width = len(state["ln_final.weight"])
        vision: _Vision
        if "visual.proj" in state:
            width, _, patch, _ = state["visual.conv1.weight"].shape
            side = math.isqrt(len(state["visual.positional_embedding"]) - 1)
            vision = (side * patch, count("visual.transformer.resblocks."), width, patch)
        else:
            side = math.isqrt(len(state["visual.attnpool.positional_embedding"]) - 1)
            stages = tuple(count(f"visual.layer{stage}.") for stage in (1, 2, 3, 4))
            vision = (side * 32, stages, len(state["visual.layer1.0.conv1.weight"]), None)
        return _Sizes(
            state["text_projection"].shape[1],
            *cast(_Vision, vision),
            len(state["positional_embedding"]),
            len(state["token_embedding.weight"]),
            text_width,
            text_width // 64,
            count("transformer.resblocks."),
        )
    except KeyError as error:
        raise _not_openai(f"it lacks {error.args[0]}") from None


def _not_openai(reason: str) -> OpenAIError:
    return OpenAIError(
        f"The state dict is not that of a CLIP in OpenAI's format ({reason}): use a file that holds one."
    )
