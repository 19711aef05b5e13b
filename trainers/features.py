"""Features of frozen towers, computed once and kept on disk for all methods, seeds and shots."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import open_clip
import PIL
import timm
import torch
import torch.nn.functional as F
import torchvision
import transformers
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.utils.data import DataLoader

from clip import FrozenCLIP, ImageFeatures
from dassl.data.data_manager import seeded
from dassl.utils import UserError, atomic_path, progress

FORMAT = 1


def images_at_once(device: torch.device) -> int:
    """How many images one pass of the image tower takes: enough to keep the device busy within modest memory."""
    return 256 if device.type == "cuda" else 32


@torch.no_grad()
def encode_images(model: FrozenCLIP, images: Tensor, patches: bool = False) -> ImageFeatures:
    """Normalised global tokens (B, D) and, when asked, patch tokens (B, P, D) of images (B, 3, H, W)."""
    out = model.encode_image(images.to(model.device), patches=patches)
    return ImageFeatures(
        F.normalize(out.global_token, dim=-1),
        F.normalize(out.patch_tokens, dim=-1) if patches else None,
    )


class EncodeAhead:
    """A data loader whose images are already features, with the crops, the order and the batches of the one it wraps.

    The image tower is frozen, so what an optimisation step needs of an image does not depend on the steps before it.
    With patches, batches are collected until `images` images are waiting, encoded in one pass and handed out one by
    one. Without, an epoch's global tokens are small: they are encoded at its start and kept in the cache, where every
    method that draws the same crops finds them. Batches hold `features` in place of `img`.
    """

    def __init__(self, loader: DataLoader, model: FrozenCLIP, patches: bool, images: int, cache: FeatureCache) -> None:
        self.loader, self.model, self.patches, self.images, self.cache = loader, model, patches, images, cache

    def __len__(self) -> int:
        return len(self.loader)

    def __getattr__(self, name: str) -> object:
        return getattr(self.__dict__["loader"], name)

    def __iter__(self) -> Iterator[dict]:
        seed = self.loader.dataset.epoch_seed
        if self.patches or seed is None:  # without a seed no crop can be met again
            yield from self._stream()
            return
        features = self._crops(seed).to(self.model.device)
        labels = torch.tensor([item.label for item in self.loader.dataset.data_source])
        for rows in self.loader.batch_sampler:
            rows = torch.tensor(rows)
            yield {
                "features": ImageFeatures(features[rows.to(features.device)], None),
                "label": labels[rows],
                "index": rows,
            }

    @cached_property
    def _content(self) -> str:
        return content_digest(self.loader)

    def _crops(self, seed: int) -> Tensor:
        """Global tokens (N, D) of the epoch's crop of each image."""
        in_order = DataLoader(self.loader.dataset, self.images, num_workers=self.loader.num_workers)
        key = image_key(self.model, in_order, self._content) | {"kind": "crops", "epoch": seed}
        with seeded(seed):  # iterating over a loader draws a number, which an epoch found in the cache does not

            def compute() -> Tensor:
                return torch.cat([encode_images(self.model, batch["img"]).global_token for batch in in_order])

            return self.cache.get(key, compute)

    def _stream(self) -> Iterator[dict]:
        waiting: list[dict] = []
        count = 0
        for batch in self.loader:
            waiting.append(batch)
            count += len(batch["img"])
            if count >= self.images:
                yield from self._encode(waiting)
                waiting, count = [], 0
        if waiting:
            yield from self._encode(waiting)

    def _encode(self, batches: list[dict]) -> Iterator[dict]:
        sizes = [len(batch["img"]) for batch in batches]
        encoded = encode_images(self.model, torch.cat([batch.pop("img") for batch in batches]), self.patches)
        globals_ = encoded.global_token.split(sizes)
        patches = encoded.patch_tokens.split(sizes) if self.patches else [None] * len(sizes)
        for batch, global_token, patch_tokens in zip(batches, globals_, patches, strict=True):
            batch["features"] = ImageFeatures(global_token, patch_tokens)
            yield batch


class FeatureCache:
    """Tensors on disk under a key that holds everything which can change their numbers.

    An entry is a safetensors file named by its key's hash, with the whole key and a checksum of the numbers inside.
    One that does not parse, is of another key or fails its checksum is computed again. With `folder` None nothing is
    kept.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def get(self, key: Mapping[str, object], compute: Callable[[], Tensor]) -> Tensor:
        """The tensor of `key`, from disk where it is there and sound, otherwise from `compute` (and then kept)."""
        if self.folder is None:
            return compute()
        text = json.dumps(dict(key) | {"format": FORMAT}, sort_keys=True)
        path = self.folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.safetensors"
        if path.is_file():
            found = self._read(path, text)
            if found is not None:
                return found
            print(f"The cached features in {path} are damaged; they are computed again.")
        tensor = compute()
        self._write(path, text, tensor)
        return tensor

    @staticmethod
    def _read(path: Path, key: str) -> Tensor | None:
        try:
            with safe_open(path, framework="pt") as file:
                metadata, tensor = file.metadata() or {}, file.get_tensor("features")
        except (SafetensorError, OSError, ValueError):
            return None
        sound = metadata.get("key") == key and metadata.get("checksum") == _checksum(tensor)
        return tensor if sound else None

    @staticmethod
    def _write(path: Path, key: str, tensor: Tensor) -> None:
        tensor = tensor.detach().cpu().contiguous()
        path.parent.mkdir(parents=True, exist_ok=True)
        content = save({"features": tensor}, metadata={"key": key, "checksum": _checksum(tensor)})
        with atomic_path(path) as temporary:
            temporary.write_bytes(content)


def _checksum(tensor: Tensor) -> str:
    return hashlib.blake2b(tensor.numpy().data, digest_size=16).hexdigest()


def _numerics(model: FrozenCLIP) -> dict[str, object]:
    """What besides the input decides a feature's numbers: weights, device, libraries."""
    on_gpu = model.device.type == "cuda"
    return {
        "weights": model.fingerprint,
        "device": torch.cuda.get_device_name(model.device) if on_gpu else platform.machine(),
        "threads": 0 if on_gpu else torch.get_num_threads(),
        "dtype": str(model.dtype),
        "versions": [module.__version__ for module in (torch, torchvision, timm, open_clip, transformers, PIL)],
    }


def _content_hash(path: str) -> str:
    try:
        return hashlib.blake2b(Path(path).read_bytes(), digest_size=16).hexdigest()
    except FileNotFoundError:
        raise UserError(f"The image {path} is missing; check the data set's folder against its split file.") from None


def content_digest(loader: DataLoader) -> str:
    """A hash of the bytes of a loader's images, in order."""
    paths = [item.impath for item in loader.dataset.data_source]
    with ThreadPoolExecutor(8) as pool:
        return hashlib.sha256("".join(pool.map(_content_hash, paths)).encode()).hexdigest()


def image_key(model: FrozenCLIP, loader: DataLoader, content: str) -> dict[str, object]:
    """What decides the features of a loader's images: the key of their cache entry, but for its kind."""
    return _numerics(model) | {
        "images": content,
        "transform": str(loader.dataset.transform),
        "batch": loader.batch_size,
    }


def image_features(model: FrozenCLIP, loader: DataLoader, cache: FeatureCache, what: str) -> Tensor:
    """Normalised global tokens (N, D) of a loader's images in order, on the CPU.

    The key holds the images' bytes, not their names or dates, so a moved data set keeps its entries and a changed
    image never meets an old one.
    """
    key = image_key(model, loader, content_digest(loader)) | {"kind": "image"}

    def compute() -> Tensor:
        batches = progress(loader, f"encode {what} images", total=len(loader), unit="batch")
        return torch.cat([encode_images(model, batch["img"]).global_token.cpu() for batch in batches])

    return cache.get(key, compute)


def text_features(model: FrozenCLIP, texts: list[str], cache: FeatureCache, what: str, batch: int = 100) -> Tensor:
    """Normalised text features (N, D) of sentences, on the CPU.

    Sentences are encoded in order of length, so that each batch is cut to nearly its own length.
    """
    digest = hashlib.sha256(json.dumps(texts).encode()).hexdigest()
    key = _numerics(model) | {"kind": "text", "texts": digest, "batch": batch}

    @torch.no_grad()
    def compute() -> Tensor:
        lengths = model.tokenize(texts).mask.sum(1)
        order = torch.argsort(lengths, stable=True).tolist()
        features = torch.empty(len(texts), model.embed_dim)
        for start in progress(range(0, len(texts), batch), f"encode {what}", unit="batch"):
            rows = order[start : start + batch]
            tokens = model.tokenize([texts[row] for row in rows])
            features[rows] = F.normalize(model.encode_text(model.embed(tokens.ids), tokens.mask), dim=-1).cpu()
        return features

    return cache.get(key, compute)


def batches_of(features: Tensor, labels: Tensor, size: int) -> Iterable[tuple[Tensor, Tensor]]:
    """Pieces of at most `size` rows of features (N, D) and labels (N,)."""
    return zip(features.split(size), labels.split(size), strict=True)
