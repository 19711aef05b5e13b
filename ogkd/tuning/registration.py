"""Registers the methods with Dassl, beside the trainers that a code base has already."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from typing import Any

from dassl.engine import TRAINER_REGISTRY

PREFIX = "OGKD_"
METHODS: dict[str, Any] = {}
"""Every method by its own name, whether Dassl knows it or not."""
_registered: dict[str, Any] = {}


@contextlib.contextmanager
def collected() -> Iterator[None]:
    """Trainers that register with Dassl inside the block become METHODS instead, so that names which are taken, or will
    be, are no error."""
    registry = TRAINER_REGISTRY
    theirs, registry._obj_map = registry._obj_map, {}
    try:
        yield
    finally:
        METHODS.update(registry._obj_map)
        registry._obj_map = theirs


def register_methods(sections: Collection[str] = ()) -> list[Any]:
    """Register METHODS with Dassl, each once, and return the registered classes.

    One whose name is taken, by another trainer or by one of the `sections` of the configuration, gets a prefix.
    """
    for name, method in METHODS.items():
        if name in _registered:
            continue
        if name in TRAINER_REGISTRY.registered_names() or name.upper() in sections:
            print(f"ogkd: {name} is this code base's own; ours is {PREFIX}{name}.")
            method = type(
                f"{PREFIX}{name}", (method,), {"__module__": method.__module__, "title": method.title or name}
            )
        TRAINER_REGISTRY.register(method)
        _registered[name] = method
    return list(_registered.values())
