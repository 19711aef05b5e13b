"""Data sets whose classes are known apart from their training images; one given by a program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dassl.data.datasets import DatasetBase, Datum


class NamedClasses(DatasetBase):
    """A data set with these classes, also those without a training image; `parts` are Dassl's."""

    def __init__(self, names: Sequence[str], **parts: Any) -> None:
        self._names = list(names)
        super().__init__(**parts)

    def get_num_classes(self, data_source: Sequence[Datum]) -> int:  # type: ignore[override]  # Dassl's is static
        return len(self._names)

    def get_lab2cname(self, data_source: Sequence[Datum]) -> tuple[dict[int, str], list[str]]:  # type: ignore[override]
        return dict(enumerate(self._names)), list(self._names)


class GivenImages(NamedClasses):
    """Lists of images. The classes are `names`, by default those of the training images, of which each then has one.

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
        names: Sequence[str] = (),
    ) -> None:
        of_images = {item.label: item.classname for item in train}
        super().__init__(names or [of_images[label] for label in sorted(of_images)], train_x=train, val=val, test=test)
        self.all_classnames = self.classnames
        self.prompts_name, self.sentences = prompts_name, sentences
        self.tested: DatasetBase = self

    @classmethod
    def of_classes(cls, classnames: Sequence[str], labels: Sequence[int] | None = None, **more: Any) -> GivenImages:
        """Make a data set of classes without training images; `labels` are those of the images used for training."""
        labels = range(len(classnames)) if labels is None else labels
        train = [Datum.of_known(label=label, classname=classnames[label]) for label in labels]
        return cls(train, names=classnames, **more)
