"""A data set given by a program: images that are already chosen, or only class names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dassl.data.datasets import DatasetBase, Datum


class GivenImages(DatasetBase):
    """Lists of images. The classes are those of the training images, so each class needs at least one.

    A trainer that only predicts needs no image files (`of_classes`). `sentences` are the teacher's sentences by class
    name, which replace those of a file. `tested` is the data set that the test images are from, by default this one.
    """

    def __init__(
        self,
        train: list[Datum],
        val: list[Datum] | None = None,
        test: list[Datum] | None = None,
        prompts_name: str = "",
        sentences: Mapping[str, list[str]] | None = None,
    ) -> None:
        super().__init__(train_x=train, val=val, test=test)
        self.all_classnames = self.classnames
        self.prompts_name, self.sentences = prompts_name, sentences
        self.tested: DatasetBase = self

    @classmethod
    def of_classes(cls, classnames: Sequence[str], labels: Sequence[int] | None = None, **more: Any) -> GivenImages:
        """Make a data set of classes without training images; `labels` are those of the images used for training."""
        labels = range(len(classnames)) if labels is None else labels
        return cls([Datum.of_known(label=label, classname=classnames[label]) for label in labels], **more)
