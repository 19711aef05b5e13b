"""SS-Text and SS-Text+: prototypes in closed form from the images and the text of each class (Silva-Rodriguez et al.,
IPMI 2025, arXiv 2506.06076, and MICCAI 2025, arXiv 2506.17500), with full conformal prediction (the first of these)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from yacs.config import CfgNode

from ogkd.core import UserError
from ogkd.tuning.options import Option, Options
from ogkd.tuning.prototype_method import PrototypeMethod, confidence
from ogkd.tuning.registration import register
from ogkd.tuning.task import Task
from ogkd.tuning.templates import TEMPLATE, template_features

WEIGHTS = ("total", "shots", "confidence")
LEAST_CONFIDENCE = 1e-3
AT_ONCE = 2**24  # numbers of the features of fits that are computed together


def prototypes(
    features: Tensor, labels: Tensor, text: Tensor, scale: float, weights: str = "total", repel: bool = False
) -> Tensor:
    """Prototypes (C, D) of features (N, D), their labels (N,) and text features (C, D), all of length 1.

    m_c = t_c + s / (N lambda_c) * the sum of the features of class c, where lambda_c is 1/N for the weights "total",
    1/n_c with n_c images of the class for "shots", and their mean zero-shot probability of the class, at least 0.001,
    for "confidence". A class without images keeps its text. `repel`: then m_c loses the unit vector along 2 m_c - the
    mean of all m.
    """
    counts = labels.bincount(minlength=len(text)).to(features)
    if weights == "confidence":
        known = confidence(scale * features @ text.t(), labels).clamp_min(LEAST_CONFIDENCE)
        share = 1 / (len(labels) * known)
    else:
        share = torch.ones_like(counts) if weights == "total" else counts / len(labels)
    sums = F.one_hot(labels, len(text)).to(features).t() @ features
    means = share[:, None] * scale * sums + text
    return means - F.normalize(2 * means - means.mean(0), dim=-1) if repel else means


def p_values(
    features: Tensor, labels: Tensor, text: Tensor, scale: float, tested: Tensor, weights: str, repel: bool
) -> tuple[Tensor, Tensor]:
    """How well each class fits each image of `tested` (B, D), by full conformal prediction: (B, C) for all images
    together, and (B, C) per class. A class is in the set of coverage 1 - alpha if its value is above alpha.

    For each image and class, prototypes are fitted to the training images and this image with this label. The value is
    the share of these images, or of those with this label, that fit their label no better than this one, where the fit
    is the probability of the label. So training images and this one are treated alike, and no others are needed. Exact:
    one fit for each image and class. The other arguments are those of `prototypes`.
    """
    number = len(labels)
    every, own = features.new_empty(2, len(tested), len(text))
    for label in range(len(text)):
        known = torch.cat([labels, labels.new_tensor([label])])

        def likelihoods(image: Tensor, known: Tensor = known) -> Tensor:
            """Log-probability of its label for each training image and then for this one, (N + 1,)."""
            seen = torch.cat([features, image[None]])
            means = F.normalize(prototypes(seen, known, text, scale, weights, repel), dim=-1)
            return (scale * seen @ means.t()).log_softmax(-1).gather(1, known[:, None]).squeeze(1)

        fits = torch.func.vmap(likelihoods, chunk_size=max(1, AT_ONCE // features.numel()))(tested)
        no_better = fits <= fits[:, -1:]
        every[:, label] = no_better.sum(1) / (number + 1)
        alike = known == label
        own[:, label] = (no_better & alike).sum(1) / alike.sum()
    return every, own


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
        FULL_CONFORMAL=Option(False, "store p values of each test image and class, for prediction sets"),
    )

    def build(self) -> None:
        self.text = template_features(self.clip_model, self.classnames, self.options.TEMPLATE, self.feature_cache)
        self.register_buffer("prototypes", self.text.clone())

    def fit(self, task: Task) -> None:
        options, (features, labels) = self.options, task.training_set
        with task.phases("fit"):
            self.prototypes = prototypes(features, labels, self.text, self.scale, options.WEIGHTS, options.REPEL)

    def p_values(self, task: Task, tested: Tensor) -> tuple[Tensor, Tensor]:
        """Those of the features of test images (B, D), see `p_values`."""
        options, (features, labels) = self.options, task.training_set
        with task.phases("full conformal"):
            return p_values(features, labels, self.text, self.scale, tested, options.WEIGHTS, options.REPEL)

    @classmethod
    def check_cfg(cls, cfg: CfgNode) -> None:
        super().check_cfg(cfg)
        if cfg.TRAINER[cls.__name__.upper()].FULL_CONFORMAL and cfg.FEATURES.TRAIN_VIEW != "plain":
            raise UserError(
                "FULL_CONFORMAL treats training and test images alike, so it needs training images as they are: add "
                "FEATURES.TRAIN_VIEW plain."
            )


@register
class SSTextPlus(SSText):
    """The weight of a class's images grows with their number, and the prototypes repel each other."""

    title, paper, row = "SS-Text+", "2506.17500", 75
    options = SSText.options.but(WEIGHTS="shots", REPEL=True)
