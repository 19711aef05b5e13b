"""GDA: Gaussian discriminant analysis beside zero-shot CLIP (Wang et al., ICLR 2024, arXiv 2402.04087)."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ogkd.tuning.feature_method import FeatureMethod
from ogkd.tuning.options import Option, Options
from ogkd.tuning.registration import register
from ogkd.tuning.task import Task
from ogkd.tuning.templates import TEMPLATE, template_features

ALPHAS = (1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0)


@register
class GDA(FeatureMethod):
    """Logits s f T' + alpha (f W + b): T are text features, W and b those of Gaussians with one covariance."""

    title, paper, row = "GDA", "2402.04087", 65
    options = Options(
        TEMPLATE=Option(TEMPLATE, "the hand-written prompt"),
        VIEWS=Option(10, "views of each image, with FEATURES.TRAIN_VIEW augmented", least=1, most=1000),
        ALPHA=Option(0.0, "weight of the Gaussians; 0: selected on the validation images", least=0),
    )

    def build(self) -> None:
        self.text = template_features(self.clip_model, self.classnames, self.options.TEMPLATE, self.feature_cache)
        self.register_buffer("weight", torch.zeros_like(self.text.t()))
        self.register_buffer("bias", torch.zeros(len(self.text)))
        self.register_buffer("alpha", torch.tensor(self.options.ALPHA))

    def fit(self, task: Task) -> None:
        views = task.train_views(self.options.VIEWS)  # (V, N, D)
        samples, labels = views.flatten(0, 1), task.train_labels.repeat(len(views))
        means = torch.stack([samples[labels == c].mean(0) for c in range(len(self.text))])
        scatter, (n, width) = (samples - means[labels]).t().cov(), samples.shape
        shrunk = (n - 1) * scatter + scatter.trace() * torch.eye(width, device=self.device)
        precision = width * torch.linalg.pinv(shrunk, hermitian=True)
        self.weight = precision @ means.t()
        self.bias = -math.log(len(means)) - (means @ precision * means).sum(1) / 2
        if not self.options.ALPHA:
            task.require_validation("alpha", f"give it as TRAINER.{task.section}.ALPHA, such as 0.1")
            features, truth = task.validation_set
            self.alpha.fill_(max(ALPHAS, key=lambda a: (self.logits(features, a).argmax(1) == truth).sum().item()))

    def logits(self, features: Tensor, alpha: Tensor | float) -> Tensor:
        return self.scale * features @ self.text.t() + alpha * (features @ self.weight + self.bias)

    def classifier(self) -> Callable[[Tensor], Tensor]:
        return lambda features: self.logits(features, self.alpha)
