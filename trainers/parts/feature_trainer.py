"""The base of methods that learn on image features: adapters and probes."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from dassl.data import build_data_loader
from features.encode import image_features
from features.loaders import FeatureLoader
from trainers.parts.clip_trainer import ClipTrainer


class FeatureTrainer(ClipTrainer):
    """A method that sees each training image once, as the test sees images, and learns on its feature.

    Such a method classifies the classes that it was trained on: there is no head for novel ones.
    """

    has_novel_head = False

    def feature_loader(self) -> FeatureLoader:
        return FeatureLoader(*self.training_set, self.cfg.DATALOADER.TRAIN_X.BATCH_SIZE)

    @cached_property
    def training_set(self) -> tuple[Tensor, Tensor]:
        """Features (N, D) and labels (N,) of the training images, resized and cropped as for the test."""
        items = self.dm.dataset.train_x
        if self.predicts_only:  # learned parameters replace what is made of them
            width = self.clip_model.embed_dim
            features = torch.full((len(items), width), width**-0.5)
            return features.to(self.device), torch.tensor([item.label for item in items], device=self.device)
        loader = build_data_loader(
            self.cfg,
            sampler_type="SequentialSampler",
            data_source=items,
            batch_size=self.cfg.DATALOADER.TEST.BATCH_SIZE,
            tfm=self.dm.tfm_test,
            is_train=False,
        )
        with self.phases("encode train images"):
            features = image_features(self.clip_model, loader, self.cache, "train")
        labels = torch.tensor([item.label for item in items])
        return features.to(self.device), labels.to(self.device)
