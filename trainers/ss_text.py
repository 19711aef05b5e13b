"""SS-Text and SS-Text+: prototypes in closed form from the images and the text of each class (Silva-Rodriguez et al.,
IPMI 2025, arXiv 2506.06076, and MICCAI 2025, arXiv 2506.17500)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ogkd.tuning.options import Option, Options
from ogkd.tuning.prototype_method import PrototypeMethod, confidence
from ogkd.tuning.registration import register
from ogkd.tuning.task import Task
from ogkd.tuning.templates import TEMPLATE, template_features

WEIGHTS = ("total", "shots", "confidence")


def prototypes(
    features: Tensor, labels: Tensor, text: Tensor, scale: float, weights: str = "total", repel: bool = False
) -> Tensor:
    """Prototypes (C, D) of features (N, D), their labels (N,) and text features (C, D), all of length 1.

    m_c = t_c + s / (N lambda_c) * the sum of the features of class c, where lambda_c is 1/N for the weights "total",
    1/n_c with n_c images of the class for "shots", and their mean zero-shot probability of the class for "confidence".
    A class without images keeps its text. `repel`: then m_c loses the unit vector along 2 m_c - the mean of all m.
    """
    counts = labels.bincount(minlength=len(text)).to(features)
    if weights == "confidence":
        share = 1 / (len(labels) * confidence(scale * features @ text.t(), labels))
    else:
        share = torch.ones_like(counts) if weights == "total" else counts / len(labels)
    sums = F.one_hot(labels, len(text)).to(features).t() @ features
    means = share[:, None] * scale * sums + text
    return means - F.normalize(2 * means - means.mean(0), dim=-1) if repel else means


@register
class SSText(PrototypeMethod):
    """All images count alike, so a class with more of them lies further from its text.

    Nothing is trained; the fit counts as one epoch, and OPTIM does not apply.
    """

    title, paper, row = "SS-Text", "2506.06076", 74
    groups = ("training-free", "new")
    options = Options(
        TEMPLATE=Option(TEMPLATE, "the hand-written prompt"),
        WEIGHTS=Option("total", "what the weight of a class's images against its text depends on", choices=WEIGHTS),
        REPEL=Option(False, "move each prototype away from the mean of all by one text feature's length"),
    )

    def build(self) -> None:
        self.text = template_features(self.clip_model, self.classnames, self.options.TEMPLATE, self.feature_cache)
        self.register_buffer("prototypes", self.text.clone())

    def fit(self, task: Task) -> None:
        options, (features, labels) = self.options, task.training_set
        with task.phases("fit"):
            self.prototypes = prototypes(features, labels, self.text, self.scale, options.WEIGHTS, options.REPEL)


@register
class SSTextPlus(SSText):
    """The weight of a class's images grows with their number, and the prototypes repel each other."""

    title, paper, row = "SS-Text+", "2506.17500", 75
    options = SSText.options.but(WEIGHTS="shots", REPEL=True)
