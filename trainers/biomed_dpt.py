"""Biomed-DPT: a prompt in the modality's own words, distilled from an ensemble, and zeros in the image tower (Peng et
al., arXiv 2505.05189)."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from ogkd.core import UserError
from ogkd.models import FrozenCLIP, ImageFeatures
from ogkd.tuning.distillation import kl_loss
from ogkd.tuning.options import Option, Options
from ogkd.tuning.prompt_learner import POSITIONS, PromptLearner
from ogkd.tuning.prompt_method import PromptMethod
from ogkd.tuning.registration import register
from ogkd.tuning.task import Task
from ogkd.tuning.teacher import TEACHER_OPTIONS

PUBLISHED = "published"


class ModalityPromptLearner(PromptLearner):
    """The first tokens of CTX_INIT are learned, further ones stay as they are. In the position "published" only the
    first token behind the context stands in its middle, as the published code ran."""

    positions = (*POSITIONS, PUBLISHED)
    keeps_words = True

    def _moved(self, name: range, position: str) -> range:
        behind = self.start + self.n_ctx
        return range(behind, behind + 1) if position == PUBLISHED else name


class ZeroTokens:
    """A frozen model whose image tower sees `count` zero vectors at the input of each layer: in place of its first
    patch tokens, or behind the last. They learn nothing, so features are cached."""

    def __init__(self, model: FrozenCLIP, count: int, replace: bool) -> None:
        if not model.vision_layers:
            raise UserError(
                f"The image tower of {model.name} is not a ViT, so it takes no zero tokens: add "
                f"TRAINER.BIOMEDDPT.ZERO_TOKENS 0, or choose a model with a ViT."
            )
        self._model = model
        self.image_change = f"{count} zero tokens {'in place of patches' if replace else 'appended'}"
        zeros = torch.zeros(count, model.vision_width, device=model.device)
        self._prompts = dict.fromkeys(range(model.vision_layers), partial(_zeroed, count=count) if replace else zeros)

    def __getattr__(self, name: str) -> Any:
        if name == "_model":  # not made yet, as while unpickling
            raise AttributeError(name)
        return getattr(self._model, name)

    def encode_image(
        self, images: Tensor, patches: bool = False, prompts: None = None, projected: bool = True
    ) -> ImageFeatures:
        """As FrozenCLIP.encode_image."""
        return self._model.encode_image(images, patches, self._prompts, projected)


def _zeroed(hidden: Tensor, count: int) -> Tensor:
    return torch.cat([hidden[:, :1], torch.zeros_like(hidden[:, 1 : 1 + count]), hidden[:, 1 + count :]], dim=1)


def _check_ending(ending: str) -> None:
    if "{}" not in ending:
        raise UserError(f"The option ENDING is '{ending}', which has no {{}} for the class name.")


@register
class BiomedDPT(PromptMethod):
    """Total loss: CE + LAMBDA_L1 * the mean distance to the prototypes + LAMBDA_KL * distillation from them."""

    title, paper, row = "Biomed-DPT", "2505.05189", 132
    groups = ("prompt", "new")
    prompt_learner: ModalityPromptLearner

    options = (PromptMethod.options | TEACHER_OPTIONS).but(TEXT_DROPOUT=0.1) | Options(  # dropout as in published runs
        CLASS_TOKEN_POSITION=Option(
            "end",
            "position of the class name; published: only its first token, in the middle, as published runs had it",
            choices=ModalityPromptLearner.positions,
        ),
        ENDING=Option("{}.", "what follows the context, with {} for the class name", check=_check_ending),
        LAMBDA_L1=Option(
            18.75, "weight of the mean absolute difference from the mean prototypes", least=0, tune=(2.5, 75.0)
        ),
        LAMBDA_KL=Option(0.5, "weight of the distillation from the mean prototypes", least=0, tune=(0.1, 25.0)),
        ZERO_TOKENS=Option(4, "zero vectors at the input of each layer of the image tower", least=0, most=1000),
        REPLACE=Option(True, "put them in place of the first patches, which are then not seen, or behind the last"),
    )

    def build(self) -> None:
        options, model = self.options, self.clip_model
        self.prompt_learner = ModalityPromptLearner.of(model, self.classnames, options, ending=options.ENDING)
        self._view = ZeroTokens(model, options.ZERO_TOKENS, options.REPLACE) if options.ZERO_TOKENS else None

    @property
    def image_model(self) -> FrozenCLIP:
        return cast(FrozenCLIP, self._view or self.clip_model)

    def prepare(self, task: Task) -> None:
        super().prepare(task)
        self.prototypes = task.teacher(self).prototypes

    def terms(self, features: ImageFeatures, label: Tensor, text: Tensor, logits: Tensor) -> dict[str, Tensor]:
        teacher = self.scale * features.global_token @ self.prototypes.t()
        return {
            "ce": self.cross_entropy(logits, label),
            "l1": self.options.LAMBDA_L1 * F.l1_loss(text, self.prototypes),
            "kl": self.options.LAMBDA_KL * kl_loss(logits, teacher),
        }
