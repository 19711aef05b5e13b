"""The base class of methods that learn from image features: adapters and probes."""

from __future__ import annotations

from collections.abc import Iterable

from ogkd.tuning.method import Method
from ogkd.tuning.task import Task


class FeatureMethod(Method):
    """A method that learns from the features of the training images.

    With FEATURES.TRAIN_VIEW plain it sees each image as it would be seen at test time. With augmented it sees random
    crops of at least half of the image, randomly flipped, as the published adapters and probes do: new ones in each
    epoch if `draws_each_epoch`, otherwise drawn once.

    Such a method classifies only the classes that it was trained on; it has no head for novel ones.
    """

    groups: tuple[str, ...] = ("adapter",)
    has_novel_head = False
    shares_crops = False  # it encodes its views once, or draws them as the published adapters do
    draws_each_epoch = False  # does it learn from new views of the images in each epoch?

    def train_loader(self, task: Task) -> Iterable[dict]:
        return task.feature_loader(self.draws_each_epoch)
