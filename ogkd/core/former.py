"""Modules under a second name: CoOp's names for parts of this project, and names from before version 0.3."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import warnings
from collections.abc import Mapping
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

FORMER = {
    "runs": "ogkd.runs",
    **{f"runs.{name}": f"ogkd.predict.{name}" for name in ("classifier", "predictor", "trained", "export")},
    "reports": "ogkd.reports",
    **{f"reports.{name}": f"ogkd.evaluation.{name}" for name in ("collect", "metrics", "predictions", "statistics")},
    "geometry": "ogkd.classes",
    "phantom.dataset": "ogkd.phantom.dataset",
    "trainers.parts": "ogkd.tuning",
}
"""Documented names from before version 0.3; they are removed in the version after it."""


class Alias(Loader):
    """Loads a module that already exists under another name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(self.name)
        self.spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.spec  # the import system has set the alias's spec


class Aliases(MetaPathFinder):
    """Finds modules by other names; a name covers the modules below it."""

    def __init__(self, names: Mapping[str, str], warn: bool) -> None:
        self.names, self.warn = names, warn

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        parts = fullname.split(".")
        for length in range(len(parts), 0, -1):
            new = self.names.get(".".join(parts[:length]))
            if new is not None:
                name = ".".join([new, *parts[length:]])
                if not _exists(name):  # it may be another finder's, such as that of plugins/
                    return None
                if self.warn:
                    warnings.warn(f"{fullname} is now {name}", DeprecationWarning, stacklevel=2)
                return importlib.util.spec_from_loader(fullname, Alias(name))
        return None


def _exists(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # of a package above it
        return False


def alias(names: Mapping[str, str], warn: bool = False) -> None:
    """Make modules importable under further names."""
    sys.meta_path.insert(0, Aliases(names, warn))
