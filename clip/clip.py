"""OpenAI's module clip.clip under its own names: load, tokenize, available_models, build_model and what they use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from open_clip import image_transform
from PIL import Image
from torch import Tensor

from ogkd.core.errors import brief
from ogkd.models import openai_models
from ogkd.models.configurations import OPENAI_SIZES, OPENAI_SPEC
from ogkd.models.errors import OpenAIError

from .model import CLIP, build_model
from .simple_tokenizer import END, START
from .simple_tokenizer import SimpleTokenizer as _Tokenizer

__all__ = ["available_models", "build_model", "load", "tokenize"]

_tokenizer = _Tokenizer()


class _Models(dict):
    """Addresses of the published weights by name; the path of a file maps to itself."""

    def __missing__(self, name: str) -> str:
        if Path(name).is_file():
            return str(name)
        raise OpenAIError(
            f'OpenAI published no model "{name}": choose one of {", ".join(self)}, or give the path of weights in that '
            "format."
        )


_MODELS = _Models({name: openai_models.address(name) for name in OPENAI_SIZES})


def available_models() -> list[str]:
    """The names of the published models."""
    return list(_MODELS)


def load(
    name: str | Path,
    device: str | torch.device | None = None,
    jit: bool = False,
    download_root: str | Path | None = None,
) -> tuple[CLIP, Callable[[Image.Image], Tensor]]:
    """Load a model by name, or from a TorchScript archive or state dict; return it with its image transform.

    The model is fp32 on the CPU and fp16 elsewhere; `device` defaults to the GPU if there is one. No code in a file is
    run, so `jit=True` is not supported. Raises OpenAIError for an unknown name or a file that is not in OpenAI's
    format.
    """
    if jit:
        raise OpenAIError(
            "clip.load runs no code from an archive, so it has no jit=True: leave it out, or call torch.jit.load "
            "yourself."
        )
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    path = Path(_download(_MODELS[str(name)], download_root))
    model = build_model(openai_models.read(path)).to(device)
    if device.type == "cpu":
        model.float()
    return model, _transform(model.visual.input_resolution)


def tokenize(texts: str | Sequence[str], context_length: int = 77, truncate: bool = False) -> Tensor:
    """Turn texts into int64 token ids (N, context_length), with start and end tokens, padded with 0.

    Raises OpenAIError, a RuntimeError, for a text that is too long; with `truncate` its end is cut off instead.
    """
    if isinstance(texts, str):
        texts = [texts]
    start, end = _tokenizer.encoder[START], _tokenizer.encoder[END]
    ids = torch.zeros(len(texts), context_length, dtype=torch.long)
    for row, text in zip(ids, texts, strict=True):
        sequence = [start, *_tokenizer.encode(text), end]
        if len(sequence) > context_length:
            if not truncate:
                raise OpenAIError(
                    f'The text "{brief(text, 80)}" has {len(sequence)} tokens, too long for the context length '
                    f"{context_length}: shorten it, or give truncate=True."
                )
            sequence = [*sequence[: context_length - 1], end]
        row[: len(sequence)] = torch.tensor(sequence)
    return ids


def _download(url: str, root: str | Path | None = None) -> str:
    """Return the path of a published file, downloaded to `root` (~/.cache/clip) unless an intact copy exists. The path
    of a local file is returned as it is."""
    if Path(url).is_file():
        return str(url)
    return str(openai_models.download(url, Path(root or openai_models.CACHE).expanduser()))


def _transform(n_px: int) -> Callable[[Image.Image], Tensor]:
    """Return the transform from a PIL image to a normalised tensor (3, n_px, n_px)."""
    return image_transform(n_px, is_train=False, mean=OPENAI_SPEC.mean, std=OPENAI_SPEC.std)
