"""Class names in a hand-written sentence, and their frozen features."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from clip import FrozenCLIP
from dassl.utils import UserError
from datasets.splits import class_words
from features.cache import FeatureCache
from features.encode import text_features

TEMPLATE = "a photo of a {}."


def template_features(model: FrozenCLIP, classnames: Sequence[str], template: str, cache: FeatureCache) -> Tensor:
    """Normalised features (C, D) of each class name in a template, on the model's device.

    Raises:
        UserError: the template has no {} for the class name.
    """
    if "{}" not in template:
        raise UserError(f"The template '{template}' has no {{}} for the class name.")
    sentences = [template.replace("{}", class_words(name)) for name in classnames]
    return text_features(model, sentences, cache, "class names").to(model.device)
