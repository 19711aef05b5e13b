"""GDA: Gaussian discriminant analysis beside zero-shot CLIP (Wang et al., ICLR 2024, arXiv 2402.04087)."""

from __future__ import annotations

import math
from collections.abc import Callable

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
        n, width = samples.shape
        covariance = (samples - means[labels]).t().cov()
        shrunk = (n - 1) * covariance + covariance.trace() * torch.eye(width, device=samples.device)
        precision = width * torch.linalg.pinv(shrunk, hermitian=True)
    else:
        precision = torch.linalg.pinv(torch.stack([some.t().cov() for some in of_class]).mean(0))
    known = precision @ means.t()
    of_known = -math.log(classes) - (means * known.t()).sum(1) / 2
    column = torch.full((classes,), len(there), device=samples.device)
    column[there] = torch.arange(len(there), device=samples.device)
    weight, bias = torch.cat([known, known.mean(1, True)], 1), torch.cat([of_known, of_known.mean(0, True)])
    return weight[:, column], bias[column]


@register
class GDA(FeatureMethod):
    """Logits s f T' + alpha (f W + b): T are text features, W and b those of Gaussians with one covariance.

    Nothing is trained; the choice of alpha counts as one epoch, and OPTIM does not apply.
    """

    title, paper, row = "GDA", "2402.04087", 71
    groups = ("training-free", "new")
    weight: Tensor
    bias: Tensor
    alpha: Tensor

    options = Options(
        TEMPLATE=Option(TEMPLATE, "the hand-written prompt"),
        VIEWS=Option(10, "views of each image, with FEATURES.TRAIN_VIEW augmented", least=1, most=1000),
        SHRINKAGE=Option("ks", "how the covariance is regularised; the authors' code for base classes: none",
                         choices=SHRINKAGES),
        ALPHA=Option(0.0, "weight of the Gaussians; 0: selected on the validation images", least=0),
    )  # fmt: skip

    @classmethod
    def needs_each_class(cls, options: CfgNode) -> bool:
        return bool(options.SHRINKAGE == "none")

    def build(self) -> None:
        self.text = template_features(self.clip_model, self.classnames, self.options.TEMPLATE, self.feature_cache)
        self.register_buffer("weight", torch.zeros_like(self.text.t()))
        self.register_buffer("bias", torch.zeros(len(self.text)))
        self.register_buffer("alpha", torch.tensor(self.options.ALPHA))

    def fit(self, task: Task) -> None:
        samples, labels = task.samples(self.options.VIEWS)
        if self.options.SHRINKAGE == "none" and labels.bincount(minlength=len(self.text)).min() < 2:
            raise UserError(
                f"TRAINER.{task.section}.SHRINKAGE none needs two views of images in each class: set it to ks."
            )
        with task.phases("fit"):
            self.weight, self.bias = gaussians(samples, labels, len(self.text), self.options.SHRINKAGE)
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

    def logits(self, features: Tensor, alpha: Tensor | float) -> Tensor:
        return self.scale * features @ self.text.t() + alpha * (features @ self.weight + self.bias)

    def classifier(self) -> Callable[[Tensor], Tensor]:
        return lambda features: self.logits(features, self.alpha)
