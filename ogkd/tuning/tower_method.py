"""The base class of methods that edit the weights of both towers."""

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
from ogkd.tuning.edits import Edits, block_layers
from ogkd.tuning.method import Method
from ogkd.tuning.options import Option, Options
from ogkd.tuning.task import Task
from ogkd.tuning.templates import TEMPLATE, sentences_in

LEAST_RATE = 1e-6  # the learning rate at the cosine's end, in the methods' public code


class TowerMethod(Method):
    """Classifies by the features of a template's sentences, with both towers changed by `self.edits`.

    Every step encodes its images and the sentences of all classes. The learning rate is a cosine over all steps, which
    ends at `LEAST_RATE`. A subclass says in `make_edits` what it learns.
    """

    groups: tuple[str, ...] = ("weights", "new")
    folder = "edits"
    frozen_images = False
    compares_tokens = True
    schedule_by_step = True
    options = Options(
        TEMPLATE=Option(TEMPLATE, "the hand-written prompt"),
        TEXT_DROPOUT=Option(0.0, "dropout rate of the text tower in training", least=0, below=1),
        PREC=Option("amp", "amp: bfloat16 where it is safe, on a GPU", choices=("amp", "fp32")),
    )
    edits: Edits

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
        self.edits = self.make_edits()
        self._changed = (self.edits.applied(model),)
        self.mixed = self.options.PREC == "amp" and self.device.type == "cuda"

    def make_edits(self) -> Edits:
        """What is learned."""
        raise NotImplementedError

    @property
    def changed(self) -> FrozenCLIP:
        """The model with its edits."""
        return self._changed[0]

    def train_loader(self, task: Task) -> DataLoader:
        loader = task.image_loader
        loader.batch_sampler.drop_last = False  # type: ignore[union-attr]  # a smaller last batch counts, as published
        return loader

    def text_features(self) -> Tensor:
        """Normalised text features (C, D)."""
        dropout = self.options.TEXT_DROPOUT if self.training else 0.0
        embedded = self.clip_model.embed(self.tokens.ids)
        return F.normalize(self.changed.encode_text(embedded, self.tokens.mask, dropout=dropout), dim=-1)

    def encode(self, images: Tensor, patches: bool = False) -> ImageFeatures:
        """Normalised tokens of images by the changed tower."""
        out = self.changed.encode_image(images.to(self.device), patches)
        tokens = out.patch_tokens
        return ImageFeatures(
            F.normalize(out.global_token, dim=-1), None if tokens is None else F.normalize(tokens, dim=-1)
        )

    def losses(self, inputs: Tensor, label: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed):
            text, image = self.text_features(), self.encode(inputs).global_token
        logits = self.scale * image.float() @ text.float().t()
        return {"ce": F.cross_entropy(logits, label)}, logits

    def backward(self, terms: dict[str, Tensor]) -> None:
        super().backward(terms)
        unused = next((name for name, value in self.named_parameters() if value.grad is None), "")
        if unused:
            raise UserError(
                f"{self.title} cannot change {unused.replace('/', '.')} of {self.clip_model.name}, whose layers do not "
                f"use it in a usual way: choose another model."
            )

    def optimiser(self, optim: CfgNode, steps: int) -> tuple[Optimizer, LRScheduler | None]:
        optimiser, schedule = super().optimiser(optim, steps)
        cosine = getattr(schedule, "successor", schedule)
        if isinstance(cosine, CosineAnnealingLR):
            cosine.eta_min = LEAST_RATE
        return optimiser, schedule

    def classifier(self) -> Callable[[Tensor], Tensor]:
        self.eval()
        weights = self.scale * self.text_features().t()
        return lambda features: features @ weights
