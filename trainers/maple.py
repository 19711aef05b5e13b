"""MaPLe: prompts in both towers, the visual ones made from the textual ones (Khattak et al., CVPR 2023,
arXiv 2210.03117)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from yacs.config import CfgNode

from ogkd.core import UserError
from ogkd.models import FrozenCLIP, ImageFeatures
from ogkd.tuning.options import Option, Options
from ogkd.tuning.prompt_learner import PromptLearner
from ogkd.tuning.prompt_method import PromptMethod
from ogkd.tuning.registration import register


class CoupledPromptLearner(PromptLearner):
    """Contexts for the first `depth` layers of the text tower and linear maps to those of the image tower."""

    def __init__(self, model: FrozenCLIP, *args, depth: int, **kwargs) -> None:
        super().__init__(model, *args, **kwargs)
        most = min(model.text_layers, model.vision_layers)
        if not most:
            raise UserError(
                f"The image tower of {model.name} is not a ViT, so it has no layers for prompts: choose another model, "
                "such as BiomedCLIP, or another method."
            )
        if not 1 <= depth <= most:
            raise UserError(f"The option DEPTH is {depth}, but with {model.name} it must be between 1 and {most}.")
        shape = (self.n_ctx, model.context_width)
        self.deep = nn.ParameterList(nn.Parameter(torch.empty(shape).normal_(std=0.02)) for _ in range(depth - 1))
        self.to_visual = nn.ModuleList(nn.Linear(model.context_width, model.vision_width) for _ in range(depth))

    @classmethod
    def of(cls, model: FrozenCLIP, classnames: Sequence[str], options: CfgNode) -> CoupledPromptLearner:
        return cls(
            model, classnames, options.N_CTX, options.CTX_INIT, options.CSC, options.CLASS_TOKEN_POSITION,
            options.TEXT_DROPOUT, depth=options.DEPTH,
        )  # fmt: skip

    def visual_prompts(self) -> dict[int, Tensor]:
        """Prompts (n_ctx, vision width) of the image tower's first layers; class-specific contexts are averaged."""
        shared = self.ctx.mean(0) if self.ctx.dim() == 3 else self.ctx
        prompts = zip(self.to_visual, [shared, *self.deep], strict=True)
        return {layer: project(prompt) for layer, (project, prompt) in enumerate(prompts)}


@register
class MaPLe(PromptMethod):
    """Cross entropy; the image tower sees prompts too, so every step encodes its images."""

    title, paper, row = "MaPLe", "2210.03117", 120
    frozen_images = False
    prompt_learner: CoupledPromptLearner

    options = PromptMethod.options.but(N_CTX=2, CTX_INIT="a photo") | Options(
        DEPTH=Option(9, "layers that get their own prompts, capped at the towers' depth", least=1),
        PREC=Option("amp", "amp: bfloat16 where it is safe, on a GPU", choices=("amp", "fp32")),
    )

    def build(self) -> None:
        options = self.options.clone()
        options.defrost()
        options.DEPTH = min(options.DEPTH, self.clip_model.text_layers, self.clip_model.vision_layers)
        self.prompt_learner = CoupledPromptLearner.of(self.clip_model, self.classnames, options)
        self.mixed = self.options.PREC == "amp" and self.device.type == "cuda"

    def text_features(self) -> Tensor:
        """Normalised text features (C, D)."""
        learner = self.prompt_learner
        sentences, mask = learner()
        text = self.clip_model.encode_text(
            sentences, mask, dict(enumerate(learner.deep, 1)), learner.context_positions(), learner.text_dropout
        )
        return F.normalize(text, dim=-1)

    def encode(self, images: Tensor, patches: bool = False) -> ImageFeatures:
        """Normalised tokens of images, with the coupled prompts in the tower."""
        out = self.clip_model.encode_image(images.to(self.device), patches, self.prompt_learner.visual_prompts())
        tokens = out.patch_tokens
        return ImageFeatures(
            F.normalize(out.global_token, dim=-1), None if tokens is None else F.normalize(tokens, dim=-1)
        )

    def losses(self, inputs: Tensor, label: Tensor) -> tuple[dict[str, Tensor], Tensor]:  # type: ignore[override]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed):
            image, text = self.encode(inputs).global_token, self.text_features()
        logits = self.scale * image.float() @ text.float().t()
        return {"ce": self.cross_entropy(logits, label)} | self.calibration(label, text.float(), logits), logits

    def classifier(self) -> Callable[[Tensor], Tensor]:
        self.eval()
        text = self.text_features()
        return lambda features: self.scale * features @ text.t()
