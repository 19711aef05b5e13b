"""LP++: a linear probe with class-wise multipliers of the text features and step sizes from Lipschitz bounds
(Huang et al., CVPR 2024, arXiv 2404.02285)."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from yacs.config import CfgNode

from dassl.optim import build_lr_scheduler, build_optimizer
from ogkd.core import UserError
from ogkd.models import ImageFeatures
from ogkd.tuning.feature_method import FeatureMethod
from ogkd.tuning.options import Option, Options
from ogkd.tuning.registration import register
from ogkd.tuning.task import Task
from ogkd.tuning.templates import TEMPLATE, template_features


def weight_step(features: Tensor) -> float:
    """4 N / (largest eigenvalue of F'F) for F (N, D): the inverse Lipschitz bound for the weights."""
    return float(4 * len(features) / torch.linalg.eigvalsh(features.t() @ features)[-1])


def multiplier_step(text_logits: Tensor) -> float:
    """N / (4 max_k sum_i (f_i t_k)^2), from f_i t_k (N, C): the step size of the multipliers."""
    return float(len(text_logits) / (4 * text_logits.square().sum(0).max()))


def initial_multiplier(text_logits: Tensor, labels: Tensor) -> float:
    """250 times the mean over classes of the mean similarity f_i t_k between a class's images and its own text."""
    own = text_logits.gather(1, labels[:, None]).squeeze(1)
    classes = range(text_logits.shape[1])
    return 250 * float(torch.stack([own[labels == k].mean() for k in classes if (labels == k).any()]).mean())


class Probe(nn.Module):
    """logits = f (W + diag(alpha) T)' for W (C, D), alpha (C,) and text features T (C, D), and b (C,) if asked for.

    W starts as the sum of each class's features (N, D), b at 0.
    """

    text: Tensor

    def __init__(self, text: Tensor, bias: bool = False) -> None:
        super().__init__()
        classes, width = text.shape
        self.linear = nn.Linear(width, classes, bias=bias)
        if bias:
            self.linear.bias.data.zero_()
        self.alpha = nn.Parameter(text.new_zeros(len(text)))
        self.register_buffer("text", text, persistent=False)

    @torch.no_grad()
    def start(self, features: Tensor, labels: Tensor) -> None:
        """Set W and alpha to where the training starts from."""
        one_hot = F.one_hot(labels, len(self.text)).to(features.dtype)
        self.linear.weight.copy_(one_hot.t() @ features)
        self.alpha.fill_(initial_multiplier(features @ self.text.t(), labels))

    def forward(self, features: Tensor) -> Tensor:
        return self.linear(features) + self.alpha * (features @ self.text.t())


@register
class LPPlusPlus(FeatureMethod):
    """Full-batch gradient descent on the training features; the multipliers are updated every ALPHA_EVERY epochs.

    OPTIM.LR multiplies the step sizes from the Lipschitz bounds. OPTIM.MOMENTUM and OPTIM.WEIGHT_DECAY apply to the
    weights; the multipliers take plain gradient steps. With TEST.FINAL_MODEL best_val, as in the configurations, the
    epoch that is best on the validation images is tested, the last one in a tie.
    """

    title, paper, row = "LP++", "2404.02285", 70

    folder = "probe"
    later_is_better = True  # as in the published code
    options = Options(
        TEMPLATE=Option(TEMPLATE, "the hand-written prompt"),
        ALPHA_EVERY=Option(10, "epochs between two updates of the multipliers", least=1),
        BIAS=Option(False, "also learn a bias, as the authors' code does but their paper does not"),
    )

    @classmethod
    def check_cfg(cls, cfg: CfgNode) -> None:
        if cfg.OPTIM.NAME != "sgd":
            raise UserError(f"OPTIM.NAME is '{cfg.OPTIM.NAME}', but LP++ computes step sizes for sgd: set it to sgd.")

    def build(self) -> None:
        text = template_features(self.clip_model, self.classnames, self.options.TEMPLATE, self.feature_cache)
        self.probe = Probe(text, self.options.BIAS)

    def prepare(self, task: Task) -> None:
        super().prepare(task)
        features, labels = task.training_set
        self.probe.start(features, labels)
        self.weight_step, self.alpha_step = weight_step(features), multiplier_step(features @ self.probe.text.t())

    def optimiser(self, optim: CfgNode, steps: int) -> tuple[Optimizer, LRScheduler | None]:
        scaled = optim.clone()
        scaled.defrost()
        scaled.LR *= self.weight_step
        optimiser = build_optimizer(self.probe.linear, scaled)
        return optimiser, build_lr_scheduler(optimiser, scaled)

    def classifier(self) -> Callable[[Tensor], Tensor]:
        return self.probe

    def losses(self, inputs: ImageFeatures, label: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        logits = self.probe(inputs.global_token)
        return {"ce": F.cross_entropy(logits, label)}, logits

    @torch.no_grad()
    def after_step(self, epoch: int, rate: float) -> None:
        if (epoch + 1) % self.options.ALPHA_EVERY == 0:
            factor = rate / self.weight_step
            self.probe.alpha.sub_(factor * self.alpha_step * cast(Tensor, self.probe.alpha.grad))
