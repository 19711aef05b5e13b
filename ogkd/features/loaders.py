"""Loaders whose batches hold features instead of images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ogkd.features.cache import FeatureCache
from ogkd.features.encode import encode_images
from ogkd.features.keys import images_of
from ogkd.features.views import Views
from ogkd.models import FrozenCLIP, ImageFeatures


class EncodeAhead:
    """Wraps a data loader: the same crops, order and batches, already encoded.

    The image tower is frozen, so an image's features do not depend on earlier optimisation steps. With patches, batches
    are collected until `images` images are waiting, encoded in one pass and yielded one by one. Without patches an
    epoch's global tokens are small: they are encoded at its start and cached for every method that draws the same
    crops. Batches hold `features` instead of `img`.
    """

    def __init__(self, loader: DataLoader, model: FrozenCLIP, patches: bool, images: int, cache: FeatureCache) -> None:
        self.loader, self.model, self.patches, self.images = loader, model, patches, images
        self.views = Views(images_of(loader), model, cache, images)

    def __len__(self) -> int:
        return len(self.loader)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["loader"], name)

    def __iter__(self) -> Iterator[dict]:
        seed = images_of(self.loader).epoch_seed
        if self.patches or seed is None:  # without a seed the same crops never come again
            yield from self._stream()
            return
        features = self.views(seed)
        labels = torch.tensor([item.label for item in images_of(self.loader).data_source])
        for rows in cast(Iterable, self.loader.batch_sampler):
            rows = torch.tensor(rows)
            yield {
                "features": ImageFeatures(features[rows.to(features.device)], None),
                "label": labels[rows],
                "index": rows,
            }

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
        images = [batch.pop("img").to(self.model.device, non_blocking=True) for batch in batches]
        encoded = encode_images(self.model, torch.cat(images), self.patches)
        globals_ = encoded.global_token.split(sizes)
        tokens = encoded.patch_tokens
        patches = [None] * len(sizes) if tokens is None else tokens.split(sizes)
        for batch, global_token, patch_tokens in zip(batches, globals_, patches, strict=True):
            batch["features"] = ImageFeatures(global_token, patch_tokens)
            yield batch


class FeatureLoader:
    """Batches {"features", "label"} of an epoch's features and labels (N,), shuffled by PyTorch's random state.

    `features(seed)` returns the features (N, D) of the epoch with this seed; the seed is None if the run has none.
    """

    def __init__(self, features: Callable[[int | None], Tensor], labels: Tensor, batch_size: int) -> None:
        self.features, self.labels, self.batch_size = features, labels, batch_size
        self.epoch_seed: int | None = None
        self.dataset = self  # the engine sets `loader.dataset.epoch_seed` before each epoch

    def __len__(self) -> int:
        return -(-len(self.labels) // self.batch_size)

    def __iter__(self) -> Iterator[dict]:
        features = self.features(self.epoch_seed)
        for rows in torch.randperm(len(self.labels)).to(self.labels.device).split(self.batch_size):
            yield {"features": ImageFeatures(features[rows], None), "label": self.labels[rows]}


def batches_of(features: Tensor, labels: Tensor, size: int) -> Iterable[tuple[Tensor, Tensor]]:
    """Chunks of at most `size` rows of features (N, D) and labels (N,)."""
    return zip(features.split(size), labels.split(size), strict=True)
