"""CoCoOp: a context that a small network shifts for every image (Zhou et al., CVPR 2022, arXiv 2203.05557)."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ogkd.models import FrozenCLIP, ImageFeatures
from ogkd.tuning.prompt_learner import PromptLearner
from ogkd.tuning.prompt_method import PromptMethod
from ogkd.tuning.registration import register

TEXTS_AT_ONCE = 512  # when testing; bounds the memory of B * C prompts


class ConditionalPromptLearner(PromptLearner):
    """A prompt learner with a meta-net, D -> D / 16 -> width, whose output is added to every context vector."""

    def __init__(self, model: FrozenCLIP, *args, **kwargs) -> None:
        super().__init__(model, *args, **kwargs)
        hidden = max(1, model.embed_dim // 16)
        self.meta_net = nn.Sequential(
            nn.Linear(model.embed_dim, hidden), nn.ReLU(), nn.Linear(hidden, model.context_width)
        )

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]  # contexts of an image
        """Sentences (B * C, L, width) for images (B, D), image by image, and their masks (B * C, L)."""
        shift = self.meta_net(image)[:, None, None]
        ctx = (self.ctx + shift).expand(-1, self.n_cls, -1, -1)
        return self.assemble(ctx).flatten(0, 1), self.mask.repeat(len(image), 1)


@register
class CoCoOp(PromptMethod):
    title, paper, row = "CoCoOp", "2203.05557", 90
    prompt_learner_class = ConditionalPromptLearner
    texts_per_image = True

    def text_features_for(self, image: Tensor) -> Tensor:
        """Normalised text features (B, C, D) for images (B, D), all prompts encoded as one batch."""
        learner = self.prompt_learner
        sentences, mask = learner(image)
        text = F.normalize(self.clip_model.encode_text(sentences, mask, dropout=learner.text_dropout), dim=-1)
        return text.unflatten(0, (len(image), -1))

    def logits(self, image: Tensor, text: Tensor | None = None) -> Tensor:
        """Logits (B, C) of images (B, D), each against its own prompts, whose features are `text` (B, C, D)."""
        text = self.text_features_for(image) if text is None else text
        return self.scale * torch.einsum("bd,bcd->bc", image, text)

    def losses(self, features: ImageFeatures, label: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        text = self.text_features_for(features.global_token)
        logits = self.logits(features.global_token, text)
        terms = {"ce": self.cross_entropy(logits, label)} | self.distilled(features, features, label, text, logits)
        return terms | self.calibration(label, text, logits), logits

    def classifier(self) -> Callable[[Tensor], Tensor]:
        self.eval()
        images = max(1, TEXTS_AT_ONCE // len(self.classnames))
        return lambda features: torch.cat([self.logits(piece) for piece in features.split(images)])

    def patch_classifier(self) -> Callable[[ImageFeatures], Tensor]:
        def classify(features: ImageFeatures) -> Tensor:
            text = [self.text_features_for(one) for one in features.global_token.split(1)]
            return self.scale * cast(Tensor, features.patch_tokens) @ torch.cat(text).transpose(1, 2)

        return classify
