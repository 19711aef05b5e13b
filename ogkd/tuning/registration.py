"""Methods by name, and their trainers in Dassl's registry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from ogkd.tuning.method import Method

METHODS: dict[str, type[Method]] = {}
"""Every method that was defined with `register`, by name."""

offers: list[Callable[[type[Method]], object]] = []
"""What is called with each method that is defined from now on."""

_Kind = TypeVar("_Kind", bound=type[Method])


def register(method: _Kind) -> _Kind:
    """Decorator: offer a method under its class's name. Dassl's registry gets its trainer when
    `ogkd.tuning.checkout.register_methods` is called, so that importing a method changes nothing in a program that has
    trainers of its own; those of plugins, which are defined later, at once."""
    METHODS[method.__name__] = method
    for offer in offers:
        offer(method)
    return method


def trainer_of(method: type[Method], name: str = "") -> type[Any]:
    """A subclass of ClipTrainer for a method. `name`: another name in the registry than the method's own."""
    from ogkd.tuning.clip_trainer import ClipTrainer  # Dassl's engine takes a second to import

    facts = {"method_class": method, "__module__": method.__module__, "__doc__": method.__doc__}
    return type(name or method.__name__, (ClipTrainer,), facts)
