"""Evi-Steer: low-rank adapters between the layers of both towers, each weighted by its evidence (arXiv 2605.26292)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from yacs.config import CfgNode

from ogkd.core import UserError
from ogkd.models import ImageFeatures
from ogkd.models.towers import tokens_at
from ogkd.tuning.options import Option, Options
from ogkd.tuning.registration import register
from ogkd.tuning.tower_method import TowerMethod, cosine_in

TINY = 1e-6


class Adapter(nn.Module):
    """x -> x + sigmoid(b) * confidence * B m of tokens x (..., width), with low-rank maps m and evidence of x.

    The concentration alpha is 1 + softplus of the squared evidence, 1 / alpha an uncertainty; `gate` makes one number,
    the confidence, of them. B is 0 at first.
    """

    def __init__(self, width: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Linear(width, 2 * rank, bias=False)
        self.up = nn.Linear(rank, width, bias=False)
        nn.init.zeros_(self.up.weight)
        self.gate = nn.Linear(rank, 1, bias=False)
        self.b = nn.Parameter(torch.zeros(1))

    def forward(self, tokens: Tensor, agreed: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """The changed tokens and their alpha (..., rank); `agreed` makes what the gate sees of the uncertainties."""
        low, evidence = self.down(tokens).chunk(2, dim=-1)
        alpha = F.softplus(evidence.square()) + TINY + 1
        confidence = self.gate(agreed(1 / alpha)).sigmoid()
        return tokens + (self.b.sigmoid() * confidence * self.up(low)).to(tokens.dtype), alpha


def fused(of_image: Tensor, of_text: Tensor) -> Tensor:
    """The belief (..., rank) of an image's tokens and the classes' texts together, by Dempster's rule, from the
    uncertainties (..., rank) and (rank,)."""
    conflict = (1 - of_text) * of_image + of_text * (1 - of_image)
    return (1 - of_text) * (1 - of_image) / (1 - conflict + TINY)


def gamma_kl(alpha: Tensor) -> Tensor:
    """The mean of KL(Gamma(alpha, 1) || Gamma(1, 1))."""
    alpha = alpha.float()
    return ((alpha - 1) * torch.digamma(alpha) - torch.lgamma(alpha)).mean()


@register
class EviSteer(TowerMethod):
    """Cross entropy + LAMBDA_KL times the divergences of the evidence of images and texts, each the mean over layers.

    Adapters stand before every layer but the first, as far as both towers have it. Those of images read the mean
    uncertainty of the classes' texts at the same layer, so an image's feature depends on the names of all classes: with
    one more class, the logits of the others change as well.
    """

    title, paper, row = "Evi-Steer", "2605.26292", 79
    folder = "adapters"
    options = TowerMethod.options | Options(
        RANK=Option(4, "rank of the adapters", least=1),
        LAMBDA_KL=Option(1e-4, "weight of the divergences", least=0, tune=(1e-5, 1e-2)),
        T_MAX=Option(0, "steps of the cosine; 0: all; the paper's code: 400, after which the rate rises", least=0),
    )

    adapters: Any

    def build(self) -> None:
        super().build()
        model, rank = self.clip_model, self.options.RANK
        count = min(model.vision_layers, model.text_layers)
        if count < 2:
            raise UserError(f"Evi-Steer needs towers of 2 layers, and {model.name} has {count}: choose another model.")
        self.layers = range(1, count)
        widths = {"image": model.vision_width, "text": model.context_width}
        self.adapters = nn.ModuleDict(
            {
                tower: nn.ModuleDict({str(layer): Adapter(width, rank) for layer in self.layers})
                for tower, width in widths.items()
            }
        )
        self.pooled = model.text_tower.pooled_at(self.tokens.mask)
        self.alphas: dict[str, dict[int, Tensor]] = {"image": {}, "text": {}}

    def train(self, mode: bool = True) -> EviSteer:
        self.alphas = {"image": {}, "text": {}}
        super().train(mode)
        return self

    def text_features(self) -> Tensor:
        def change(layer: int, hidden: Tensor) -> Tensor:
            changed, alpha = self.adapters["text"][str(layer)](hidden, lambda uncertain: 1 - uncertain)
            self.alphas["text"][layer] = tokens_at(alpha, self.pooled)
            return changed

        return self.texts_by(self.clip_model, {layer: partial(change, layer) for layer in self.layers})

    def encode(self, images: Tensor, patches: bool = False) -> ImageFeatures:
        if not self.alphas["text"]:
            self.text_features()

        def change(layer: int, hidden: Tensor) -> Tensor:
            of_text = (1 / self.alphas["text"][layer]).mean(0)
            agreed = partial(fused, of_text=of_text)
            changed, self.alphas["image"][layer] = self.adapters["image"][str(layer)](hidden, agreed)
            return changed

        return self.images_by(
            self.clip_model, images, patches, {layer: partial(change, layer) for layer in self.layers}
        )

    def losses(self, inputs: Tensor, label: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        terms, logits = super().losses(inputs, label)
        divergences = [torch.stack([gamma_kl(a) for a in alphas.values()]).mean() for alphas in self.alphas.values()]
        return terms | {"kl": self.options.LAMBDA_KL * torch.stack(divergences).sum()}, logits

    def optimiser(self, optim: CfgNode, steps: int) -> tuple[Optimizer, LRScheduler | None]:
        optimiser, schedule = super().optimiser(optim, steps)
        cosine = cosine_in(schedule)
        if cosine is not None and self.options.T_MAX:
            cosine.T_max = self.options.T_MAX
        return optimiser, schedule
