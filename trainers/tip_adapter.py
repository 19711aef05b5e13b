"""Tip-Adapter: a cache of training features as a key-value classifier beside zero-shot CLIP (Zhang et al., ECCV 2022,
arXiv 2207.09519)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from yacs.config import CfgNode

from clip import ImageFeatures
from dassl.engine import TRAINER_REGISTRY
from trainers.parts.feature_trainer import FeatureTrainer
from trainers.parts.options import require
from trainers.parts.templates import TEMPLATE, template_features


def cache_logits(features: Tensor, keys: Tensor, values: Tensor, beta: float) -> Tensor:
    """exp(-beta (1 - f k')) V for features (B, D), keys (N, D) and one-hot values (N, C)."""
    return (beta * (features @ keys.t() - 1)).exp() @ values


class CacheModel(nn.Module):
    """Keys (N, D), one-hot values (N, C), and the two numbers that the validation images choose."""

    def __init__(self, keys: Tensor, values: Tensor, alpha: float, beta: float) -> None:
        super().__init__()
        self.keys = nn.Parameter(keys)
        self.register_buffer("values", values)
        self.register_buffer("alpha", torch.tensor(alpha))
        self.register_buffer("beta", torch.tensor(beta))

    def forward(self, features: Tensor) -> Tensor:
        return self.alpha * cache_logits(features, self.keys, self.values, self.beta)


def grid(most: float, steps: int) -> list[float]:
    """`steps` values from 0.1 in equal steps towards `most`, which is left out."""
    return [0.1 + i * (most - 0.1) / steps for i in range(steps)]


@TRAINER_REGISTRY.register()
class TipAdapter(FeatureTrainer):
    """Nothing is trained: the cache is the training features."""

    title, paper, row = "Tip-Adapter", "2207.09519", 40
    keeps_training_images = True

    @classmethod
    def default_options(cls) -> dict[str, object]:
        """Where alpha and beta start, and the grid in which they are searched (the published code's)."""
        return {
            "TEMPLATE": TEMPLATE,
            "ALPHA": 1.0,
            "BETA": 1.0,
            "MAX_ALPHA": 3.0,
            "STEPS_ALPHA": 20,
            "MAX_BETA": 7.0,
            "STEPS_BETA": 200,
        }

    @classmethod
    def check_options(cls, options: CfgNode) -> None:
        require(options, "ALPHA", "BETA", least=0)
        require(options, "MAX_ALPHA", "MAX_BETA", above=0.1)
        require(options, "STEPS_ALPHA", "STEPS_BETA", least=1)

    def build_method(self) -> None:
        options = self.options
        features, labels = self.training_set
        values = F.one_hot(labels, len(self.classnames)).to(features.dtype)
        self.text = template_features(self.clip_model, self.classnames, options.TEMPLATE, self.cache)
        self.cache_model = CacheModel(features.clone(), values, float(options.ALPHA), float(options.BETA))
        self.learn("cache", self.cache_model)

    def classifier(self) -> Callable[[Tensor], Tensor]:
        return lambda features: self.scale * features @ self.text.t() + self.cache_model(features)

    def losses(self, inputs: ImageFeatures, label: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        logits = self.classifier()(inputs.global_token)
        return {"ce": F.cross_entropy(logits, label)}, logits

    def train(self) -> None:
        """The search, in place of training; saved like a training of one epoch."""
        self.search()
        self.save_model(0, self.output_dir)
        self.test()

    @torch.no_grad()
    def search(self) -> None:
        """Set alpha and beta to the pair with the highest accuracy on the validation images (the first of equals)."""
        features, labels = self.split_features("val")
        zero_shot, cache = self.scale * features @ self.text.t(), self.cache_model
        best = -1.0
        for beta, similar in self._cache_logits(features):
            for alpha in grid(self.options.MAX_ALPHA, self.options.STEPS_ALPHA):
                accuracy = ((zero_shot + alpha * similar).argmax(-1) == labels).float().mean().item()
                if accuracy > best:
                    best = accuracy
                    cache.alpha.fill_(alpha)
                    cache.beta.fill_(beta)
        print(f"alpha {cache.alpha:.2f}, beta {cache.beta:.2f}: accuracy {100 * best:.1f} % on the validation images")

    def _cache_logits(self, features: Tensor) -> Iterator[tuple[float, Tensor]]:
        for beta in grid(self.options.MAX_BETA, self.options.STEPS_BETA):
            yield beta, cache_logits(features, self.cache_model.keys, self.cache_model.values, beta)


@TRAINER_REGISTRY.register()
class TipAdapterF(TipAdapter):
    """The cache's keys are fine-tuned before the search."""

    title, row = "Tip-Adapter-F", 50

    def train(self) -> None:
        FeatureTrainer.train(self)

    def after_train(self) -> None:
        self.search()
        self.save_model(self.max_epoch - 1, self.output_dir)
        super().after_train()
