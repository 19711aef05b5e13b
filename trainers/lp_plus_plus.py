"""LP++: a linear probe with class-wise multipliers of the text features and step sizes from Lipschitz bounds
(Huang et al., CVPR 2024, arXiv 2404.02285)."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from yacs.config import CfgNode

from clip import ImageFeatures
from dassl.engine import TRAINER_REGISTRY
from trainers.parts.feature_trainer import FeatureTrainer
from trainers.parts.options import require
from trainers.parts.templates import TEMPLATE, template_features


def weight_step(features: Tensor) -> float:
    """4 N / (largest eigenvalue of F'F): the inverse of the Lipschitz bound in the weights, F (N, D)."""
    return float(4 * len(features) / torch.linalg.eigvalsh(features.t() @ features)[-1])


def multiplier_step(text_logits: Tensor) -> float:
    """N / (4 max_k sum_i (f_i t_k)^2): the step of the multipliers, from f_i t_k (N, C)."""
    return float(len(text_logits) / (4 * text_logits.square().sum(0).max()))


def initial_multiplier(text_logits: Tensor, labels: Tensor) -> float:
    """250 times the mean over classes of the mean agreement f_i t_k of a class's images with its own text."""
    own = text_logits.gather(1, labels[:, None]).squeeze(1)
    classes = range(text_logits.shape[1])
    return 250 * float(torch.stack([own[labels == k].mean() for k in classes if (labels == k).any()]).mean())


class Probe(nn.Module):
    """logits = f (W + diag(alpha) T)' + b, for W (C, D), alpha (C,) and text features T (C, D)."""

    def __init__(self, features: Tensor, labels: Tensor, text: Tensor) -> None:
        super().__init__()
        one_hot = F.one_hot(labels, len(text)).to(features.dtype)
        self.linear = nn.Linear(*text.t().shape)
        self.linear.weight.data.copy_(one_hot.t() @ features)
        self.linear.bias.data.zero_()
        self.alpha = nn.Parameter(text.new_full((len(text),), initial_multiplier(features @ text.t(), labels)))
        self.register_buffer("text", text, persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        return self.linear(features) + self.alpha * (features @ self.text.t())


@TRAINER_REGISTRY.register()
class LPPlusPlus(FeatureTrainer):
    """Gradient descent on all training features at once; the multipliers step once in ALPHA_EVERY epochs."""

    title, paper, row = "LP++", "2404.02285", 70

    @classmethod
    def default_options(cls) -> dict[str, object]:
        return {"TEMPLATE": TEMPLATE, "ALPHA_EVERY": 10}

    @classmethod
    def check_options(cls, options: CfgNode) -> None:
        require(options, "ALPHA_EVERY", least=1)

    def build_method(self) -> None:
        features, labels = self.training_set
        text = template_features(self.clip_model, self.classnames, self.options.TEMPLATE, self.cache)
        self.probe = Probe(features, labels, text).to(self.device)
        self.alpha_step = multiplier_step(features @ text.t())
        weights = list(self.probe.linear.parameters())
        self.optim = torch.optim.SGD(weights, weight_step(features), momentum=0.9)
        self.register_model("probe", self.probe, self.optim, None)

    def classifier(self) -> Callable[[Tensor], Tensor]:
        return self.probe

    def losses(self, inputs: ImageFeatures, label: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        logits = self.probe(inputs.global_token)
        return {"ce": F.cross_entropy(logits, label)}, logits

    def update(self, terms: dict[str, Tensor]) -> None:
        self.probe.alpha.grad = None
        super().update(terms)
        if (self.epoch + 1) % self.options.ALPHA_EVERY == 0:
            with torch.no_grad():
                self.probe.alpha -= self.alpha_step * self.probe.alpha.grad
