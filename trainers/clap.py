"""ZS-LP and CLAP: a linear probe that starts as the zero-shot classifier, and one that is also held near it, by class
(Silva-Rodriguez et al., CVPR 2024, arXiv 2312.12730)."""

from __future__ import annotations

from collections.abc import Iterable

import torch.nn.functional as F
from torch import Tensor, nn

from ogkd.models import ImageFeatures
from ogkd.tuning.options import Option, Options
from ogkd.tuning.prototype_method import PrototypeMethod, confidence
from ogkd.tuning.registration import register
from ogkd.tuning.task import Task
from ogkd.tuning.templates import TEMPLATE, template_features


@register
class ZSLP(PrototypeMethod):
    """Cross entropy of the cosines to prototypes, which start from the text features of the class names.

    The prototypes' lengths do not change the classifier, but the shorter they are, the larger the steps.
    """

    title, paper, row = "ZS-LP", "2312.12730", 72
    groups = ("adapter", "new")
    options = Options(
        TEMPLATE=Option(TEMPLATE, "the hand-written prompt"),
        NORMALIZE=Option(False, "the text features that the prototypes start from have length 1"),
        VIEWS=Option(20, "views of each image, with FEATURES.TRAIN_VIEW augmented", least=1, most=1000),
    )

    def build(self) -> None:
        self.text = template_features(
            self.clip_model, self.classnames, self.options.TEMPLATE, self.feature_cache, self.options.NORMALIZE
        )
        self.prototypes = nn.Parameter(self.text.clone())

    def train_loader(self, task: Task) -> Iterable[dict]:
        return task.feature_loader(draws=self.options.VIEWS)

    def losses(self, inputs: ImageFeatures, label: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        logits = self.classifier()(inputs.global_token)
        return {"ce": F.cross_entropy(logits, label)}, logits


@register
class CLAP(ZSLP):
    """Cross entropy + the mean over classes of lambda_c ||w_c - t_c||^2: lambda_c is the mean zero-shot probability of
    the true class over the training images of class c."""

    title, paper, row = "CLAP", "2312.12730", 73

    def prepare(self, task: Task) -> None:
        super().prepare(task)
        samples, labels = task.samples(self.options.VIEWS)
        self.hold = confidence(self.scale * samples @ F.normalize(self.text, dim=-1).t(), labels)

    def losses(self, inputs: ImageFeatures, label: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        terms, logits = super().losses(inputs, label)
        distance = (self.prototypes - self.text).square().sum(-1)
        return terms | {"clap": (self.hold * distance).mean()}, logits
