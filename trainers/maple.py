"""MaPLe: prompts in both towers, the visual ones made from the textual ones (Khattak et al., CVPR 2023,
arXiv 2210.03117)."""

from __future__ import annotations

import copy

from torch import Tensor, nn

from ogkd.core import UserError
from ogkd.models import FrozenCLIP
from ogkd.tuning.deep_prompt_method import DeepPromptMethod, random_vectors
from ogkd.tuning.options import Option, Options
from ogkd.tuning.prompt_learner import PromptLearner
from ogkd.tuning.registration import register


class CoupledPromptLearner(PromptLearner):
    """Contexts for the first `depth` layers of the text tower and linear maps to those of the image tower, which start
    alike but for the first layer's. Words of CTX_INIT beyond the context stay as they are."""

    keeps_words = True

    def __init__(self, model: FrozenCLIP, *args, depth: int, **kwargs) -> None:
        super().__init__(model, *args, **kwargs)
        model.require_layers()
        most = min(model.text_layers, model.vision_layers)
        if not 1 <= depth <= most:
            raise UserError(f"The option DEPTH is {depth}, but with {model.name} it must be between 1 and {most}.")
        first = nn.Linear(model.context_width, model.vision_width)  # random numbers in the order of the authors' code
        self.deep = random_vectors(depth - 1, self.n_ctx, model.context_width)
        deeper = nn.Linear(model.context_width, model.vision_width)
        self.to_visual = nn.ModuleList([first, *(copy.deepcopy(deeper) for _ in range(depth - 1))])

    def visual_prompts(self) -> dict[int, Tensor]:
        """Prompts (n_ctx, vision width) of the image tower's first layers; class-specific contexts are averaged."""
        shared = self.ctx.mean(0) if self.ctx.dim() == 3 else self.ctx
        prompts = zip(self.to_visual, [shared, *self.deep], strict=True)
        return {layer: project(prompt) for layer, (project, prompt) in enumerate(prompts)}


@register
class MaPLe(DeepPromptMethod):
    """Cross entropy; the image tower sees prompts too, so every step encodes its images."""

    title, paper, row = "MaPLe", "2210.03117", 120
    prompt_learner: CoupledPromptLearner

    options = DeepPromptMethod.options.but(N_CTX=2) | Options(
        DEPTH=Option(9, "layers that get their own prompts, capped at the towers' depth", least=1),
    )

    def make_learner(self) -> CoupledPromptLearner:
        model = self.clip_model
        depth = min(self.options.DEPTH, model.text_layers, model.vision_layers)
        return CoupledPromptLearner.of(model, self.classnames, self.options, depth=depth)
