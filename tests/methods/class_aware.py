"""Class-aware prompts: vectors made from each class's text take the contexts' places in the middle of the text tower,
after TCP (Yao et al., CVPR 2024, arXiv 2311.18231)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from ogkd.core import UserError
from ogkd.models import ImageFeatures
from ogkd.tuning.options import Option, Options
from ogkd.tuning.prompt_method import PromptMethod
from ogkd.tuning.registration import register
from ogkd.tuning.templates import TEMPLATE, template_features


@register
class ClassAware(PromptMethod):
    """Total loss: CE + W (1 - mean cosine of learned and template text features)."""

    title, paper, row = "Class-aware prompts", "2311.18231", 105
    options = PromptMethod.options | Options(
        TEMPLATE=Option(TEMPLATE, "the hand-written prompt"),
        LAYER=Option(0, "the text layer, from 1, that reads the vectors; 0: the middle one", least=0),
        REDUCTION=Option(4, "how many times narrower than a text feature the bottleneck is", least=1),
        W=Option(8.0, "weight of the likeness to the template", least=0),
    )

    def build(self) -> None:
        super().build()
        model, options = self.clip_model, self.options
        self.layer = options.LAYER or max(1, model.text_layers // 2)
        if self.layer >= model.text_layers:
            most = model.text_layers - 1
            raise UserError(f"The option LAYER is {self.layer}, but with {model.name} it is at most {most}.")
        self.frozen = template_features(model, self.classnames, options.TEMPLATE, self.feature_cache)
        hidden = max(1, model.embed_dim // options.REDUCTION)
        self.to_vectors = nn.Sequential(
            nn.Linear(model.embed_dim, hidden), nn.ReLU(), nn.Linear(hidden, options.N_CTX * model.context_width)
        )

    def text_features(self) -> Tensor:
        learner = self.prompt_learner
        sentences, mask = learner()
        vectors = self.to_vectors(self.frozen).unflatten(1, (learner.n_ctx, -1))  # (C, n_ctx, width)
        text = self.clip_model.encode_text(
            sentences, mask, {self.layer: vectors}, learner.context_positions(), learner.text_dropout
        )
        return F.normalize(text, dim=-1)

    def terms(self, features: ImageFeatures, label: Tensor, text: Tensor, logits: Tensor) -> dict[str, Tensor]:
        likeness = F.cosine_similarity(text, self.frozen, dim=-1).mean()
        return super().terms(features, label, text, logits) | {"kg": self.options.W * (1 - likeness)}
