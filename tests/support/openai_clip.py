"""A tiny CLIP with random weights in OpenAI's format, as a module, a state dict or a TorchScript archive."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from clip.model import CLIP

VIT, RESNET = 3, (1, 2, 1, 1)
RESOLUTION = 64
PUBLISHED_CONSTANTS = {"input_resolution": RESOLUTION, "context_length": 77, "vocab_size": 49408}


def tiny(vision_layers: int | tuple[int, ...] = VIT, vocab_size: int = 49408) -> CLIP:
    """A model whose every parameter and running mean matters: none is zero or one, as after initialisation."""
    width, patch = (128, 16) if isinstance(vision_layers, int) else (32, None)
    model = CLIP(64, RESOLUTION, vision_layers, width, patch, 77, vocab_size, 128, 2, 3).eval()
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if value.is_floating_point() and value.ndim == 1:
                noise = 0.1 * torch.randn_like(value)
                value.copy_(noise.abs() + 0.9 if name.endswith(("weight", "running_var")) else noise)
    return model


def published(model: CLIP) -> dict[str, Tensor]:
    """The state dict of a model with the three sizes that OpenAI's archives hold."""
    return model.state_dict() | {name: torch.tensor(value) for name, value in PUBLISHED_CONSTANTS.items()}


class _Archived(nn.Module):
    """What OpenAI traced: the towers' modules at the top, sizes as buffers, two methods and forward."""

    def __init__(self, model: CLIP) -> None:
        super().__init__()
        for name, child in model.named_children():
            setattr(self, name, child)
        for name, parameter in model.named_parameters(recurse=False):
            setattr(self, name, parameter)
        for name, value in PUBLISHED_CONSTANTS.items():
            self.register_buffer(name, torch.tensor(value))

    dtype = CLIP.dtype
    encode_image = CLIP.encode_image
    encode_text = CLIP.encode_text
    forward = CLIP.forward


def write_archive(path: Path, model: CLIP) -> Path:
    """Save a model as a TorchScript archive."""
    images = torch.zeros(1, 3, RESOLUTION, RESOLUTION)
    tokens = torch.zeros(1, 77, dtype=torch.long)
    inputs = {"forward": (images, tokens), "encode_image": images, "encode_text": tokens}
    torch.jit.trace_module(_Archived(model), inputs, check_trace=False).save(str(path))
    return path
