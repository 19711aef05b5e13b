"""OpenAI's module clip.model under its own names; see clip/compat."""

from __future__ import annotations

from .compat.model import CLIP, build_model, convert_weights
from .compat.resnet import AttentionPool2d, Bottleneck, ModifiedResNet
from .compat.transformer import LayerNorm, QuickGELU, ResidualAttentionBlock, Transformer, VisionTransformer

__all__ = [
    "CLIP",
    "AttentionPool2d",
    "Bottleneck",
    "LayerNorm",
    "ModifiedResNet",
    "QuickGELU",
    "ResidualAttentionBlock",
    "Transformer",
    "VisionTransformer",
    "build_model",
    "convert_weights",
]
