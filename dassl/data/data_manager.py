"""Turns lists of images into loaders of batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from tabulate import tabulate
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import Compose, Normalize, Resize, ToTensor
from yacs.config import CfgNode

from ogkd.core.decoded import DECODED
from ogkd.core.opening import open_images
from ogkd.core.seeds import derived_seed, seeded
from ogkd.core.workers import Loader, worker_options

from .datasets import DatasetBase, Datum, build_dataset
from .samplers import build_sampler
from .transforms import INTERPOLATION_MODES, build_transform


class DatasetWrapper(Dataset):
    """A list of Datum as items {"img", "label", "domain", "impath", "index"}; further views are img1, img2 and so on.

    If `epoch_seed` is set, the transform of item i depends only on `epoch_seed` and i: not on earlier draws, nor on the
    worker process.
    """

    epoch_seed: int | None = None

    def __init__(
        self,
        cfg: CfgNode,
        data_source: Sequence[Datum],
        transform: Callable | Sequence[Callable] | None = None,
        is_train: bool = False,
    ) -> None:
        self.cfg, self.data_source, self.transform, self.is_train = cfg, data_source, transform, is_train
        self.k_tfm = cfg.DATALOADER.K_TRANSFORMS if is_train else 1
        self.return_img0 = cfg.DATALOADER.RETURN_IMG0
        if self.k_tfm > 1 and transform is None:
            raise ValueError(f"{self.k_tfm} views of an image need a transform")
        mode = INTERPOLATION_MODES[cfg.INPUT.INTERPOLATION]
        plain = [Resize(tuple(cfg.INPUT.SIZE), interpolation=mode), ToTensor()]
        if "normalize" in cfg.INPUT.TRANSFORMS:
            plain.append(Normalize(list(cfg.INPUT.PIXEL_MEAN), list(cfg.INPUT.PIXEL_STD)))
        self.to_tensor = Compose(plain)
        self._kept = False

    def __len__(self) -> int:
        return len(self.data_source)

    def before_pass(self) -> None:
        """Decode the images of a training set once for all epochs, and other images when they are read again."""
        if self._kept:
            return
        paths, share = [item.impath for item in self.data_source], self.cfg.DATALOADER.get("MEMORY_SHARE", 0)
        if self.is_train or DECODED.are_read_again(paths):
            self._kept = True
            if needed := DECODED.keep(paths, self.cfg.INPUT.FRAME, share):
                print(
                    f"Note: {len(paths):,} images take {needed / 1e9:.1f} GB when decoded, more than the share of "
                    f"the available memory in DATALOADER.MEMORY_SHARE ({share:g}): they are read from their files anew "
                    "in every epoch."
                )

    def __getitem__(self, index: int) -> dict:
        item = self.data_source[index]
        output = {"label": item.label, "domain": item.domain, "impath": item.impath, "index": index}
        image = self._read(item.impath)
        if self.epoch_seed is None:
            output |= self._views(image)
        else:
            with seeded(derived_seed(self.epoch_seed, index)):
                output |= self._views(image)
        if self.return_img0:
            output["img0"] = self.to_tensor(image)
        return output

    def _read(self, path: str) -> Image.Image:
        return DECODED.read(path, self.cfg.INPUT.FRAME)

    def _views(self, image: object) -> dict:
        if self.transform is None:
            return {"img": image}
        if isinstance(self.transform, (list, tuple)):
            return {f"img{i + 1 if i else ''}": self._transform_image(t, image) for i, t in enumerate(self.transform)}
        return {"img": self._transform_image(self.transform, image)}

    def _transform_image(self, tfm: Any, img0: object) -> object:
        """Return one view of an image, or a list of k views; subclasses written for Dassl call this name."""
        views = [tfm(img0) for _ in range(self.k_tfm)]
        return views[0] if len(views) == 1 else views


def build_data_loader(
    cfg: CfgNode,
    sampler_type: str = "SequentialSampler",
    data_source: Sequence[Datum] = (),
    batch_size: int = 64,
    n_domain: int = 0,
    n_ins: int = 2,
    tfm: Callable | Sequence[Callable] | None = None,
    is_train: bool = True,
    dataset_wrapper: type[DatasetWrapper] | None = None,
) -> DataLoader:
    """Build a loader of batches; in training a last, smaller batch is dropped unless it is the only one."""
    sampler = build_sampler(sampler_type, cfg, data_source, batch_size, n_domain, n_ins)
    dataset = (dataset_wrapper or DatasetWrapper)(cfg, data_source, transform=tfm, is_train=is_train)
    loader = Loader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        drop_last=is_train and len(data_source) >= batch_size,
        pin_memory=torch.cuda.is_available() and cfg.USE_CUDA,
        **worker_options(cfg, batch_size),
    )
    assert len(loader) > 0
    return loader


class DataManager:
    """A data set (by default the one that cfg names) with its transforms and loaders; the loader of an absent part is
    None.

    `opened` has the size, mode and number of frames of each image, and whether it is blank.
    Raises UserError, with a list, when images cannot be read.
    """

    def __init__(
        self,
        cfg: CfgNode,
        custom_tfm_train: Callable | None = None,
        custom_tfm_test: Callable | None = None,
        dataset_wrapper: type[DatasetWrapper] | None = None,
        dataset: DatasetBase | None = None,
    ) -> None:
        dataset = build_dataset(cfg) if dataset is None else dataset
        cache = cfg.get("FEATURES", {}).get("CACHE_DIR")
        self.opened = open_images(dataset.image_paths(), cfg.INPUT.FRAME, Path(cache) if cache else None)
        for name, custom in (("training", custom_tfm_train), ("testing", custom_tfm_test)):
            if custom is not None and cfg.VERBOSE:
                print(f"* Using custom transform for {name}")
        self.tfm_train = build_transform(cfg, is_train=True) if custom_tfm_train is None else custom_tfm_train
        self.tfm_test: Any = build_transform(cfg, is_train=False) if custom_tfm_test is None else custom_tfm_test

        def loader(options: CfgNode, source: Sequence[Datum], batch_size: int, is_train: bool) -> DataLoader:
            return build_data_loader(
                cfg,
                sampler_type=options.SAMPLER,
                data_source=source,
                batch_size=batch_size,
                n_domain=options.get("N_DOMAIN", 0),
                n_ins=options.get("N_INS", 2),
                tfm=self.tfm_train if is_train else self.tfm_test,
                is_train=is_train,
                dataset_wrapper=dataset_wrapper,
            )

        options = cfg.DATALOADER
        self.train_loader_x = loader(options.TRAIN_X, dataset.train_x, options.TRAIN_X.BATCH_SIZE, True)
        unlabelled = options.TRAIN_X if options.TRAIN_U.SAME_AS_X else options.TRAIN_U
        self.train_loader_u = (
            loader(unlabelled, dataset.train_u, unlabelled.BATCH_SIZE, True) if dataset.train_u else None
        )
        self.val_loader = loader(options.TEST, dataset.val, options.TEST.BATCH_SIZE, False) if dataset.val else None
        self.test_loader = (
            None if dataset.test is None else loader(options.TEST, dataset.test, options.TEST.BATCH_SIZE, False)
        )
        self._num_classes = dataset.num_classes
        self._num_source_domains = len(cfg.DATASET.SOURCE_DOMAINS)
        self._lab2cname = dataset.lab2cname
        self.dataset: DatasetBase = dataset
        if cfg.VERBOSE:
            self.show_dataset_summary(cfg)

    @property
    def num_classes(self) -> int:
        return self._num_classes

    @property
    def num_source_domains(self) -> int:
        return self._num_source_domains

    @property
    def lab2cname(self) -> dict[int, str]:
        return self._lab2cname

    def show_dataset_summary(self, cfg: CfgNode) -> None:
        """Print what the data set holds."""
        rows = [["Dataset", cfg.DATASET.NAME]]
        if cfg.DATASET.SOURCE_DOMAINS:
            rows.append(["Source", ", ".join(cfg.DATASET.SOURCE_DOMAINS)])
        if cfg.DATASET.TARGET_DOMAINS:
            rows.append(["Target", ", ".join(cfg.DATASET.TARGET_DOMAINS)])
        rows.append(["# classes", f"{self.num_classes:,}"])
        for name in ("train_x", "train_u", "val", "test"):
            items = getattr(self.dataset, name)
            if items:
                rows.append([f"# {name}", f"{len(items):,}"])
        print(tabulate(rows))
