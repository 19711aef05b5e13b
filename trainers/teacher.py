"""The teacher: written prompts for each class, encoded once, and the prototypes made of them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from yacs.config import CfgNode

from clip import FrozenCLIP
from dassl.utils import UserError
from prompts.bank import load_prompts, template_prompts
from trainers.base import PromptTuner
from trainers.features import FeatureCache, text_features


def teacher_config() -> dict[str, str]:
    """The configuration keys of a method that has a teacher."""
    return {
        "PROMPTS": "bank",  # bank: written sentences; templates: general ones, for classes that have none
        "PROMPT_BANK": "",  # folder below prompts/; "" is the project's own bank
    }


def encode_teacher(
    model: FrozenCLIP, dataset_name: str, classnames: list[str], options: CfgNode, cache: FeatureCache
) -> Tensor:
    """Normalised features e_cm of each class' M teacher prompts, (C, M, D), on the model's device.

    Raises:
        UserError: a class without prompts, or an unknown source of prompts.
    """
    if options.PROMPTS not in ("bank", "templates"):
        raise UserError(f"PROMPTS is '{options.PROMPTS}'; it can be bank or templates.")
    if options.PROMPTS == "templates":
        sentences = template_prompts(classnames)
    else:
        sentences = load_prompts(dataset_name, classnames, bank=options.PROMPT_BANK)
    flat = [sentence for of_class in sentences for sentence in of_class]
    features = text_features(model, flat, cache, "teacher prompts").to(model.device)
    return features.unflatten(0, (len(classnames), -1))


def prototypes(prompts: Tensor) -> Tensor:
    """Mean prototypes, (..., C, M, D) -> (..., C, D), normalised."""
    return F.normalize(prompts.mean(-2), dim=-1)


def select_prompts(scores: Tensor, tau: float) -> Tensor:
    """Which of M prompts to keep, (M,) bool, by how far their scores (M,) lie from the median.

    zeta = (score - median) / mad, and a prompt is kept when its zeta is within tau standard deviations of the mean
    zeta. Scores that do not differ (mad or standard deviation 0), or none within tau, keep every prompt.
    """
    everything = torch.ones_like(scores, dtype=torch.bool)
    if len(scores) < 2:
        return everything
    deviation = scores - scores.median()
    zeta = deviation / deviation.abs().median()
    standardised = (zeta - zeta.mean()) / zeta.std()
    kept = standardised.abs() <= tau  # False where mad or std is 0: NaN compares so
    return torch.where(kept.any(), kept, everything)


def selected_prototypes(prompts: Tensor, image: Tensor, scale: float, tau: float) -> Tensor:
    """Prototypes u (C, D) of the prompts (C, M, D) that suit a batch of global tokens (B, D).

    A prompt's score is the mean over the batch of its largest logit over classes: one product for all of them.
    """
    n_cls, n_prompts, _ = prompts.shape
    logits = scale * image @ prompts.flatten(0, 1).t()
    scores = logits.view(-1, n_cls, n_prompts).amax(1).mean(0)
    kept = select_prompts(scores, tau).to(prompts.dtype)
    mean = torch.einsum("cmd,m->cd", prompts, kept) / kept.sum()
    return F.normalize(mean, dim=-1)


class TeacherTuner(PromptTuner):
    """A prompt tuner with a teacher, whose prompts are encoded when training begins (testing needs none).

    `self.prompts` (C, M, D) are normalised features of the prompts, `self.prototypes` (C, D) their means.
    """

    def encode_teacher(self, classnames: list[str]) -> Tensor:
        """Normalised features of the teacher prompts of classes of this data set, (C, M, D)."""
        with self.phases("encode teacher prompts"):
            name = self.dm.dataset.prompts_name
            return encode_teacher(self.clip_model, name, classnames, self.options, self.cache)

    def before_train(self) -> None:
        self.prompts = self.encode_teacher(self.classnames)
        self.prototypes = prototypes(self.prompts)
        super().before_train()
