"""TCP: vectors made from each class's text take the contexts' places in the middle of the text tower (Yao et al., CVPR
2024, arXiv 2311.18231)."""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ogkd.models import FrozenCLIP, ImageFeatures
from ogkd.tuning.options import Option, Options
from ogkd.tuning.prompt_learner import PromptLearner
from ogkd.tuning.prompt_method import PromptMethod
from ogkd.tuning.registration import register
from ogkd.tuning.templates import TEMPLATE, template_features


class QuickGELU(nn.Module):
    """CLIP's approximation of GELU."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class ClassAwarePromptLearner(PromptLearner):
    """A prompt learner with a bottleneck from a class's text feature, D -> D / reduction -> n_ctx * width."""

    def __init__(self, model: FrozenCLIP, *args, reduction: int, **kwargs) -> None:
        super().__init__(model, *args, **kwargs)
        hidden = max(1, model.embed_dim // reduction)
        self.meta_net = nn.Sequential(
            OrderedDict(
                linear1=nn.Linear(model.embed_dim, hidden),
                gelu=QuickGELU(),
                linear2=nn.Linear(hidden, self.n_ctx * model.context_width),
            )
        )

    def class_vectors(self, text: Tensor) -> Tensor:
        """Vectors (C, n_ctx, width) of classes with text features (C, D)."""
        return self.meta_net(text).unflatten(1, (self.n_ctx, -1))


@register
class TCP(PromptMethod):
    """Total loss: CE + W (1 - mean cosine of learned and template text features)."""

    title, paper, row = "TCP", "2311.18231", 112
    groups = ("prompt", "new")
    prompt_learner: ClassAwarePromptLearner

    options = PromptMethod.options.but(CTX_INIT="") | Options(
        TEMPLATE=Option(TEMPLATE, "the hand-written prompt"),
        LAYER=Option(8, "the text layer, from 0, that reads the classes' vectors; capped at the last", least=0),
        REDUCTION=Option(4, "how many times narrower than a text feature the bottleneck is", least=1),
        W=Option(8.0, "weight of the likeness to the template", least=0, tune=(0.5, 16.0)),
    )

    def build(self) -> None:
        model, options = self.clip_model, self.options
        self.prompt_learner = ClassAwarePromptLearner.of(model, self.classnames, options, reduction=options.REDUCTION)
        self.frozen = template_features(model, self.classnames, options.TEMPLATE, self.feature_cache)
        self.layer = min(options.LAYER, model.text_layers - 1)

    def text_features(self) -> Tensor:
        learner = self.prompt_learner
        sentences, mask = learner()
        deep = {self.layer: learner.class_vectors(self.frozen)}
        text = self.clip_model.encode_text(sentences, mask, deep, learner.context_positions(), learner.text_dropout)
        return F.normalize(text, dim=-1)

    def terms(self, features: ImageFeatures, label: Tensor, text: Tensor, logits: Tensor) -> dict[str, Tensor]:
        likeness = F.cosine_similarity(text, self.frozen, dim=-1).mean()
        return super().terms(features, label, text, logits) | {"kg": self.options.W * (1 - likeness)}
