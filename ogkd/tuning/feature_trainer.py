"""The base class of methods that learn from image features: adapters and probes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from dassl.data.data_manager import build_data_loader
from ogkd.core import UserError
from ogkd.core.seeds import derived_seed
from ogkd.features.encode import image_features, images_at_once
from ogkd.features.loaders import FeatureLoader
from ogkd.features.views import Views, augmented
from ogkd.tuning.clip_trainer import ClipTrainer


class FeatureTrainer(ClipTrainer):
    """A method that learns from the features of the training images.

    With FEATURES.TRAIN_VIEW plain it sees each image as it would be seen at test time. With augmented it sees random
    crops of at least half of the image, randomly flipped, as the published adapters and probes do: new ones in each
    epoch if `draws_each_epoch`, otherwise drawn once.

    Such a method classifies only the classes that it was trained on; it has no head for novel ones.
    """

    has_novel_head = False
    shares_crops = False  # it encodes its views once, or draws them as the published adapters do
    draws_each_epoch = False  # does it learn from new views of the images in each epoch?

    @property
    def augments(self) -> bool:
        return self.cfg.FEATURES.TRAIN_VIEW == "augmented"

    # Training features

    @cached_property
    def train_labels(self) -> Tensor:
        """Labels (N,) of the training images, on the model's device."""
        return torch.tensor([item.label for item in self.dm.dataset.train_x], device=self.device)

    @cached_property
    def views(self) -> Views:
        """Augmented views of the training images."""
        images = self.cfg.FEATURES.IMAGES_AT_ONCE or images_at_once(self.clip_model.device)
        dataset = augmented(self.cfg, self.dm.dataset.train_x)
        return Views(dataset, self.clip_model, self.cache, images)

    def train_features(self, draws: int = 1) -> Tensor:
        """Features (N, D) of the training images: of the plain view, or the normalised mean of augmented ones.

        Their seeds are those of epochs before the first, so no epoch sees the same views.
        """
        if self.predicts_only:  # learned parameters will replace whatever is built from them
            width = self.clip_model.embed_dim
            return torch.full((len(self.train_labels), width), width**-0.5, device=self.device)
        with self.phases("encode train images"):
            if not self.augments:
                return self._plain_features()
            seed = self.cfg.SEED
            seeds = [derived_seed(seed, -1 - draw) if seed >= 0 else None for draw in range(draws)]
            return F.normalize(torch.stack([self.views(seed) for seed in seeds]).mean(0), dim=-1)

    def _plain_features(self) -> Tensor:
        loader = build_data_loader(
            self.cfg,
            sampler_type="SequentialSampler",
            data_source=self.dm.dataset.train_x,
            batch_size=self.cfg.DATALOADER.TEST.BATCH_SIZE,
            tfm=self.dm.tfm_test,
            is_train=False,
        )
        return image_features(self.clip_model, loader, self.cache, "train").to(self.device)

    @cached_property
    def training_set(self) -> tuple[Tensor, Tensor]:
        """Features (N, D) and labels (N,) of the training images, drawn once."""
        return self.train_features(), self.train_labels

    def feature_loader(self) -> FeatureLoader:
        return FeatureLoader(self._of_epoch(), self.train_labels, self.cfg.DATALOADER.TRAIN_X.BATCH_SIZE)

    def _of_epoch(self) -> Callable[[int | None], Tensor]:
        if self.augments and self.draws_each_epoch:
            return self.views
        features = self.training_set[0]  # here, since encoding inside an epoch would consume its random numbers
        return lambda _seed: features

    # Validation features

    @cached_property
    def validation_set(self) -> tuple[Tensor, Tensor]:
        """Features (N, D) and labels (N,) of the validation images."""
        return super().split_features("val")

    def split_features(self, split: str) -> tuple[Tensor, Tensor]:
        return self.validation_set if split == "val" else super().split_features(split)

    def require_validation(self, choice: str, remedy: str) -> None:
        """Raise UserError if there are no validation images to select on."""
        if self.val_loader is None:
            raise UserError(f"There are no validation images to choose {choice} by: {remedy}.")

    def before_train(self) -> None:
        if self.cfg.TEST.FINAL_MODEL == "best_val":
            self.require_validation("the best epoch", "add TEST.FINAL_MODEL last_step")
        super().before_train()
