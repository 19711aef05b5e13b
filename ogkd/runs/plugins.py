"""Third-party files in plugins/: trainers and data sets written for CoOp's code base, imported as they are.

Each file there becomes a module of the package `plugins` and each folder a subpackage, so relative imports within a
folder work. If such a file imports `trainers.x` or `datasets.x`, as in its original code base, and this project has no
such module, it gets the plugin's. Of a whole checkout, modules beside these two folders are imported in the same way,
but only when a file asks for them.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from dassl.utils.registry import Registry
from ogkd.core.former import Alias

PACKAGE = "plugins"
PARTS = ("trainers", "datasets")
"""The folders of a code base with trainers and data sets; from a folder with neither, every file is imported."""


_CLASS = re.compile(r"^class (\w+)", re.MULTILINE)


@dataclass(frozen=True)
class Plugins:
    """What importing the plugins changed, by (registry, name).

    replaced: the file of each class that replaces one of this project's.
    failed: for each class of a file that cannot be imported, under every registry, a sentence that says why.
    """

    replaced: dict[tuple[str, str], str] = field(default_factory=dict)
    failed: dict[tuple[str, str], str] = field(default_factory=dict)


def import_plugins(folder: Path, registries: Sequence[Registry]) -> Plugins:
    """Import everything in the folder, in order of name.

    A file that cannot be imported is reported on stderr with the reason, its registrations are undone, and the other
    files are used. Replacements are reported there too.
    """
    package = sys.modules.setdefault(PACKAGE, ModuleType(PACKAGE))
    package.__path__ = [str(folder)]
    finder = _OtherNames(folder)
    # First, so that no file is imported under two names; permanently, because trainers also import inside functions.
    sys.meta_path.insert(0, finder)
    plugins = Plugins()
    for path in _misnamed(folder):
        print(f"warning: {_place(path, folder)} is not used: rename it to letters, digits and '_'", file=sys.stderr)
    failed: list[str] = []
    for module, path in modules(folder):
        if module.startswith(tuple(f"{package}." for package in failed)):
            continue  # its package has been reported
        place = _place(path, folder)
        taken = {registry._name: dict(registry._obj_map) for registry in registries}
        loaded = set(sys.modules)
        finder.switch_to(".".join(module.split(".")[:2]))
        try:
            with contextlib.ExitStack() as stack:
                for registry in registries:
                    stack.enter_context(registry.replaceable())
                importlib.import_module(module)
        except (Exception, SystemExit) as error:  # a third-party file may raise anything; the rest must still work
            for name in set(sys.modules) - loaded:
                if _is_plugins(name):
                    del sys.modules[name]  # it is imported again in its turn, which registers its classes again
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            print(f"warning: {place} is not used, its import failed ({reason})", file=sys.stderr)
            failed.append(module)
            for name, file in _classes_in(path):
                which = "" if file == path else f"of {place} "
                for kind in taken:
                    plugins.failed[kind, name] = (
                        f"The {kind.lower()} {name} of {_place(file, folder)} cannot be used: the import {which}failed "
                        f"({reason}). Fix the import, or remove the plugin."
                    )
            continue
        for registry in registries:
            for name, obj in registry._obj_map.items():
                key, before = (registry._name, name), taken[registry._name].get(name)
                if before is obj:
                    continue
                plugins.failed.pop(key, None)
                if before is not None:
                    source = getattr(sys.modules.get(obj.__module__), "__file__", None)
                    plugins.replaced[key] = _place(Path(source), folder) if source else place
                    line = f"{plugins.replaced[key]} replaces the {registry._name.lower()} {name}"
                    print(f"note: {line}", file=sys.stderr)
    return plugins


def plugin_of(method: type) -> Path | None:
    """The file or the folder in plugins/ that a trainer comes from; None for a trainer from elsewhere."""
    package, _, rest = method.__module__.partition(".")
    if package != PACKAGE:
        return None
    path = Path(sys.modules[PACKAGE].__path__[0]) / rest.partition(".")[0]
    return path if path.is_dir() else path.with_suffix(".py")


def _classes_in(path: Path) -> Iterator[tuple[str, Path]]:
    """(name, file) of the classes that a file defines; for a package's __init__.py, of all its files."""
    files = path.parent.rglob("*.py") if path.stem == "__init__" else [path]
    for file in sorted(files):
        for name in _CLASS.findall(file.read_text(encoding="utf-8", errors="ignore")):
            yield name, file


def _is_plugins(name: str) -> bool:
    """Whether a module comes from the plugins, under whichever name."""
    return f"{getattr(sys.modules[name], '__name__', name)}.".startswith(f"{PACKAGE}.") and name != PACKAGE


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
    """Finds modules by the names that they have in a plugin's own code base, if nothing else has them.

    These are `trainers.x` and `datasets.x` among all plugins, and what lies beside the two folders in a checkout, such
    as `utils.x` or a module of its own in `clip`. The files of the plugin that is being imported come first.
    """

    def __init__(self, folder: Path) -> None:
        names = [name.split(".") for name, _ in modules(folder)]
        packages = {".".join(parts[:length]) for parts in names for length in range(2, len(parts) + 1)}
        self.names = sorted(packages)
        self.checkouts = sorted({path.parent for part in PARTS for path in folder.glob(f"*/{part}/")})
        self.current = PACKAGE

    def switch_to(self, plugin: str) -> None:
        """Import from another plugin first, and forget which of the last one's modules other names stand for."""
        if plugin != self.current:
            self.current = plugin
            for name in [name for name in sys.modules if _is_plugins(name) and not name.startswith(f"{PACKAGE}.")]:
                package, _, last = name.rpartition(".")
                if package in sys.modules and not _is_plugins(package):
                    vars(sys.modules[package]).pop(last, None)  # where `from package import last` looks first
                del sys.modules[name]

    def find_spec(self, fullname: str, path: Any = None, target: object = None) -> ModuleSpec | None:
        part, _, rest = fullname.partition(".")
        if part == PACKAGE:
            return None
        package, _, last = fullname.rpartition(".")
        if package and _is_plugins(package):
            return importlib.util.spec_from_loader(fullname, Alias(f"{sys.modules[package].__name__}.{last}"))
        name = self._of_parts(part, rest) if part in PARTS else self._beside(fullname)
        if name is None or PathFinder.find_spec(fullname, path) is not None:
            return None
        return importlib.util.spec_from_loader(fullname, Alias(name))

    def _of_parts(self, part: str, rest: str) -> str | None:
        (other,) = set(PARTS) - {part}
        fitting = [name for name in self.names if name.endswith(f".{rest}") and not name.endswith(f".{other}.{rest}")]
        own = [name for name in fitting if f"{name}.".startswith(f"{self.current}.")] or fitting
        exact = [name for name in own if name.endswith(f".{part}.{rest}")] or own
        return exact[0] if exact else None

    def _beside(self, fullname: str) -> str | None:
        place = fullname.replace(".", "/")
        having = [
            f"{PACKAGE}.{root.name}"
            for root in self.checkouts
            if (root / place).is_dir() or (root / f"{place}.py").is_file()
        ]
        return next((f"{name}.{fullname}" for name in (self.current, *having) if name in having), None)
