"""ProLIP: the image tower's projection is fine-tuned and held near its start (Fahes et al., arXiv 2410.05270)."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from ogkd.core import UserError
from ogkd.models import ImageFeatures
from ogkd.tuning.feature_method import FeatureMethod
from ogkd.tuning.options import Option, Options
from ogkd.tuning.registration import register
from ogkd.tuning.task import Task
from ogkd.tuning.templates import TEMPLATE, template_features


@register
class ProLIP(FeatureMethod):
    """Cross entropy + LAMBDA / K^POWER * ||W - W0||^2, where K is the number of training images per class.

    Features before the projection are cached. Each batch has all training images; no validation images are used. Only
    the projection's matrices are trained, not its biases.
    """

    title, paper, row = "ProLIP", "2410.05270", 76
    groups = ("weights", "new")
    has_novel_head = True
    projected = False
    compares_tokens = True
    draws_each_epoch = True
    options = Options(
        TEMPLATE=Option(TEMPLATE, "the hand-written prompt"),
        LAMBDA=Option(1.0, "weight of the distance to the pre-trained projection", least=0, tune=(0.001, 10.0)),
        POWER=Option(1.0, "power of the images per class that it is divided by; the paper: 1 or 2", least=0, most=10),
    )

    def build(self) -> None:
        self.text = template_features(self.clip_model, self.classnames, self.options.TEMPLATE, self.feature_cache)
        self.projection = copy.deepcopy(self.clip_model.image_projection).float()
        self.start = [matrix.clone() for matrix in self._matrices()]
        for matrix in self._matrices():
            matrix.requires_grad_(True)
        if not self.start:
            raise UserError(
                f"The image tower of {self.clip_model.name} has no projection for ProLIP to fine-tune: choose a model "
                f"with one, such as BiomedCLIP."
            )

    def _matrices(self) -> list[Tensor]:
        return [parameter for parameter in self.projection.parameters() if parameter.ndim > 1]

    def prepare(self, task: Task) -> None:
        super().prepare(task)
        per_class = len(task.train_labels) / len(self.classnames)
        self.hold = self.options.LAMBDA / per_class**self.options.POWER

    def classifier(self) -> Callable[[Tensor], Tensor]:
        return lambda tokens: self.scale * F.normalize(self.projection(tokens), dim=-1) @ self.text.t()

    def losses(self, inputs: ImageFeatures, label: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        logits = self.classifier()(inputs.global_token)
        moved = [(now - before).square().sum() for now, before in zip(self._matrices(), self.start, strict=True)]
        return {"ce": F.cross_entropy(logits, label), "distance": self.hold * sum(moved)}, logits
