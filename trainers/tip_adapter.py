"""Tip-Adapter: a cache of training features as a key-value classifier beside zero-shot CLIP (Zhang et al., ECCV 2022,
arXiv 2207.09519)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ogkd.core import UserError
from ogkd.models import ImageFeatures
from ogkd.tuning.feature_method import FeatureMethod
from ogkd.tuning.options import Option, Options
from ogkd.tuning.registration import register
from ogkd.tuning.task import Task
from ogkd.tuning.templates import TEMPLATE, template_features

NUMBERS_AT_ONCE = 2**22  # in one chunk of the search: 16 MB of logits


OPTIONS = Options(
    TEMPLATE=Option(TEMPLATE, "the hand-written prompt"),
    ALPHA=Option(1.0, "weight of the cache before the search, and in the training of Tip-Adapter-F", least=0),
    BETA=Option(1.0, "sharpness of the cache, used likewise", least=0),
    AUGMENT_EPOCHS=Option(1, "views averaged into each key, with FEATURES.TRAIN_VIEW augmented", least=1, most=10_000),
    SEARCH=Option(True, "select alpha and beta on the validation images"),
    MAX_ALPHA=Option(50.0, "upper end of the search", above=0.1),
    STEPS_ALPHA=Option(200, "values of alpha that are tried", least=1, most=10_000),
    MAX_BETA=Option(50.0, "upper end of the search", above=0.1),
    STEPS_BETA=Option(200, "values of beta that are tried", least=1, most=10_000),
)
"""The options of both methods, with the benchmark's search grid.

The authors use one grid per data set, 200 values of beta by 20 of alpha: up to 7 and 3 on ImageNet, up to 50 and 50 on
Flowers. They average the cache's keys over 10 augmented views.
"""


def grid(most: float, steps: int) -> Tensor:
    """`steps` evenly spaced values (steps,) from 0.1 up to `most`, which is excluded."""
    return torch.tensor([0.1 + i * (most - 0.1) / steps for i in range(steps)])


def search(
    zero_shot: Tensor, similarity: Tensor, values: Tensor, labels: Tensor, alphas: Tensor, betas: Tensor
) -> tuple[float, float, float]:
    """The alpha and beta with the highest accuracy, and that accuracy in 0..1. The lowest beta, then alpha, wins a tie.

    For B images and N keys: zero-shot logits (B, C), similarity f k' (B, N), one-hot values (N, C) and labels (B,). All
    pairs are compared, a few betas at a time to bound the memory.
    """
    n_images, n_classes = zero_shot.shape
    at_once = max(1, NUMBERS_AT_ONCE // (n_images * max(len(alphas) * n_classes, len(values))))
    distance, alphas, betas = similarity - 1, alphas.to(zero_shot), betas.to(zero_shot)
    correct = []
    for some in betas.split(at_once):
        cached = (some[:, None, None] * distance).exp() @ values
        logits = zero_shot + alphas[:, None, None] * cached[:, None]
        correct.append((logits.argmax(-1) == labels).sum(-1))
    counts = torch.cat(correct)  # (betas, alphas)
    beta, alpha = divmod(int(counts.flatten().argmax()), len(alphas))
    return alphas[alpha].item(), betas[beta].item(), counts[beta, alpha].item() / n_images


class CacheModel(nn.Module):
    """Zero-shot logits and those of a cache: s f t' + alpha exp(-beta (1 - f k')) V.

    Text features t (C, D) stay fixed. Keys k (N, D) are the training features, one-hot values V (N, C) their labels.
    Alpha and beta are selected on the validation images.
    """

    values: Tensor
    alpha: Tensor
    beta: Tensor
    text: Tensor

    def __init__(self, text: Tensor, scale: float, alpha: float = 1.0, beta: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        self.keys = nn.Parameter(text.new_zeros(0, text.shape[1]))
        self.register_buffer("values", text.new_zeros(0, len(text)))
        self.register_buffer("alpha", torch.tensor(float(alpha)))
        self.register_buffer("beta", torch.tensor(float(beta)))
        self.register_buffer("text", text, persistent=False)

    def fill(self, keys: Tensor, labels: Tensor) -> None:
        """Take features (N, D) as keys and their labels (N,)."""
        self.keys = nn.Parameter(keys.clone())
        self.values = F.one_hot(labels, len(self.text)).to(keys.dtype)

    def forward(self, features: Tensor) -> Tensor:
        """Logits (B, C) of features (B, D)."""
        similar = (self.beta * (features @ self.keys.t() - 1)).exp()
        return self.scale * features @ self.text.t() + self.alpha * (similar @ self.values)


class CacheMethod(FeatureMethod):
    """What both methods share."""

    folder = "cache"
    keeps_training_images = True
    options = OPTIONS

    def build(self) -> None:
        options = self.options
        text = template_features(self.clip_model, self.classnames, options.TEMPLATE, self.feature_cache)
        self.cache = CacheModel(text, self.scale, options.ALPHA, options.BETA)

    def make_room(self, state: Mapping[str, Tensor]) -> None:
        labels = torch.zeros(len(state.get("keys", ())), dtype=torch.long, device=self.device)
        self.cache.fill(self.cache.text[labels], labels)

    def prepare(self, task: Task) -> None:
        super().prepare(task)
        count = self.options.AUGMENT_EPOCHS
        if count > 1 and not task.augments:
            raise UserError(
                f"AUGMENT_EPOCHS is {count}, but all plain views of an image are the same: "
                f"add FEATURES.TRAIN_VIEW augmented."
            )
        self.cache.fill(task.train_features(count), task.train_labels)

    def classifier(self) -> Callable[[Tensor], Tensor]:
        return self.cache

    @torch.no_grad()
    def search(self, task: Task) -> None:
        """Set alpha and beta to the best pair on the validation images, if SEARCH is on."""
        options, cache = self.options, self.cache
        if not options.SEARCH:
            return
        task.require_validation("alpha and beta", f"add TRAINER.{task.section}.SEARCH False")
        features, labels = task.validation_set
        with task.phases("search alpha and beta"):
            alpha, beta, accuracy = search(
                self.scale * features @ cache.text.t(), features @ cache.keys.t(), cache.values, labels,
                grid(options.MAX_ALPHA, options.STEPS_ALPHA), grid(options.MAX_BETA, options.STEPS_BETA),
            )  # fmt: skip
        cache.alpha.fill_(alpha)
        cache.beta.fill_(beta)
        print(f"alpha {alpha:.2f}, beta {beta:.2f}: accuracy {100 * accuracy:.1f} % on the validation images")


@register
class TipAdapter(CacheMethod):
    """Nothing is trained: the cache holds the training features. The search counts as one epoch; OPTIM does not
    apply."""

    title, paper, row = "Tip-Adapter", "2207.09519", 40
    groups = ("training-free",)

    def fit(self, task: Task) -> None:
        self.search(task)


@register
class TipAdapterF(CacheMethod):
    """The cache's keys are fine-tuned before the search, with a learning rate that is scheduled per step.

    With TEST.FINAL_MODEL best_val, as in the configurations, the search for alpha and beta uses the keys of the epoch
    that is best on the validation images.
    """

    title, paper, row = "Tip-Adapter-F", "2207.09519", 50
    draws_each_epoch = True
    schedule_by_step = True

    def losses(self, inputs: ImageFeatures, label: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        logits = self.cache(inputs.global_token)
        return {"ce": F.cross_entropy(logits, label)}, logits

    def finish(self, task: Task) -> None:
        self.search(task)
