"""Modules of a checkout under a second name: CoOp's `trainers`, and names from before version 0.3."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from ogkd.core.places import HOME, PACKAGE

_PREDICT = ("card", "classifier", "export", "heatmaps", "interpret", "predictor", "trained")
_EVALUATION = ("collect", "doubts", "methods", "metrics", "predictions", "relations", "statistics")
FORMER = {
    "runs": "ogkd.runs",
    **{f"runs.{name}": f"ogkd.predict.{name}" for name in _PREDICT},
    "reports": "ogkd.reports",
    **{f"reports.{name}": f"ogkd.evaluation.{name}" for name in _EVALUATION},
    "geometry": "ogkd.classes",
    "phantom.dataset": "ogkd.phantom.dataset",
    "trainers.parts": "ogkd.tuning",
    **{f"trainers.parts.{name}": "ogkd.tuning.former" for name in ("prompt_tuner", "options", "feature_trainer")},
    **{f"datasets.{path.stem}": f"ogkd.data.{path.stem}" for path in (PACKAGE / "data").glob("[a-z]*.py")},
}
"""Names from before version 0.3; they are removed in the version after it."""


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
    """Finds modules inside packages of this checkout by other names; a name covers the modules below it."""

    def __init__(self, names: Mapping[str, str], warn: bool) -> None:
        self.names, self.warn = names, warn
        self.packages = {name.partition(".")[0] for name in names}  # every import of a program asks here

    def find_spec(self, fullname: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        if path is None or fullname.partition(".")[0] not in self.packages:
            return None
        if not all(Path(place).is_relative_to(HOME) for place in path):
            return None  # somebody else's package of this name
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
    """Make modules importable under further names; those of earlier calls come first."""
    sys.meta_path.insert(sum(isinstance(finder, Aliases) for finder in sys.meta_path), Aliases(names, warn))
