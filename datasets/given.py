"""A data set handed over by a program: images that are already chosen, or class names alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dassl.data.datasets import DatasetBase, Datum


class GivenImages(DatasetBase):
    """Lists of images; the training images name the classes, so each class needs one.

    For a trainer that only predicts, they need no files (`of_classes`). `sentences` are the teacher's by class name,
    in place of those of a file.
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

    @classmethod
    def of_classes(cls, classnames: Sequence[str], labels: Sequence[int] | None = None, **more: Any) -> GivenImages:
        """Classes without images; `labels` are those of the images that something was learned from."""
        labels = range(len(classnames)) if labels is None else labels
        return cls([Datum.of_known(label=label, classname=classnames[label]) for label in labels], **more)
