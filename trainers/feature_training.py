"""Training on cached features: for methods that change nothing before the image feature."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from clip import ImageFeatures
from dassl.data import build_data_loader
from trainers.base import FrozenFeatureTrainer
from trainers.features import image_features


class FeatureLoader:
    """Shuffled batches {"features", "label"} of features (N, D) and labels (N,), by PyTorch's random state."""

    def __init__(self, features: Tensor, labels: Tensor, batch_size: int) -> None:
        self.dataset = TensorDataset(features, labels)
        self.batch_size = batch_size

    def __len__(self) -> int:
        return -(-len(self.dataset) // self.batch_size)

    def __iter__(self) -> Iterator[dict]:
        features, labels = self.dataset.tensors
        for rows in torch.randperm(len(labels)).to(labels.device).split(self.batch_size):
            yield {"features": ImageFeatures(features[rows], None), "label": labels[rows]}


class FeatureTrainer(FrozenFeatureTrainer):
    """A method that sees each training image once, as the test sees images, and learns on its feature.

    Such a method classifies the classes that it was trained on: there is no head for novel ones.
    """

    has_novel_head = False

    def build_model(self) -> None:
        super().build_model()
        self.train_loader_x = FeatureLoader(*self.training_set, self.cfg.DATALOADER.TRAIN_X.BATCH_SIZE)

    @cached_property
    def training_set(self) -> tuple[Tensor, Tensor]:
        """Features (N, D) and labels (N,) of the training images, resized and cropped as for the test."""
        items = self.dm.dataset.train_x
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
