"""Global tokens of randomly augmented views of training images; one seed determines the views of an epoch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor
from yacs.config import CfgNode

from dassl.data.datasets import Datum
from dassl.data.transforms import build_transform
from ogkd.core.seeds import seeded
from ogkd.core.workers import Loader, worker_options
from ogkd.features.cache import FeatureCache
from ogkd.features.encode import encode_images
from ogkd.features.items import DatasetWrapper
from ogkd.features.keys import content_digest, image_key, images_of
from ogkd.models import FrozenCLIP

LEAST_AREA = 0.5  # share of the image that an augmented view keeps


def augmented(cfg: CfgNode, items: Sequence[Datum]) -> DatasetWrapper:
    """Images augmented as in the published adapters and probes: RandomResizedCrop(0.5 to 1) and horizontal flips,
    normalised according to cfg.INPUT."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.INPUT.RRCROP_SCALE = (LEAST_AREA, 1.0)
    normalisation = [name for name in cfg.INPUT.TRANSFORMS if name in ("normalize", "instance_norm")]
    transform = build_transform(cfg, is_train=True, choices=["random_resized_crop", "random_flip", *normalisation])
    return DatasetWrapper(cfg, items, transform=transform, is_train=True)


class Views:
    """One view of each image of a data set: views(seed) returns their global tokens (N, D) of `encode_images`.

    The same seed draws the same views, and their features are cached for every method that draws them. Without a seed
    the views depend on the random state and are not cached.
    """

    def __init__(
        self, dataset: DatasetWrapper, model: FrozenCLIP, cache: FeatureCache, images: int, projected: bool = True
    ) -> None:
        """`images`: images per pass of the image tower."""
        self.model, self.cache, self.projected = model, cache, projected
        options = worker_options(dataset.cfg, images)
        self.loader = Loader(dataset, images, pin_memory=model.device.type == "cuda", **options)

    def __call__(self, seed: int | None) -> Tensor:
        images_of(self.loader).epoch_seed = seed
        if seed is None:
            return self._encode()
        key = image_key(self.model, self.loader, self._content, self.projected) | {"kind": "crops", "epoch": seed}
        with seeded(seed):  # iterating over a loader draws a random number, reading the cache does not
            return self.cache.get(key, self._encode).to(self.model.device)

    @cached_property
    def _content(self) -> str:
        return content_digest(self.loader)

    def _encode(self) -> Tensor:
        batches = (encode_images(self.model, batch["img"], projected=self.projected) for batch in self.loader)
        return torch.cat([batch.global_token for batch in batches])
