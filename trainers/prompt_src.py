"""PromptSRC: prompts in both towers, held to what the frozen model says and averaged over epochs (Khattak et al., ICCV
2023, arXiv 2307.06948); IVLP, the same prompts by cross entropy; VPT, those of the image tower alone."""

from __future__ import annotations

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from ogkd.models import FrozenCLIP
from ogkd.tuning.calibration import CALIBRATION_OPTIONS
from ogkd.tuning.deep_prompt_method import DEEP_OPTIONS, DeepPromptMethod, VisualPrompts, random_vectors
from ogkd.tuning.distillation import kl_loss
from ogkd.tuning.options import Option, Options
from ogkd.tuning.prompt_learner import DISTIL_OPTION, MOST_CONTEXT, PromptLearner
from ogkd.tuning.registration import register
from ogkd.tuning.task import Task
from ogkd.tuning.teacher import TEACHER_OPTIONS
from ogkd.tuning.templates import TEMPLATE, template_features

VISUAL_OPTIONS = Options(
    N_CTX_VISION=Option(4, "number of vectors in the image tower", least=1, most=MOST_CONTEXT),
    DEPTH_VISION=Option(9, "layers of the image tower with their own, capped at its depth", least=1),
)


class IndependentPromptLearner(PromptLearner):
    """Contexts for the first layers of the text tower, and vectors for those of the image tower. Words of CTX_INIT
    beyond the context stay as they are."""

    keeps_words = True

    def __init__(self, model: FrozenCLIP, *args, depth: int, visual: VisualPrompts, **kwargs) -> None:
        super().__init__(model, *args, **kwargs)
        self.deep = random_vectors(min(depth, model.text_layers) - 1, self.n_ctx, model.context_width)
        self.visual_prompts = visual


@register
class IVLP(DeepPromptMethod):
    """Total loss: CE, as in every prompt method."""

    title, paper, row = "IVLP", "2307.06948", 124
    groups = ("prompt", "new")
    prompt_learner: IndependentPromptLearner

    options = DeepPromptMethod.options | VISUAL_OPTIONS | Options(
        DEPTH_TEXT=Option(9, "layers of the text tower with contexts of their own, capped at its depth", least=1),
    )  # fmt: skip

    def make_learner(self) -> IndependentPromptLearner:
        options, model = self.options, self.clip_model
        visual = VisualPrompts(model, options.N_CTX_VISION, options.DEPTH_VISION)
        return IndependentPromptLearner.of(model, self.classnames, options, depth=options.DEPTH_TEXT, visual=visual)


@register
class PromptSRC(IVLP):
    """Total loss: CE + the mean absolute differences of text and image features from the frozen ones + the KL to the
    frozen model's logits. What is tested is a mean over epochs, weighted by a normal density."""

    title, paper, row = "PromptSRC", "2307.06948", 126
    sees_frozen = True

    options = IVLP.options | TEACHER_OPTIONS | Options(
        LAMBDA_TEXT=Option(25.0, "weight of the difference from the mean prototypes", least=0, tune=(2.5, 100.0)),
        LAMBDA_IMAGE=Option(
            10.0, "weight of the difference from the frozen tower's image features", least=0, tune=(1.0, 100.0)
        ),
        LAMBDA_LOGITS=Option(1.0, "weight of the KL to the frozen model's logits", least=0, tune=(0.1, 10.0)),
        GPA_MEAN=Option(15.0, "the epoch, from 1, that weighs most in the mean over epochs"),
        GPA_STD=Option(1.0, "standard deviation of these weights, in epochs", above=0),
    )  # fmt: skip

    def prepare(self, task: Task) -> None:
        super().prepare(task)
        self.prototypes = task.teacher(self).prototypes

    def against_frozen(self, image: Tensor, frozen: Tensor, text: Tensor, logits: Tensor) -> dict[str, Tensor]:
        options, teacher = self.options, self.scale * frozen @ self.prototypes.t()
        return {
            "text": options.LAMBDA_TEXT * F.l1_loss(text, self.prototypes),
            "image": options.LAMBDA_IMAGE * F.l1_loss(image, frozen),
            "logits": options.LAMBDA_LOGITS * kl_loss(logits, teacher),
        }

    def epoch_weight(self, epoch: int, epochs: int) -> float:
        exponents = -((np.arange(1, epochs + 1) - self.options.GPA_MEAN) ** 2) / (2 * self.options.GPA_STD**2)
        weights = np.exp(exponents - exponents.max())  # in proportion to the density, and never all zero
        return float(weights[epoch] / weights.sum())


class VisualPromptLearner(nn.Module):
    """Vectors for the first layers of the image tower."""

    def __init__(self, visual: VisualPrompts) -> None:
        super().__init__()
        self.visual_prompts = visual


@register
class VPT(DeepPromptMethod):
    """Total loss: CE; the text is a template."""

    title, paper, row = "VPT", "2203.12119", 122
    groups = ("prompt", "new")
    prompt_learner: VisualPromptLearner

    options = DEEP_OPTIONS | DISTIL_OPTION | CALIBRATION_OPTIONS | VISUAL_OPTIONS | Options(
        TEMPLATE=Option(TEMPLATE, "the hand-written prompt"),
    )  # fmt: skip

    def make_learner(self) -> VisualPromptLearner:
        options, model = self.options, self.clip_model
        self.text = template_features(model, self.classnames, options.TEMPLATE, self.feature_cache)
        return VisualPromptLearner(VisualPrompts(model, options.N_CTX_VISION, options.DEPTH_VISION))

    def text_features(self) -> Tensor:
        return self.text
