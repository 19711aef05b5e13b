"""Methods by name, and their trainers in Dassl's registry."""

from __future__ import annotations

from typing import Any, TypeVar

from ogkd.tuning.method import Method

METHODS: dict[str, type[Method]] = {}
"""Every method that was defined with `register`, by name."""

_registries: list[Any] = []
_Kind = TypeVar("_Kind", bound=type[Method])


def register(method: _Kind) -> _Kind:
    """Decorator: offer a method under its class's name. Dassl's registry gets a trainer for it as soon as
    `register_all` is called, so that importing a method changes nothing in a program that has its own trainers."""
    METHODS[method.__name__] = method
    for registry in _registries:
        registry.register(trainer_of(method))
    return method


def register_all(registry: Any) -> None:
    """Register the trainers of all methods with Dassl, and from now on of each further one."""
    if registry not in _registries:
        _registries.append(registry)
        for method in METHODS.values():
            registry.register(trainer_of(method))


def trainer_of(method: type[Method], name: str = "") -> type[Any]:
    """A subclass of ClipTrainer for a method. `name`: another name in the registry than the method's own."""
    from ogkd.tuning.clip_trainer import ClipTrainer  # Dassl's engine takes a second to import

    facts = {"method_class": method, "__module__": method.__module__, "__doc__": method.__doc__}
    return type(name or method.__name__, (ClipTrainer,), facts)
