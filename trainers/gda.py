"""GDA: Gaussian discriminant analysis beside zero-shot CLIP (Wang et al., ICLR 2024, arXiv 2402.04087)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from yacs.config import CfgNode

from ogkd.core import UserError
from ogkd.tuning.feature_method import FeatureMethod
from ogkd.tuning.options import Option, Options
from ogkd.tuning.registration import register
from ogkd.tuning.task import Task
from ogkd.tuning.templates import TEMPLATE, template_features

ALPHAS = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0)  # the first wins a tie
SHRINKAGES = ("ks", "none")
NEAREST, COPIES = 64, 16  # images and copies of its text that stand for a class without images
SAME = 1e-3  # largest difference of two text features of one class


def gaussians(samples: Tensor, labels: Tensor, classes: int, shrinkage: str = "ks") -> tuple[Tensor, Tensor]:
    """Weight (D, C) and bias (C,) of the discriminant of Gaussians with one covariance and equal priors, from samples
    (N, D) and their labels (N,). For a class without samples they are the means of the others' weights and biases.

    The precision is that of Kubokawa and Srivastava (2008), or with shrinkage "none" the pseudo-inverse of the mean of
    the classes' covariances, for which each class needs two samples.
    """
    there, labels = labels.unique(return_inverse=True)
    of_class = [samples[labels == place] for place in range(len(there))]
    means = torch.stack([some.mean(0) for some in of_class])
    if shrinkage == "ks":
        precision = shrunk_precision((samples - means[labels]).t().cov(), len(samples))
    else:
        precision = torch.linalg.pinv(torch.stack([some.t().cov() for some in of_class]).mean(0))
    known = precision @ means.t()
    of_known = -math.log(classes) - (means * known.t()).sum(1) / 2
    column = torch.full((classes,), len(there), device=samples.device)
    column[there] = torch.arange(len(there), device=samples.device)
    weight, bias = torch.cat([known, known.mean(1, True)], 1), torch.cat([of_known, of_known.mean(0, True)])
    return weight[:, column], bias[column]


def shrunk_precision(covariance: Tensor, samples: int) -> Tensor:
    """The precision (D, D) of Kubokawa and Srivastava for the covariance of a number of samples."""
    width = len(covariance)
    shrunk = (samples - 1) * covariance + covariance.trace() * torch.eye(width, device=covariance.device)
    return width * torch.linalg.pinv(shrunk, hermitian=True)


def synthesised(samples: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
    """Weight (D, C) and bias (C,), without the prior, of classes that have texts (C, D) and no images.

    A class's mean is that of the samples (N, D) nearest to its text and of copies of the text, and its covariance
    theirs about the text; the precision is the mean of the classes'.
    """
    count = min(NEAREST, len(samples))
    near = [samples[(samples @ one).topk(count).indices] for one in text]
    means = torch.stack([(some.sum(0) + COPIES * one) / (count + COPIES) for some, one in zip(near, text, strict=True)])
    spread = [(some - one).t() @ (some - one) / max(1, count - 1) for some, one in zip(near, text, strict=True)]
    weight = torch.stack([shrunk_precision(covariance, count) for covariance in spread]).mean(0) @ means.t()
    return weight, -(means * weight.t()).sum(1) / 2


@register
class GDA(FeatureMethod):
    """Logits s f T' + alpha (f W + b): T are text features, W and b those of Gaussians with one covariance.

    Nothing is trained; the choice of alpha counts as one epoch, and OPTIM does not apply. With NOVEL the training
    images' features are saved, and classes that were not trained on get Gaussians of those nearest to their texts.
    """

    title, paper, row = "GDA", "2402.04087", 71
    groups = ("training-free", "new")
    has_novel_head = True
    weight: Tensor
    bias: Tensor
    alpha: Tensor
    samples: Tensor
    known: Tensor

    options = Options(
        TEMPLATE=Option(TEMPLATE, "the hand-written prompt"),
        VIEWS=Option(10, "views of each image, with FEATURES.TRAIN_VIEW augmented", least=1, most=1000),
        SHRINKAGE=Option("ks", "how the covariance is regularised; the authors' code for base classes: none",
                         choices=SHRINKAGES),
        ALPHA=Option(0.0, "weight of the Gaussians; 0: selected on the validation images", least=0),
        NOVEL=Option(False, "save the training images' features, to classify into classes without images"),
    )  # fmt: skip

    @classmethod
    def can_name_novel_classes(cls, options: CfgNode) -> bool:
        return bool(options.NOVEL)

    @classmethod
    def saves_training_images(cls, options: Mapping) -> bool:
        return bool(options.get("NOVEL", False))

    @classmethod
    def needs_each_class(cls, options: CfgNode) -> bool:
        return bool(options.SHRINKAGE == "none")

    def build(self) -> None:
        self.text = template_features(self.clip_model, self.classnames, self.options.TEMPLATE, self.feature_cache)
        trained = self.text[:0] if self.options.NOVEL else self.text  # with NOVEL a checkpoint's, see make_room
        self.register_buffer("weight", torch.zeros_like(trained.t()))
        self.register_buffer("bias", torch.zeros(len(trained)))
        self.register_buffer("alpha", torch.tensor(self.options.ALPHA))
        if self.options.NOVEL:
            self.register_buffer("samples", torch.zeros_like(trained))
            self.register_buffer("known", torch.zeros_like(trained))

    def make_room(self, state: Mapping[str, Tensor]) -> None:
        if self.options.NOVEL:
            for name in ("weight", "bias", "samples", "known"):
                setattr(self, name, torch.zeros_like(state.get(name, getattr(self, name)), device=self.device))

    def fit(self, task: Task) -> None:
        samples, labels = task.samples(self.options.VIEWS)
        if self.options.SHRINKAGE == "none" and labels.bincount(minlength=len(self.text)).min() < 2:
            raise UserError(
                f"TRAINER.{task.section}.SHRINKAGE none needs two views of images in each class: set it to ks."
            )
        with task.phases("fit"):
            self.weight, self.bias = gaussians(samples, labels, len(self.text), self.options.SHRINKAGE)
        if self.options.NOVEL:
            self.samples, self.known = samples, self.text.clone()
        if not self.options.ALPHA:
            self.alpha.fill_(self._best_alpha(task))

    def _best_alpha(self, task: Task) -> float:
        task.require_validation("alpha", f"give it as TRAINER.{task.section}.ALPHA, such as 0.1")
        features, truth = task.validation_set

        def accuracy(alpha: float) -> float:
            return (self.logits(features, alpha).argmax(1) == truth).float().mean().item()

        best = max(ALPHAS, key=accuracy)
        print(f"alpha {best:g}: accuracy {100 * accuracy(best):.1f} % on the validation images")
        return best

    def discriminant(self) -> tuple[Tensor, Tensor]:
        """Weight (D, C) and bias (C,) of the classes, those that were trained on and others."""
        if not self.options.NOVEL:
            return self.weight, self.bias
        same = (self.text[:, None] - self.known).abs().amax(-1) < SAME
        trained, place = same.any(1), same.float().argmax(1)
        weight, bias = self.weight[:, place], self.bias[place] + math.log(len(self.known))
        if not trained.all():
            weight[:, ~trained], bias[~trained] = synthesised(self.samples, self.text[~trained])
        return weight, bias - math.log(len(self.text))

    def logits(self, features: Tensor, alpha: Tensor | float) -> Tensor:
        return self._logits(features, alpha, *self.discriminant())

    def _logits(self, features: Tensor, alpha: Tensor | float, weight: Tensor, bias: Tensor) -> Tensor:
        return self.scale * features @ self.text.t() + alpha * (features @ weight + bias)

    def classifier(self) -> Callable[[Tensor], Tensor]:
        weight, bias = self.discriminant()
        return lambda features: self._logits(features, self.alpha, weight, bias)
