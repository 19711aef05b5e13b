"""The base class of methods whose prompts reach into the towers' layers, the image tower's included."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ogkd.features.encode import encode_images
from ogkd.models import FrozenCLIP, ImageFeatures
from ogkd.tuning.options import Option, Options
from ogkd.tuning.prompt_method import PromptMethod

DEEP_OPTIONS = Options(PREC=Option("amp", "amp: bfloat16 where it is safe, on a GPU", choices=("amp", "fp32")))


def random_vectors(layers: int, count: int, width: int) -> nn.ParameterList:
    """Vectors (count, width) for each of some layers, N(0, 0.02^2)."""
    return nn.ParameterList(nn.Parameter(torch.empty(count, width).normal_(std=0.02)) for _ in range(layers))


class VisualPrompts(nn.Module):
    """Vectors behind the patch tokens, their own for each of the image tower's first layers."""

    def __init__(self, model: FrozenCLIP, count: int, depth: int) -> None:
        super().__init__()
        self.vectors = random_vectors(min(depth, model.vision_layers), count, model.vision_width)

    def forward(self) -> dict[int, Tensor]:
        """Vectors (count, vision width) by layer."""
        return dict(enumerate(self.vectors))


class DeepPromptMethod(PromptMethod):
    """The image tower sees prompts, so every step encodes its images. `prompt_learner` has `deep`, the vectors of the
    text tower's layers from the second, and `visual_prompts`."""

    frozen_images = False
    sees_frozen = False  # do `against_frozen` or its like need the frozen tower's features of the images?
    options = PromptMethod.options | DEEP_OPTIONS
    prompt_learner: Any

    def build(self) -> None:
        self.clip_model.require_layers()
        self.mixed = self.options.PREC == "amp" and self.device.type == "cuda"
        self.prompt_learner = self.make_learner()

    def make_learner(self) -> nn.Module:
        raise NotImplementedError

    def text_features(self) -> Tensor:
        """Normalised text features (C, D)."""
        learner = self.prompt_learner
        sentences, mask = learner()
        text = self.clip_model.encode_text(
            sentences, mask, dict(enumerate(learner.deep, 1)), learner.context_positions(), learner.text_dropout
        )
        return F.normalize(text, dim=-1)

    def encode(self, images: Tensor, patches: bool = False) -> ImageFeatures:
        """Normalised tokens of images, with the prompts in the tower. Those of the first layer pass through the norm
        that the tower has before its layers, if any, as the patches do."""
        prompts = self.prompt_learner.visual_prompts()
        prompts[0] = self.clip_model.image_norm(prompts[0])
        return self.clip_model.encode_image(images.to(self.device), patches, prompts).normalised()

    def losses(self, inputs: Tensor, label: Tensor) -> tuple[dict[str, Tensor], Tensor]:  # type: ignore[override]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed):
            features, text = self.encode(inputs, self.uses_patches), self.text_features().float()
        tokens = features.patch_tokens
        features = ImageFeatures(features.global_token.float(), None if tokens is None else tokens.float())
        logits = self.scale * features.global_token @ text.t()
        terms = self.terms(features, label, text, logits)
        if self.sees_frozen or self.distillation:
            frozen = encode_images(self.clip_model, inputs, self.uses_patches)
            terms |= self.against_frozen(features.global_token, frozen.global_token, text, logits)
            terms |= self.distilled(features, frozen, label, text, logits)
        return terms | self.calibration(label, text, logits), logits

    def against_frozen(self, image: Tensor, frozen: Tensor, text: Tensor, logits: Tensor) -> dict[str, Tensor]:
        """Further loss terms, given the images' features (B, D) with prompts and without."""
        return {}

    def classifier(self) -> Callable[[Tensor], Tensor]:
        self.eval()
        text = self.text_features()
        return lambda features: self.scale * features @ text.t()
