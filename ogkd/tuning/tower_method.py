"""The base classes of methods that change both towers."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler
from torch.utils.data import DataLoader
from yacs.config import CfgNode

from ogkd.core import UserError
from ogkd.models import FrozenCLIP, ImageFeatures
from ogkd.models.hooks import Deep
from ogkd.tuning.edits import Edits, block_layers
from ogkd.tuning.method import Method
from ogkd.tuning.options import Option, Options
from ogkd.tuning.task import Task
from ogkd.tuning.templates import TEMPLATE, sentences_in

LEAST_RATE = 1e-6  # the learning rate at the cosine's end, in the methods' public code


class TowerMethod(Method):
    """Classifies by the features of a template's sentences, with both towers changed.

    Every step encodes its images and the sentences of all classes. The learning rate is a cosine over all steps, which
    ends at `LEAST_RATE`. A subclass says in `text_features` and `encode` how the towers are changed.
    """

    groups: tuple[str, ...] = ("weights", "new")
    frozen_images = False
    compares_tokens = True
    schedule_by_step = True
    options = Options(
        TEMPLATE=Option(TEMPLATE, "the hand-written prompt"),
        TEXT_DROPOUT=Option(0.0, "dropout rate of the text tower in training", least=0, below=1),
        PREC=Option("amp", "amp: bfloat16 where it is safe, on a GPU", choices=("amp", "fp32")),
    )

    def build(self) -> None:
        model = self.clip_model
        inside = block_layers(model)
        for tower in ("image", "text"):
            if not any(name.startswith(f"{tower}_tower.") for name in inside):
                raise UserError(
                    f"The {tower} tower of {model.name} has no attention layers for {self.title} to change: choose a "
                    f"model with two transformers, such as BiomedCLIP."
                )
        self.tokens = model.tokenize(sentences_in(self.options.TEMPLATE, model, self.classnames))
        self.mixed = self.options.PREC == "amp" and self.device.type == "cuda"

    def train_loader(self, task: Task) -> DataLoader:
        loader = task.image_loader
        loader.batch_sampler.drop_last = False  # type: ignore[union-attr]  # a smaller last batch counts, as published
        return loader

    def text_features(self) -> Tensor:
        """Normalised text features (C, D)."""
        raise NotImplementedError

    def texts_by(self, model: FrozenCLIP, deep: Deep | None = None) -> Tensor:
        """Normalised features (C, D) of the classes' sentences by a model, with dropout in training."""
        dropout = self.options.TEXT_DROPOUT if self.training else 0.0
        embedded = self.clip_model.embed(self.tokens.ids)
        return F.normalize(model.encode_text(embedded, self.tokens.mask, deep, dropout=dropout), dim=-1)

    def images_by(self, model: FrozenCLIP, images: Tensor, patches: bool, deep: Deep | None = None) -> ImageFeatures:
        """Normalised tokens of images by a model."""
        return model.encode_image(images.to(self.device), patches, deep).normalised()

    def losses(self, inputs: Tensor, label: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed):
            text, image = self.text_features(), self.encode(inputs).global_token
        logits = self.scale * image.float() @ text.float().t()
        return {"ce": F.cross_entropy(logits, label)}, logits

    def optimiser(self, optim: CfgNode, steps: int) -> tuple[Optimizer, LRScheduler | None]:
        optimiser, schedule = super().optimiser(optim, steps)
        cosine = cosine_in(schedule)
        if cosine is not None:
            cosine.eta_min = LEAST_RATE
        return optimiser, schedule

    def classifier(self) -> Callable[[Tensor], Tensor]:
        self.eval()
        weights = self.scale * self.text_features().t()
        return lambda features: features @ weights


class EditMethod(TowerMethod):
    """Learns edits of the towers' weights, which a subclass says in `make_edits`."""

    folder = "edits"
    edits: Edits

    def build(self) -> None:
        super().build()
        self.edits = self.make_edits()
        self._changed = (self.edits.applied(self.clip_model),)

    def make_edits(self) -> Edits:
        """What is learned."""
        raise NotImplementedError

    @property
    def changed(self) -> FrozenCLIP:
        """The model with its edits."""
        return self._changed[0]

    def text_features(self) -> Tensor:
        return self.texts_by(self.changed)

    def encode(self, images: Tensor, patches: bool = False) -> ImageFeatures:
        return self.images_by(self.changed, images, patches)

    def backward(self, terms: dict[str, Tensor]) -> None:
        super().backward(terms)
        unused = next((name for name, value in self.named_parameters() if value.grad is None), "")
        if unused:
            name = unused.removeprefix(f"{self.folder}.of.").replace("/", ".")
            raise UserError(
                f"{self.title} cannot change {name} of {self.clip_model.name}, whose layers do not "
                f"use it in a usual way: choose another model."
            )


def cosine_in(schedule: LRScheduler | None) -> CosineAnnealingLR | None:
    """The cosine of a schedule, also after a warm-up; None if it has another form."""
    schedule = getattr(schedule, "successor", schedule)
    return schedule if isinstance(schedule, CosineAnnealingLR) else None
