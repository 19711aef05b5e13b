"""OpenAI's module clip.clip under its own names: `from clip import clip`, then clip.load, clip.tokenize and the rest.

clip/compat explains how this relates to the project's own interface.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize, ToTensor

from ogkd.core.errors import brief
from ogkd.models import weights
from ogkd.models.configurations import OPENAI_SPEC

from .compat.archive import is_archive, read_archive
from .compat.download import fetch
from .compat.errors import CompatError
from .compat.model import CLIP, build_model
from .simple_tokenizer import END, START
from .simple_tokenizer import SimpleTokenizer as _Tokenizer

__all__ = ["available_models", "build_model", "load", "tokenize"]

_tokenizer = _Tokenizer()


class _Models(dict):
    """Addresses of the published weights by name; the path of a file maps to itself."""

    def __missing__(self, name: str) -> str:
        if Path(name).is_file():
            return str(name)
        raise CompatError(
            f'OpenAI published no model "{name}": choose one of {", ".join(self)}, or give the path of weights in that '
            "format."
        )


_PUBLISHED = "https://openaipublic.azureedge.net/clip/models"
_MODELS = _Models(
    {
        "RN50": f"{_PUBLISHED}/afeb0e10f9e5a86da6080e35cf09123aca3b358a0c3e3b6c78a7b63bc04b6762/RN50.pt",
        "RN101": f"{_PUBLISHED}/8fa8567bab74a42d41c5915025a8e4538c3bdbe8804a470a72f30b0d94fab599/RN101.pt",
        "RN50x4": f"{_PUBLISHED}/7e526bd135e493cef0776de27d5f42653e6b4c8bf9e0f653bb11773263205fdd/RN50x4.pt",
        "RN50x16": f"{_PUBLISHED}/52378b407f34354e150460fe41077663dd5b39c54cd0bfd2b27167a4a06ec9aa/RN50x16.pt",
        "RN50x64": f"{_PUBLISHED}/be1cfb55d75a9666199fb2206c106743da0f6468c9d327f3e0d0a543a9919d9c/RN50x64.pt",
        "ViT-B/32": f"{_PUBLISHED}/40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af/ViT-B-32.pt",
        "ViT-B/16": f"{_PUBLISHED}/5806e77cd80f8b59890b7e101eabd078d9fb84e6937f9e85e4ecb61988df416f/ViT-B-16.pt",
        "ViT-L/14": f"{_PUBLISHED}/b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836/ViT-L-14.pt",
        "ViT-L/14@336px": (
            f"{_PUBLISHED}/3035c92b350959924f9f00213499208652fc7ea050643e8b385c2dac08641f02/ViT-L-14-336px.pt"
        ),
    }
)


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
    run, so `jit=True` is not supported. Raises CompatError for an unknown name or a file that is not in OpenAI's
    format.
    """
    if jit:
        raise CompatError(
            "clip.load runs no code from an archive, so it has no jit=True: leave it out, or call torch.jit.load "
            "yourself."
        )
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    path = Path(_download(_MODELS[str(name)], download_root))
    model = build_model(read_archive(path) if is_archive(path) else weights.read(path)).to(device)
    if device.type == "cpu":
        model.float()
    return model, _transform(model.visual.input_resolution)


def tokenize(texts: str | Sequence[str], context_length: int = 77, truncate: bool = False) -> Tensor:
    """Turn texts into int64 token ids (N, context_length), with start and end tokens, padded with 0.

    Raises CompatError, a RuntimeError, for a text that is too long; with `truncate` its end is cut off instead.
    """
    if isinstance(texts, str):
        texts = [texts]
    start, end = _tokenizer.encoder[START], _tokenizer.encoder[END]
    ids = torch.zeros(len(texts), context_length, dtype=torch.long)
    for row, text in zip(ids, texts, strict=True):
        sequence = [start, *_tokenizer.encode(text), end]
        if len(sequence) > context_length:
            if not truncate:
                raise CompatError(
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
    return str(fetch(url, Path(root or "~/.cache/clip").expanduser()))


def _to_rgb(image: Image.Image) -> Image.Image:
    return image.convert("RGB")


def _transform(n_px: int) -> Compose:
    """Return the transform from a PIL image to a normalised tensor (3, n_px, n_px)."""
    return Compose(
        [
            Resize(n_px, interpolation=InterpolationMode.BICUBIC),
            CenterCrop(n_px),
            _to_rgb,
            ToTensor(),
            Normalize(OPENAI_SPEC.mean, OPENAI_SPEC.std),
        ]
    )
