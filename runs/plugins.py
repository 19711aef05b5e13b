"""Third-party files in plugins/: trainers and data sets written for CoOp's code base, imported as they are.

Each file there becomes a module of the package `plugins` and each folder a subpackage, so relative imports within a
folder work. If such a file imports `trainers.x` or `datasets.x`, as in its original code base, and this project has no
such module, it gets the plugin's.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

from dassl.utils.registry import Registry

PACKAGE = "plugins"
PARTS = ("trainers", "datasets")
"""The folders of a code base with trainers and data sets; from a folder with neither, every file is imported."""


def import_plugins(folder: Path, registries: Sequence[Registry]) -> dict[tuple[str, str], str]:
    """Import everything in the folder, in order of name. Returns (registry, name) -> file for each class that replaces
    one of this project's.

    A file that cannot be imported is reported on stderr with the reason, its registrations are undone, and the other
    files are used. Replacements are reported there too.
    """
    package = sys.modules.setdefault(PACKAGE, ModuleType(PACKAGE))
    package.__path__ = [str(folder)]
    finder = _OtherNames(folder)
    # First, so that no file is imported under two names; permanently, because trainers also import inside functions.
    sys.meta_path.insert(0, finder)
    replaced: dict[tuple[str, str], str] = {}
    for path in _misnamed(folder):
        print(f"warning: {_place(path, folder)} is not used: rename it to letters, digits and '_'", file=sys.stderr)
    failed: list[str] = []
    for module, path in modules(folder):
        if module.startswith(tuple(f"{package}." for package in failed)):
            continue  # its package has been reported
        place = _place(path, folder)
        taken = {registry._name: dict(registry._obj_map) for registry in registries}
        loaded = set(sys.modules)
        finder.current = ".".join(module.split(".")[:2])
        try:
            with contextlib.ExitStack() as stack:
                for registry in registries:
                    stack.enter_context(registry.replaceable())
                importlib.import_module(module)
        except (Exception, SystemExit) as error:  # a third-party file may raise anything; the rest must still work
            for name in set(sys.modules) - loaded:
                if name.startswith((f"{PACKAGE}.", *(f"{part}." for part in PARTS))):
                    del sys.modules[name]  # it is imported again in its turn, which registers its classes again
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            print(f"warning: {place} is not used, its import failed ({reason})", file=sys.stderr)
            failed.append(module)
            continue
        for registry in registries:
            for name, obj in registry._obj_map.items():
                if taken[registry._name].get(name, obj) is not obj:
                    source = getattr(sys.modules.get(obj.__module__), "__file__", None)
                    replaced[registry._name, name] = _place(Path(source), folder) if source else place
                    line = f"{replaced[registry._name, name]} replaces the {registry._name.lower()} {name}"
                    print(f"note: {line}", file=sys.stderr)
    return replaced


def _place(path: Path, folder: Path) -> str:
    """The name of a file in the folder for messages."""
    return f"{PACKAGE}/{path.relative_to(folder).as_posix()}" if path.is_relative_to(folder) else str(path)


def modules(folder: Path) -> Iterator[tuple[str, Path]]:
    """(module name, file) of everything to import from the plugins' folder, in order of name."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.suffix == ".py" and path.stem.isidentifier():
            yield f"{PACKAGE}.{path.stem}", path
        elif path.is_dir() and path.name.isidentifier() and not path.name.startswith("_"):
            parts = [path / part for part in PARTS if (path / part).is_dir()]
            for part in parts or [path]:
                yield from _files(f"{PACKAGE}.{part.relative_to(folder).as_posix().replace('/', '.')}", part)


def _misnamed(folder: Path) -> Iterator[Path]:
    """Python files and folders whose names cannot be imported."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        name = path.name if path.is_dir() else path.stem
        if (path.is_dir() or path.suffix == ".py") and not name.isidentifier() and not name.startswith("."):
            yield path


def _files(package: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """A package's __init__.py, if any, then its other files and those of its folders."""
    if (folder / "__init__.py").is_file():
        yield package, folder / "__init__.py"
    for path in sorted(folder.iterdir()):
        if path.suffix == ".py" and path.stem.isidentifier() and path.stem != "__init__":
            yield f"{package}.{path.stem}", path
        elif path.is_dir() and path.name.isidentifier() and any(path.glob("*.py")):
            yield from _files(f"{package}.{path.name}", path)


class _OtherNames(MetaPathFinder):
    """Finds `trainers.x` and `datasets.x` among the plugins if this project has no such module."""

    def __init__(self, folder: Path) -> None:
        found = [name.split(".") for name, _ in modules(folder)]
        packages = {".".join(parts[:length]) for parts in found for length in range(2, len(parts) + 1)}
        self.names = sorted(packages)
        self.current = PACKAGE  # the plugin being imported; its own files come first

    def find_spec(self, fullname: str, path: object = None, target: object = None) -> ModuleSpec | None:
        part, _, rest = fullname.partition(".")
        if part not in PARTS or not rest:
            return None
        ours = f"{part}.{rest.split('.')[0]}"
        if PathFinder.find_spec(ours, sys.modules[part].__path__) is not None:
            return None
        (other,) = set(PARTS) - {part}
        fitting = [name for name in self.names if name.endswith(f".{rest}") and not name.endswith(f".{other}.{rest}")]
        own = [name for name in fitting if f"{name}.".startswith(f"{self.current}.")] or fitting
        exact = [name for name in own if name.endswith(f".{part}.{rest}")] or own
        return importlib.util.spec_from_loader(fullname, _Alias(exact[0])) if exact else None


class _Alias(Loader):
    """Loads a module that already exists under another name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(self.name)
        self.spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.spec  # the import system has set the alias's spec
