"""What a method is trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader
from yacs.config import CfgNode

from dassl.data.data_manager import build_data_loader
from dassl.data.datasets import Datum
from ogkd.core import UserError
from ogkd.core.phases import Phases
from ogkd.core.seeds import derived_seed
from ogkd.features.cache import FeatureCache
from ogkd.features.crops import CropStore
from ogkd.features.encode import image_features, images_at_once
from ogkd.features.keys import images_of
from ogkd.features.loaders import EncodeAhead, FeatureLoader
from ogkd.features.views import Views, augmented
from ogkd.models import FrozenCLIP
from ogkd.tuning.method import Method, Sentences
from ogkd.tuning.teacher import Teacher, sentences_of


class Task:
    """The images of a run and the loaders over them, for `Method.prepare`, `train_loader`, `fit` and `finish`.

    cfg: the run's configuration. manager: Dassl's DataManager. epoch: returns the current epoch, from 0.
    phases: `with task.phases("fit"):` adds a part to the times that a run reports. projected: see `Method.projected`;
    without, features (N, D) are tokens of width vision_width, not normalised.
    """

    def __init__(
        self,
        cfg: CfgNode,
        manager: Any,
        model: FrozenCLIP,
        cache: FeatureCache,
        phases: Phases,
        epoch: Callable[[], int],
        section: str,
        projected: bool = True,
    ) -> None:
        self.cfg, self.manager, self.model, self.cache, self.phases = cfg, manager, model, cache, phases
        self.epoch, self.section, self.projected = epoch, section, projected
        self.chosen: list[str] = []  # what was chosen on validation images

    @property
    def dataset(self) -> Any:
        return self.manager.dataset

    @property
    def dataset_name(self) -> str:
        """The name under which facts about the classes are stored."""
        return dataset_name(self.cfg)

    @property
    def held_out(self) -> list[str]:
        """The names of the data set's classes that are not trained on."""
        return [n for n in getattr(self.dataset, "all_classnames", ()) if n not in self.dataset.classnames]

    @property
    def device(self) -> torch.device:
        return self.model.device

    def teacher(self, method: Method, classnames: list[str] | None = None, options: CfgNode | None = None) -> Teacher:
        """The teacher that a method's options select, or those of OGKD, by default for the classes that are trained on.

        Raises:
            UserError: a class has no prompts, two have the same, or the source of prompts is unknown.
        """
        with self.phases("encode teacher prompts"):
            return Teacher.of(method, classnames or method.classnames, self._sentences(options) if options else None)

    def _sentences(self, options: CfgNode) -> Sentences:
        return lambda classnames: sentences_of(self.dataset, classnames, options, self.cfg.DATASET.NAME, "OGKD")

    # Batches

    @property
    def image_loader(self) -> DataLoader:
        """Batches of images, as the configuration's transforms make them."""
        return self.manager.train_loader_x

    @cached_property
    def _images_at_once(self) -> int:
        return self.cfg.FEATURES.IMAGES_AT_ONCE or images_at_once(self.device)

    def encoded_ahead(self, patches: bool = False) -> EncodeAhead | CropStore:
        """The batches of `image_loader` with `features` instead of `img`."""
        features = self.cfg.FEATURES
        common = self.image_loader, self.model, patches, self._images_at_once, self.cache
        if not features.CROPS:
            return EncodeAhead(*common)
        return CropStore(
            *common,
            count=features.CROPS,
            seed=self.cfg.SEED,
            most_bytes=features.CROPS_GB * 1e9,
            epoch=self.epoch,
        )

    def feature_loader(self, draw_each_epoch: bool = False, draws: int = 1) -> FeatureLoader:
        """Batches of the training images' features, which with FEATURES.TRAIN_VIEW augmented are drawn once (`draws`
        views of each image, each a sample), or again in each epoch."""
        size = self.cfg.DATALOADER.TRAIN_X.BATCH_SIZE
        if self.augments and draw_each_epoch:
            return FeatureLoader(self.views, self.train_labels, size)
        # Here, since encoding inside an epoch would consume its random numbers.
        once, labels = self.training_set if draws == 1 else self.samples(draws)
        return FeatureLoader(lambda _seed: once, labels, size)

    # Features of all images of a part

    @property
    def augments(self) -> bool:
        """Whether FEATURES.TRAIN_VIEW asks for augmented views."""
        return self.cfg.FEATURES.TRAIN_VIEW == "augmented"

    @cached_property
    def train_labels(self) -> Tensor:
        """Labels (N,) of the training images, on the model's device."""
        return torch.tensor([item.label for item in self.dataset.train_x], device=self.device)

    @cached_property
    def views(self) -> Views:
        """Augmented views of the training images."""
        dataset = augmented(self.cfg, self.dataset.train_x)
        return Views(dataset, self.model, self.cache, self._images_at_once, self.projected)

    def train_features(self, draws: int = 1) -> Tensor:
        """Features (N, D) of the training images: of the plain view, or the normalised mean of augmented ones."""
        views = self.train_views(draws)
        return F.normalize(views.mean(0), dim=-1) if self.augments else views[0]

    def samples(self, draws: int = 1) -> tuple[Tensor, Tensor]:
        """Features (V N, D) and labels (V N,) of the training images, each of the V views of `train_views` a sample."""
        views = self.train_views(draws)
        return views.flatten(0, 1), self.train_labels.repeat(len(views))

    def train_views(self, draws: int = 1) -> Tensor:
        """Features (V, N, D) of the training images, each view apart: V = `draws` augmented ones, or the plain one.

        The seeds of augmented views are those of epochs before the first, so no epoch sees the same views.
        """
        with self.phases("encode train images"):
            if not self.augments:
                return self._plain_features()[None]
            seed = self.cfg.SEED
            seeds = [derived_seed(seed, -1 - draw) if seed >= 0 else None for draw in range(draws)]
            return torch.stack([self.views(seed) for seed in seeds])

    def _plain_features(self) -> Tensor:
        loader = self._in_order(self.dataset.train_x)
        return image_features(self.model, loader, self.cache, "train", self.projected).to(self.device)

    def _in_order(self, items: Sequence[Datum]) -> DataLoader:
        return build_data_loader(
            self.cfg,
            sampler_type="SequentialSampler",
            data_source=items,
            batch_size=self.cfg.DATALOADER.TEST.BATCH_SIZE,
            tfm=self.manager.tfm_test,
            is_train=False,
        )

    @cached_property
    def training_set(self) -> tuple[Tensor, Tensor]:
        """Features (N, D) and labels (N,) of the training images, drawn once."""
        return self.train_features(), self.train_labels

    @cached_property
    def validation_set(self) -> tuple[Tensor, Tensor]:
        """Features (N, D) and labels (N,) of the validation images."""
        return self.features_of("val")

    def loader_of(self, split: str) -> DataLoader:
        """Batches of the images of "val", "test" or "calibration" (see BiomedicalDataset) in order."""
        if split == "calibration":
            return self._in_order(self.dataset.calibration)
        return cast(DataLoader, self.manager.val_loader if split == "val" else self.manager.test_loader)

    def features_of(self, split: str) -> tuple[Tensor, Tensor]:
        """Features (N, D), on the model's device, and labels (N,) of the images of a split, see `loader_of`."""
        loader = self.loader_of(split)
        with self.phases(f"encode {split} images"):
            features = image_features(self.model, loader, self.cache, split, self.projected)
        labels = torch.tensor([item.label for item in images_of(loader).data_source])
        return features.to(self.device), labels.to(self.device)

    def require_validation(self, choice: str, remedy: str) -> None:
        """Note that `choice` is made on validation images. Raises UserError if there are none."""
        if self.manager.val_loader is None:
            raise UserError(f"There are no validation images to choose {choice} by: {remedy}.")
        self.chosen.append(choice)


def dataset_name(cfg: CfgNode) -> str:
    """The name under which facts about a data set's classes are stored: its folder's, or its own."""
    return Path(cfg.DATASET.get("FOLDER", "")).name or cfg.DATASET.NAME
