"""How a method is built and trained in the tests of losses and updates: nothing else there knows it.

built = build("CoOp", tmp_path, classes, ...)
terms, logits = built.losses(features, label)
built.train(batches, epochs=3)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import timm
from PIL import Image
from torch import Tensor

from dassl.data.datasets import DatasetBase, Datum
from dassl.engine import TRAINER_REGISTRY
from ogkd import models
from ogkd.models import ImageFeatures
from ogkd.runs.config import build_config, method_config
from ogkd.runs.registry import register_everything, trainer_class
from ogkd.runs.spec import RunSpec
from ogkd.tuning import clip_trainer
from ogkd.tuning.method import Method
from ogkd.tuning.registration import trainer_of
from tests.support.toy_clip import ToyCLIP

BACKBONE = "PhantomCLIP"  # whose image size the toy model takes; its weights are not read
SPEC = models.image_spec(BACKBONE)


@contextmanager
def offered(*methods: type[Method]) -> Iterator[None]:
    """Methods that are registered inside the block alone."""
    register_everything()
    for method in methods:
        TRAINER_REGISTRY.register(trainer_of(method))
    try:
        yield
    finally:
        for method in methods:
            TRAINER_REGISTRY._obj_map.pop(method.__name__)


@contextmanager
def small_resnet() -> Iterator[None]:
    """In place of ResNet-18 a network with one block of few channels per stage, whose run takes a tenth of the time."""
    whole, narrow = timm.create_model, {"resnet18": {"layers": (1, 1, 1, 1), "channels": (8, 8, 8, 8)}}
    with mock.patch.object(timm, "create_model", lambda name, **more: whole(name, **more, **narrow.get(name, {}))):
        yield


class Built:
    """A method with its optimiser, as a run builds it, around a ToyCLIP."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer

    @property
    def method(self) -> Method:
        return self.trainer.method

    @property
    def learned(self) -> dict[str, Tensor]:
        """The learned parameters by their names in a checkpoint: the very tensors, not copies."""
        prefix = f"{self.method.folder}."
        return {name.removeprefix(prefix): value for name, value in self.method.named_parameters()}

    @property
    def state(self) -> dict[str, Tensor]:
        """What a checkpoint holds, by name."""
        return self.method.state_dict()

    def prepare(self) -> None:
        """Make what is made when training begins, such as the teacher."""
        self.method.prepare(self.trainer.task)

    def losses(self, inputs: ImageFeatures | Tensor, label: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """The terms and the logits of one batch, as in training."""
        self.method.train()
        return self.method.losses(inputs, label)

    def logits(self, features: Tensor) -> Tensor:
        """The logits (B, C) of normalised features (B, D), as when testing."""
        return self.method.classifier()(features)

    def train(self, batches: Sequence[tuple[ImageFeatures | Tensor, Tensor]]) -> None:
        """The whole training; every epoch has these batches, in this order."""
        name = "features" if self.method.frozen_images else "img"
        loader = [{name: inputs, "label": label} for inputs, label in batches]
        with mock.patch.object(type(self.method), "train_loader", lambda *_: loader):
            self.trainer.train()

    def images(self, part: str) -> tuple[Tensor, Tensor]:
        """Features (N, D) and labels (N,) of the images of the part "train", "val" or "test"."""
        return self.trainer.task.training_set if part == "train" else self.trainer.task.features_of(part)


def build(
    method: str,
    folder: Path,
    classes: Sequence[str],
    words: Mapping[str, Tensor] | None = None,
    sentences: Mapping[str, list[str]] | None = None,
    width: int = 6,
    scale: float = 10.0,
    images: Mapping[str, Sequence[int]] | None = None,
    **options: object,
) -> Built:
    """A method ready for its first step, with its published configuration for few-shot runs but for `options`.

    An option without a dot in its name is the method's own. `words` are the vectors of texts (see ToyCLIP), `sentences`
    the teacher's for each class, `images` the labels of noise images in the parts train, val and test.
    """
    images = images or {part: range(len(classes)) for part in ("train", "val", "test")}
    pairs = {"TEST.NO_TEST": True, "TEST.FINAL_MODEL": "last_step", "FEATURES.CACHE_DIR": "",
             "DATALOADER.NUM_WORKERS": 0, "USE_CUDA": False} | {
        name.replace("__", ".") if "__" in name else f"TRAINER.{method.upper()}.{name}": value
        for name, value in options.items()
    }  # fmt: skip
    spec = RunSpec(
        method=method,
        folder=str(folder / "run"),
        dataset="phantom",
        shots=1,
        seed=1,
        backbone=BACKBONE,
        data=str(folder),
        method_file=method_config(method, "few_shot", "phantom"),
        pairs=tuple(str(word) for pair in pairs.items() for word in pair),
    )
    model = ToyCLIP(words or {}, width, SPEC, scale)
    with mock.patch.object(clip_trainer, "load_backbone", lambda *_: model):
        trainer = trainer_class(method)(build_config(spec), dataset=noise(folder, classes, images, sentences))
    return Built(trainer)


class Noise(DatasetBase):
    """A data set with sentences for the teacher."""

    def __init__(self, sentences: Mapping[str, list[str]] | None, **parts: list[Datum]) -> None:
        super().__init__(**parts)
        self.sentences = sentences


def noise(
    folder: Path, classes: Sequence[str], labels: Mapping[str, Sequence[int]], sentences: Mapping[str, list[str]] | None
) -> DatasetBase:
    """A data set of small images of noise."""
    rng = np.random.default_rng(0)
    parts = {}
    for part, of_part in labels.items():
        items = []
        for n, label in enumerate(of_part):
            path = folder / f"{part}{n}.png"
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
            items.append(Datum(str(path), label, 0, classes[label]))
        parts["train_x" if part == "train" else part] = items
    return Noise(sentences, **parts)
