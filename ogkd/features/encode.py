"""Normalised features of images and texts by the frozen towers."""

from __future__ import annotations

import hashlib
import json

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader

from ogkd.core import progress
from ogkd.features.cache import FeatureCache
from ogkd.features.keys import content_digest, image_key, model_key
from ogkd.models import FrozenCLIP, ImageFeatures


def images_at_once(device: torch.device) -> int:
    """Images per pass of the image tower: enough to keep the device busy with modest memory."""
    return 256 if device.type == "cuda" else 32


@torch.no_grad()
def encode_images(model: FrozenCLIP, images: Tensor, patches: bool = False, projected: bool = True) -> ImageFeatures:
    """Normalised global tokens (B, D) and, if `patches` and the model has them, patch tokens (B, P, D) of images
    (B, 3, H, W).

    Not `projected`: the tokens (..., vision_width) before the projection, not normalised.
    """
    out = model.encode_image(images.to(model.device, non_blocking=True), patches=patches, projected=projected)
    return out.normalised() if projected else out


def image_features(
    model: FrozenCLIP, loader: DataLoader, cache: FeatureCache, what: str, projected: bool = True
) -> Tensor:
    """Global tokens (N, D) of `encode_images` of a loader's images in order, on the CPU.

    The key depends on the images' bytes, not on their names or dates, so a moved data set keeps its entries and a
    changed image never gets an outdated one.
    """
    key = image_key(model, loader, content_digest(loader), projected) | {"kind": "image"}

    def compute() -> Tensor:
        batches = progress(loader, f"encode {what} images", total=len(loader), unit="batch")
        return torch.cat(
            [encode_images(model, batch["img"], projected=projected).global_token.cpu() for batch in batches]
        )

    return cache.get(key, compute)


def text_features(
    model: FrozenCLIP, texts: list[str], cache: FeatureCache, what: str, batch: int = 100, normalised: bool = True
) -> Tensor:
    """Text features (N, D) of sentences, on the CPU.

    Sentences are encoded in order of length, so that batches need little padding.
    """
    digest = hashlib.sha256(json.dumps(texts).encode()).hexdigest()
    key = model_key(model) | {"kind": "text", "texts": digest, "batch": batch}
    if not normalised:
        key |= {"normalised": False}

    @torch.no_grad()
    def compute() -> Tensor:
        tokens = model.tokenize(texts)
        lengths = tokens.mask.sum(1)
        order = torch.argsort(lengths, stable=True).tolist()
        features = torch.empty(len(texts), model.embed_dim)
        for start in progress(range(0, len(texts), batch), f"encode {what}", unit="batch"):
            rows = order[start : start + batch]
            ids, mask = (values[rows, : int(lengths[rows].max())] for values in tokens)
            encoded = model.encode_text(model.embed(ids), mask)
            features[rows] = (F.normalize(encoded, dim=-1) if normalised else encoded).cpu()
        return features

    return cache.get(key, compute)
