"""A table from names to objects; classes register with a decorator."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeVar, overload

from ogkd.core import check_availability

Registered = TypeVar("Registered", bound=Callable[..., Any])  # a class or a function, which keeps its own type


class Registry:
    """
    >>> TRAINERS = Registry("TRAINER")
    >>> @TRAINERS.register()
    ... class Mine: ...
    >>> TRAINERS.get("Mine") is Mine
    True
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._obj_map: dict[str, Any] = {}
        self._replaceable: dict[str, Any] = {}

    @contextlib.contextmanager
    def replaceable(self) -> Iterator[None]:
        """Let classes inside the block replace names registered before it. If the block fails, the registry is
        restored."""
        before = dict(self._obj_map)
        self._replaceable = before
        try:
            yield
        except BaseException:
            self._obj_map = before
            raise
        finally:
            self._replaceable = {}

    def _do_register(self, name: str, obj: Any, force: bool) -> None:
        if name in self._obj_map and self._obj_map[name] is not self._replaceable.get(name) and not force:
            raise KeyError(f"'{name}' is already registered in the {self._name} registry")
        self._obj_map[name] = obj

    @overload
    def register(self, obj: None = None, force: bool = False) -> Callable[[Registered], Registered]: ...

    @overload
    def register(self, obj: Registered, force: bool = False) -> Registered: ...

    def register(self, obj: Any = None, force: bool = False) -> Any:
        if obj is not None:
            self._do_register(obj.__name__, obj, force)
            return obj

        def wrapper(fn_or_class: Any) -> Any:
            self._do_register(fn_or_class.__name__, fn_or_class, force)
            return fn_or_class

        return wrapper

    def get(self, name: str) -> Any:
        if name not in self._obj_map:
            raise KeyError(f"'{name}' is not in the {self._name} registry: {', '.join(self._obj_map)}")
        return self._obj_map[name]

    def named(self, name: str, title: str = "") -> Any:
        """The object called `name`, after printing it under a title, if any.

        Raises WrongValue, with the nearest names, when there is none.
        """
        check_availability(name, self.registered_names())
        if title:
            print(f"{title}: {name}")
        return self._obj_map[name]

    def registered_names(self) -> list[str]:
        return list(self._obj_map)
