"""Keys of cached features: everything that can change their values."""

from __future__ import annotations

import functools
import hashlib
import platform
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import cast

import torch
from torch.utils.data import DataLoader

from ogkd.core import UserError
from ogkd.core.hashes import content_hash
from ogkd.core.images import READING
from ogkd.features.items import DatasetWrapper
from ogkd.models import FrozenCLIP

LIBRARIES = ("torch", "torchvision", "timm", "open_clip_torch", "transformers", "pillow", "pydicom")


def model_key(model: FrozenCLIP) -> dict[str, object]:
    """What determines a feature's values besides the input: weights, device, libraries.

    Raises ValueError for a model of `FrozenCLIP.edited`, whose features change while it learns.
    """
    if not model.fingerprint:
        raise ValueError(f"Features of {model.name} with edited weights cannot be cached: encode them without a cache.")
    on_gpu, precision = model.device.type == "cuda", getattr(model, "precision", "fp32")
    return {
        "weights": model.fingerprint,
        "device": torch.cuda.get_device_name(model.device) if on_gpu else platform.machine(),
        "vectors": "" if on_gpu else torch.backends.cpu.get_cpu_capability(),
        "threads": 0 if on_gpu else torch.get_num_threads(),
        "dtype": str(model.dtype),
        "versions": _versions(),
    } | ({} if precision == "fp32" else {"precision": precision})


@functools.cache
def _versions() -> list[str]:
    return [version(name) for name in LIBRARIES]  # 5 ms


def image_model_key(model: FrozenCLIP) -> dict[str, object]:
    """The key of a model as what encodes images: also what a view of it changes in the image tower."""
    return model_key(model) | ({"change": model.image_change} if model.image_change else {})


def image_key(model: FrozenCLIP, loader: DataLoader, content: str, projected: bool = True) -> dict[str, object]:
    """The key of a loader's image features, without their kind; `content` is `content_digest` of the loader."""
    return (
        image_model_key(model)
        | {
            "images": content,
            "reading": READING,
            "frame": images_of(loader).cfg.INPUT.FRAME,
            "transform": str(images_of(loader).transform),
            "batch": loader.batch_size,
        }
        | ({} if projected else {"projected": False})
    )


def images_of(loader: DataLoader) -> DatasetWrapper:
    """The images that a loader of `build_data_loader` goes through."""
    return cast(DatasetWrapper, loader.dataset)


def content_digest(loader: DataLoader) -> str:
    """A hash of the bytes of a loader's images, in order."""
    paths = [item.impath for item in images_of(loader).data_source]
    with ThreadPoolExecutor(8) as pool:
        return hashlib.sha256("".join(pool.map(image_hash, paths)).encode()).hexdigest()


def image_hash(path: str) -> str:
    """A hash of an image file's bytes, in hexadecimal digits. Raises UserError if the file is missing."""
    try:
        return content_hash(path)
    except FileNotFoundError:
        raise UserError(f"The image {path} is missing: check the data set's folder against its split file.") from None
