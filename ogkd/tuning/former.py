"""Methods written for version 0.1, whose options were two class methods; removed in the version after 0.3.

They import PromptTuner, FeatureTrainer and `require` from trainers.parts, and ogkd/core/former.py leads them here.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from torch import nn

from ogkd.core.schema import number, one_of
from ogkd.features.cache import FeatureCache
from ogkd.tuning.feature_method import FeatureMethod
from ogkd.tuning.method import Method
from ogkd.tuning.options import Option, Options
from ogkd.tuning.prompt_learner import PROMPT_OPTIONS
from ogkd.tuning.prompt_method import PromptMethod


class FormerOptions(Options):
    """The options of a class's default_options, checked by its check_options."""

    def __init__(self, method: type[FormerMethod]) -> None:
        super().__init__(**{name: Option(value) for name, value in method.default_options().items()})
        self.method = method

    def check(self, values: Mapping[str, object]) -> None:
        self.method.check_options(values)


class FormerMethod(Method):
    """A method with the former names of the hooks."""

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        if cls.__module__ != __name__:
            sentence = f"{cls.__name__} is written for an earlier version: see docs/own_method.md"
            warnings.warn(sentence, DeprecationWarning, stacklevel=2)
        cls.options = FormerOptions(cls)

    @classmethod
    def default_options(cls) -> dict[str, Any]:
        return {}

    @classmethod
    def check_options(cls, options: Any) -> None:
        pass


class PromptTuner(FormerMethod, PromptMethod):
    """PromptMethod with the former names of its hooks."""

    @classmethod
    def default_options(cls) -> dict[str, Any]:
        return PROMPT_OPTIONS.defaults()

    @classmethod
    def check_options(cls, options: Any) -> None:
        PROMPT_OPTIONS.check(options)


class FeatureTrainer(FormerMethod, FeatureMethod):
    """FeatureMethod with the former names of its hooks."""

    @property
    def cache(self) -> FeatureCache:
        return self.feature_cache

    def build(self) -> None:
        self.build_method()

    def build_method(self) -> None:
        raise NotImplementedError

    def learn(self, name: str, module: nn.Module) -> None:
        self.folder = name
        setattr(self, name, module)


def require(options: Any, *keys: str, **bounds: float) -> None:
    """Raise UserError unless options are numbers within bounds (least, most, above, below)."""
    for key in keys:
        number(**bounds).check(f"The option {key}", options[key])


def require_choice(options: Any, key: str, *choices: str) -> None:
    """Raise UserError unless an option is one of some words."""
    one_of(*choices).check(f"The option {key}", options[key])
