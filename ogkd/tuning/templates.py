"""Class names in a hand-written sentence, and their frozen features."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ogkd.core import UserError
from ogkd.data.names import class_words
from ogkd.features.cache import FeatureCache
from ogkd.features.encode import text_features
from ogkd.models import FrozenCLIP

TEMPLATE = "a photo of a {}."


def template_features(
    model: FrozenCLIP, classnames: Sequence[str], template: str, cache: FeatureCache, normalised: bool = True
) -> Tensor:
    """Features (C, D) of each class name in a template, on the model's device.

    Raises:
        UserError: the template has no {} for the class name, or two classes have the same prompt.
    """
    sentences = sentences_in(template, model, classnames)
    return text_features(model, sentences, cache, "class names", normalised=normalised).to(model.device)


def sentences_in(template: str, model: FrozenCLIP, classnames: Sequence[str]) -> list[str]:
    """Each class name in a template; raises UserError as `template_features`."""
    if "{}" not in template:
        raise UserError(f"The template '{template}' has no {{}} for the class name.")
    sentences = [template.replace("{}", class_words(name)) for name in classnames]
    check_distinct(model, classnames, [[sentence] for sentence in sentences])
    return sentences


def check_distinct(model: FrozenCLIP, classnames: Sequence[str], sentences: Sequence[list[str]]) -> None:
    """Raise UserError if the model's tokenizer reads the sentences of two classes as the same tokens, as it does where
    it knows none of the letters: every image would have the same logit for both."""
    before: dict[str, str] = {}
    for name, of_class in zip(classnames, sentences, strict=True):
        other = before.setdefault(str(model.tokenize(of_class).ids.tolist()), name)
        if other != name:
            raise UserError(
                f"The classes {other!r} and {name!r} have the same prompt, since the tokenizer of {model.name} reads "
                f"both as the same tokens ({of_class[0]!r}): name them in words that it tells apart."
            )
