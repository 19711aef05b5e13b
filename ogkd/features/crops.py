"""A fixed number of crops of each training image, drawn once per seed, encoded once and reused in every epoch."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from ogkd.core import UserError, progress
from ogkd.core.images import READING, read_image
from ogkd.core.memory import available_bytes
from ogkd.core.seeds import derived_seed, seeded
from ogkd.features.cache import FeatureCache
from ogkd.features.encode import encode_images
from ogkd.features.keys import image_hash, image_model_key, images_of
from ogkd.models import FrozenCLIP, ImageFeatures


class EncodedCrops(NamedTuple):
    """The n crops of one image: normalised global tokens (n, D) in fp32 and patch tokens (n, P, D) in fp16."""

    global_tokens: Tensor
    patch_tokens: Tensor


class CropStore:
    """Batches like those of EncodeAhead, from `count` crops of each image that are all encoded before the first batch.

    The seed and an image's content determine its crops. A cache entry holds the crops of one image, always with
    patches, so that methods, numbers of shots and repeated runs share it. The loader determines the order of images.
    Each of `count` successive epochs shows an image in a different crop. Their order depends on the seed, the image's
    index and how often all crops have been used, so a resumed run sees the same crops as an uninterrupted one.

    Patches stay in memory-mapped files, or in memory if nothing is kept on disk.
    """

    def __init__(
        self,
        loader: DataLoader,
        model: FrozenCLIP,
        patches: bool,
        images: int,
        cache: FeatureCache,
        *,
        count: int,
        seed: int,
        most_bytes: float,
        epoch: Callable[[], int],
    ) -> None:
        """`images`: images per pass of the image tower; `most_bytes`: limit on the size of all crops together;
        `epoch`: the current epoch, from 0."""
        self.loader, self.model, self.images, self.cache = loader, model, images, cache
        self.patches = patches and model.has_patches
        self.count, self.seed, self.most_bytes, self.epoch = count, seed, most_bytes, epoch
        self._crops: list[EncodedCrops] | None = None

    def __len__(self) -> int:
        return len(self.loader)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["loader"], name)

    def __iter__(self) -> Iterator[dict]:
        if self._crops is None:  # delayed until training starts, so that a run that only tests encodes none
            self._crops = self._encode_all()
        epoch, device = self.epoch(), self.model.device
        for rows in cast(Iterable, self.loader.batch_sampler):
            used = [(self._crops[row], self.crop_of(row, epoch)) for row in rows]
            global_tokens = torch.stack([crops.global_tokens[which] for crops, which in used])
            patch_tokens = None
            if self.patches:
                patch_tokens = torch.stack([crops.patch_tokens[which] for crops, which in used]).to(device).float()
            yield {
                "features": ImageFeatures(global_tokens.to(device), patch_tokens),
                "label": torch.tensor([images_of(self.loader).data_source[row].label for row in rows]),
                "index": torch.tensor(rows),
            }

    def crop_of(self, row: int, epoch: int) -> int:
        """Which of its crops image `row` is shown in during an epoch."""
        cycle, place = divmod(epoch, self.count)
        order = torch.Generator().manual_seed(derived_seed(self.seed, row, cycle))
        return int(torch.randperm(self.count, generator=order)[place])

    # Encoding

    def _encode_all(self) -> list[EncodedCrops]:
        paths = [item.impath for item in images_of(self.loader).data_source]
        with ThreadPoolExecutor(8) as pool:
            contents = list(pool.map(image_hash, paths))
        what = f"encode {self.count} crops of each image"
        images = progress(list(zip(paths, contents, strict=True)), what, unit="image")
        return [self._encoded(path, content, len(paths) - place) for place, (path, content) in enumerate(images)]

    def _encoded(self, path: str, content: str, left: int) -> EncodedCrops:
        """An image's crops from the cache, or encoded and then cached; `left` images, this one included, remain."""
        key = image_model_key(self.model) | {
            "image": content,
            "reading": READING,
            "frame": images_of(self.loader).cfg.INPUT.FRAME,
            "transform": str(images_of(self.loader).transform),
            "seed": self.seed,
            "crops": self.count,
            "batch": min(self.images, self.count),
        }
        made: list[EncodedCrops] = []

        def encoded() -> EncodedCrops:
            if not made:
                made.append(self._encode(path, content))
                self._check_size(made[0], left)
            return made[0]

        return EncodedCrops(
            self.cache.get(key | {"kind": "crops"}, lambda: encoded().global_tokens),
            self.cache.mapped(key | {"kind": "patches of crops"}, lambda: encoded().patch_tokens),
        )

    def _encode(self, path: str, content: str) -> EncodedCrops:
        """The crops of one image, encoded on their own so that no other image can change their last digits."""
        image, views = read_image(path, images_of(self.loader).cfg.INPUT.FRAME), []
        for number in range(self.count):
            with seeded(derived_seed(self.seed, number, int(content, 16))):
                views.append(cast(Callable, images_of(self.loader).transform)(image))
        passes = [encode_images(self.model, some, patches=True) for some in torch.stack(views).split(self.images)]
        return EncodedCrops(
            torch.cat([out.global_token for out in passes]).cpu(),
            torch.cat([_patches(out) for out in passes]).to(torch.float16).cpu(),
        )

    def _check_size(self, tokens: EncodedCrops, left: int) -> None:
        """Raise UserError if crops of this size exceed the limit for all images, or the free space for `left`."""
        each = sum(part.numel() * part.element_size() for part in tokens)
        n = len(images_of(self.loader).data_source)
        if n * each > self.most_bytes:
            raise UserError(
                f"FEATURES.CROPS {self.count} of {n:,} images take {n * each / 1e9:.2g} GB, more than the "
                f"{self.most_bytes / 1e9:.2g} GB of FEATURES.CROPS_GB: lower FEATURES.CROPS, raise that limit, or take "
                "new crops in each epoch (--settings published)."
            )
        free, where = _free_bytes(self.cache.folder)
        if left * each > free:
            raise UserError(
                f"FEATURES.CROPS {self.count} of {left:,} images take {left * each / 1e9:.2g} GB, but {where} has "
                f"{free / 1e9:.2g} GB left: lower FEATURES.CROPS, or free some space."
            )


def _patches(encoded: ImageFeatures) -> Tensor:
    """The patch tokens (n, P, D); none (n, 0, D) of a model without."""
    whole = encoded.global_token
    return whole.new_empty(len(whole), 0, whole.shape[1]) if encoded.patch_tokens is None else encoded.patch_tokens


def _free_bytes(folder: Path | None) -> tuple[float, str]:
    """Free space on the disk of `folder`, or in memory if it is None, as far as the system reports it; and its name."""
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        return shutil.disk_usage(folder).free, f"the disk of {folder}"
    return available_bytes(), "memory"
