"""Tip-Adapter: a cache of training features as a key-value classifier beside zero-shot CLIP (Zhang et al., ECCV 2022,
arXiv 2207.09519)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from yacs.config import CfgNode

from dassl.engine import TRAINER_REGISTRY
from dassl.optim import build_lr_scheduler, build_optimizer
from ogkd.core import UserError, find_checkpoint, load_checkpoint
from ogkd.models import ImageFeatures
from ogkd.tuning.feature_trainer import FeatureTrainer
from ogkd.tuning.options import require
from ogkd.tuning.templates import TEMPLATE, template_features

NUMBERS_AT_ONCE = 2**22  # in one chunk of the search: 16 MB of logits


def tip_options() -> dict[str, object]:
    """The options of both methods, with the benchmark's search grid.

    The authors use one grid per data set, 200 values of beta by 20 of alpha: up to 7 and 3 on ImageNet, up to 50 and 50
    on Flowers. They average the cache's keys over 10 augmented views.
    """
    return {
        "TEMPLATE": TEMPLATE,
        "ALPHA": 1.0,  # weight of the cache before the search, and in the training of Tip-Adapter-F
        "BETA": 1.0,  # sharpness of the cache, used likewise
        "AUGMENT_EPOCHS": 1,  # views averaged into each key, with FEATURES.TRAIN_VIEW augmented
        "SEARCH": True,  # select alpha and beta on the validation images
        "MAX_ALPHA": 50.0,
        "STEPS_ALPHA": 200,
        "MAX_BETA": 50.0,
        "STEPS_BETA": 200,
    }


def check_tip_options(options: CfgNode) -> None:
    """Raise UserError if an option of `tip_options` has an invalid value."""
    require(options, "ALPHA", "BETA", least=0)
    require(options, "MAX_ALPHA", "MAX_BETA", above=0.1)
    require(options, "AUGMENT_EPOCHS", "STEPS_ALPHA", "STEPS_BETA", least=1, most=10_000)


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

    def __init__(
        self, keys: Tensor, labels: Tensor, text: Tensor, scale: float, alpha: float = 1.0, beta: float = 1.0
    ) -> None:
        super().__init__()
        self.scale = scale
        self.keys = nn.Parameter(keys.clone())
        self.register_buffer("values", F.one_hot(labels, len(text)).to(keys.dtype))
        self.register_buffer("alpha", torch.tensor(float(alpha)))
        self.register_buffer("beta", torch.tensor(float(beta)))
        self.register_buffer("text", text, persistent=False)

    @classmethod
    def of(cls, trainer: FeatureTrainer) -> CacheModel:
        """The cache of a trainer's training images, as its options describe it."""
        options = trainer.options
        if options.AUGMENT_EPOCHS > 1 and not trainer.augments:
            raise UserError(
                f"AUGMENT_EPOCHS is {options.AUGMENT_EPOCHS}, but all plain views of an image are the same: "
                f"add FEATURES.TRAIN_VIEW augmented."
            )
        keys = trainer.train_features(options.AUGMENT_EPOCHS)
        text = template_features(trainer.clip_model, trainer.classnames, options.TEMPLATE, trainer.cache)
        cache = cls(keys, trainer.train_labels, text, trainer.scale, options.ALPHA, options.BETA)
        return cache.to(trainer.device)

    def forward(self, features: Tensor) -> Tensor:
        """Logits (B, C) of features (B, D)."""
        similar = (self.beta * (features @ self.keys.t() - 1)).exp()
        return self.scale * features @ self.text.t() + self.alpha * (similar @ self.values)

    @torch.no_grad()
    def search(self, trainer: FeatureTrainer) -> None:
        """Set alpha and beta to the best pair on the trainer's validation images, if SEARCH is on."""
        options = trainer.options
        if not options.SEARCH:
            return
        trainer.require_validation("alpha and beta", f"add TRAINER.{type(trainer).__name__.upper()}.SEARCH False")
        features, labels = trainer.validation_set
        with trainer.phases("search alpha and beta"):
            alpha, beta, accuracy = search(
                self.scale * features @ self.text.t(), features @ self.keys.t(), self.values, labels,
                grid(options.MAX_ALPHA, options.STEPS_ALPHA), grid(options.MAX_BETA, options.STEPS_BETA),
            )  # fmt: skip
        self.alpha.fill_(alpha)
        self.beta.fill_(beta)
        print(f"alpha {alpha:.2f}, beta {beta:.2f}: accuracy {100 * accuracy:.1f} % on the validation images")


@TRAINER_REGISTRY.register()
class TipAdapter(FeatureTrainer):
    """Nothing is trained: the cache holds the training features. The search counts as one epoch; OPTIM does not
    apply."""

    title, paper, row = "Tip-Adapter", "2207.09519", 40
    keeps_training_images = True

    @classmethod
    def default_options(cls) -> dict[str, object]:
        return tip_options()

    @classmethod
    def check_options(cls, options: CfgNode) -> None:
        check_tip_options(options)

    def build_method(self) -> None:
        self.max_epoch = 1
        self.cache_model = CacheModel.of(self)
        self.register_model("cache", self.cache_model)

    def classifier(self) -> Callable[[Tensor], Tensor]:
        return self.cache_model

    def run_epoch(self) -> None:
        self.cache_model.search(self)


@TRAINER_REGISTRY.register()
class TipAdapterF(FeatureTrainer):
    """The cache's keys are fine-tuned before the search, with a learning rate that is scheduled per step.

    With TEST.FINAL_MODEL best_val, as in the configurations, the search for alpha and beta uses the keys of the epoch
    that is best on the validation images.
    """

    title, paper, row = "Tip-Adapter-F", "2207.09519", 50
    keeps_training_images = True
    draws_each_epoch = True

    @classmethod
    def default_options(cls) -> dict[str, object]:
        return tip_options()

    @classmethod
    def check_options(cls, options: CfgNode) -> None:
        check_tip_options(options)

    def build_method(self) -> None:
        self.cache_model = CacheModel.of(self)
        steps = -(-len(self.train_labels) // self.cfg.DATALOADER.TRAIN_X.BATCH_SIZE)
        self.optim = build_optimizer(self.cache_model, self.cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, counted_in_steps(self.cfg.OPTIM, steps))
        self.register_model("cache", self.cache_model, self.optim, self.sched)

    def classifier(self) -> Callable[[Tensor], Tensor]:
        return self.cache_model

    def losses(self, inputs: ImageFeatures, label: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        logits = self.cache_model(inputs.global_token)
        return {"ce": F.cross_entropy(logits, label)}, logits

    def update(self, terms: dict[str, Tensor]) -> None:
        super().update(terms)
        self.sched.step()

    def update_lr(self, names: str | list[str] | None = None) -> None:
        """Does nothing at the end of an epoch: the learning rate is updated per step."""

    def after_train(self) -> None:
        path = find_checkpoint(Path(self.output_dir) / "cache")  # of the best epoch if it was kept, else of the last
        self.load_model(self.output_dir)
        self.cache_model.search(self)
        kept = load_checkpoint(str(path))
        self.save_model(kept["epoch"] - 1, self.output_dir, val_result=kept["val_result"], model_name=path.name)
        super().after_train()


def counted_in_steps(optim: CfgNode, steps: int) -> CfgNode:
    """OPTIM with its epochs counted in optimisation steps, `steps` per epoch."""
    optim = optim.clone()
    optim.defrost()
    optim.MAX_EPOCH *= steps
    optim.WARMUP_EPOCH *= steps
    optim.STEPSIZE = [epoch * steps for epoch in optim.STEPSIZE]
    return optim
