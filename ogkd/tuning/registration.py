"""Methods by name, and their trainers in Dassl's registry, beside those that a code base has already."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, TypeVar

from ogkd.tuning.method import Method

PREFIX = "OGKD_"
METHODS: dict[str, type[Method]] = {}
"""Every method that was defined with `register`, by name."""
_registered: dict[str, type[Any]] = {}
_offers: list[Callable[[type[Method]], object]] = []  # called with each method that is defined from now on

_Kind = TypeVar("_Kind", bound=type[Method])


def register(method: _Kind) -> _Kind:
    """Decorator: offer a method under its class's name. Dassl's registry gets its trainer when `register_methods` is
    called, so that importing a method changes nothing in a program that has trainers of its own; those of plugins,
    which are defined later, at once."""
    METHODS[method.__name__] = method
    for offer in _offers:
        offer(method)
    return method


def trainer_of(method: type[Method], name: str = "") -> type[Any]:
    """A subclass of ClipTrainer for a method. `name`: another name in the registry than the method's own."""
    from ogkd.tuning.clip_trainer import ClipTrainer  # Dassl's engine takes a second to import

    facts = {"method_class": method, "__module__": method.__module__, "__doc__": method.__doc__}
    return type(name or method.__name__, (ClipTrainer,), facts)


def register_methods(sections: Collection[str] = ()) -> list[type[Any]]:
    """Register a trainer for every method with Dassl, each once, and from now on for each further one; return them.

    One whose name is taken, by another trainer or by one of the `sections` of the configuration, gets a prefix.
    """
    from dassl.engine import TRAINER_REGISTRY  # takes a second to import

    for name, method in METHODS.items():
        if name in _registered:
            continue
        if name in TRAINER_REGISTRY.registered_names() or name.upper() in sections:
            print(f"ogkd: {name} is this code base's own; ours is {PREFIX}{name}.")
            _registered[name] = trainer_of(method, f"{PREFIX}{name}")
        else:
            _registered[name] = trainer_of(method)
        TRAINER_REGISTRY.register(_registered[name])
    if not _offers:
        _offers.append(lambda method: TRAINER_REGISTRY.register(trainer_of(method)))
    return list(_registered.values())
