"""The teacher: written prompts for each class, encoded once, and the prototypes computed from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor
from yacs.config import CfgNode

from ogkd.core import UserError
from ogkd.features.cache import FeatureCache
from ogkd.features.encode import text_features
from ogkd.models import FrozenCLIP
from ogkd.prompts.bank import load_prompts, template_prompts
from ogkd.tuning.method import Method, Sentences
from ogkd.tuning.options import Option, Options
from ogkd.tuning.templates import check_distinct

TEACHER_OPTIONS = Options(
    PROMPTS=Option(
        "bank",
        "bank: sentences written per class; templates: generic ones, for classes without",
        choices=("bank", "templates"),
    ),
    PROMPT_BANK=Option("", 'folder below prompts/, or a path elsewhere; "" is the project\'s own bank'),
)
"""The options of a method that has a teacher."""


@dataclass(frozen=True)
class Teacher:
    """Normalised features of each class's prompts, (C, M, D), on the model's device."""

    prompts: Tensor

    @classmethod
    def of(cls, method: Method, classnames: list[str], source: Sentences | None = None) -> Teacher:
        """The teacher that a method's options select, or of another source of sentences, for some classes.

        Raises:
            UserError: a class has no prompts, two have the same, or the source of prompts is unknown.
        """
        sentences = (source or cast(Sentences, method.sentences))(classnames)
        check_distinct(method.clip_model, classnames, sentences)
        return cls(encode_sentences(method.clip_model, sentences, method.feature_cache))

    @property
    def prototypes(self) -> Tensor:
        """Mean prototypes e (C, D), normalised."""
        return F.normalize(self.prompts.mean(-2), dim=-1)

    def selected_prototypes(self, image: Tensor, scale: float, tau: float) -> Tensor:
        """Prototypes u (C, D) of the prompts that suit a batch of global tokens (B, D).

        A prompt's score is its largest logit over the classes, averaged over the batch; one matrix product computes all
        scores.
        """
        n_cls, n_prompts, _ = self.prompts.shape
        logits = scale * image @ self.prompts.flatten(0, 1).t()
        scores = logits.view(-1, n_cls, n_prompts).amax(1).mean(0)
        selected = select_prompts(scores, tau).to(self.prompts.dtype)
        mean = torch.einsum("cmd,m->cd", self.prompts, selected) / selected.sum()
        return F.normalize(mean, dim=-1)


def sentences_of(dataset: object, classnames: list[str], options: CfgNode, name: str, method: str) -> list[list[str]]:
    """The sentences of each class: those passed in with the data set, or else those that the options of `method`
    select, stored under the data set's own name for them or, if it has none, under `name`.

    Raises:
        UserError: a class has no sentences, or their source is unknown.
    """
    given = getattr(dataset, "sentences", None)
    if given is None:
        return teacher_sentences(getattr(dataset, "prompts_name", name), classnames, options, method)
    missing = [name for name in classnames if not given.get(name)]
    if missing:
        raise UserError(f"There are no sentences for the class '{missing[0]}': give some for every class.")
    return [given[name] for name in classnames]


def teacher_sentences(dataset: str, classnames: list[str], options: CfgNode, method: str) -> list[list[str]]:
    """The sentences of each class, equally many per class, from the source that a method's options select."""
    if options.PROMPTS == "templates":
        return template_prompts(classnames)
    return load_prompts(dataset, classnames, bank=options.PROMPT_BANK, method=method)


def encode_sentences(model: FrozenCLIP, sentences: list[list[str]], cache: FeatureCache) -> Tensor:
    """Normalised features (C, M, D) of M sentences for each of C classes, on the model's device."""
    flat = [sentence for of_class in sentences for sentence in of_class]
    features = text_features(model, flat, cache, "teacher prompts").to(model.device)
    return features.unflatten(0, (len(sentences), -1))


def select_prompts(scores: Tensor, tau: float) -> Tensor:
    """Which of M prompts to keep, (M,) bool, by the distance of their scores (M,) from the median.

    zeta = (score - median) / mad, and a prompt is kept if its zeta is within tau standard deviations of the mean zeta.
    If the scores do not differ (mad or standard deviation 0), or none is within tau, every prompt is kept.
    """
    everything = torch.ones_like(scores, dtype=torch.bool)
    if len(scores) < 2:
        return everything
    deviation = scores - scores.median()
    zeta = deviation / deviation.abs().median()
    standardised = (zeta - zeta.mean()) / zeta.std()
    within = standardised.abs() <= tau  # False where mad or std is 0, since NaN <= tau is False
    return torch.where(within.any(), within, everything)
