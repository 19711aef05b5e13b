"""Everything that a run can name: the methods and data sets here, then those of plugins/."""

from __future__ import annotations

import functools
import importlib
import pkgutil
import sys

from runs.spec import ROOT


@functools.cache
def register_everything() -> None:
    """Enter all trainers and data sets in Dassl's registries. A plugin that cannot be imported is named with its
    reason, and the others are used."""
    import datasets
    import trainers  # noqa: F401  registers the methods

    datasets.register_all()
    for module in pkgutil.iter_modules([str(ROOT / "plugins")]):
        try:
            importlib.import_module(f"plugins.{module.name}")
        except Exception as error:  # whatever a stranger's file raises, the rest must work
            reason = f"{type(error).__name__}: {error}"
            print(f"warning: plugins/{module.name} is not used, its import failed ({reason})", file=sys.stderr)


def method_class(name: str) -> type:
    """The trainer class of that name.

    Raises:
        UserError: there is none; names the nearest.
    """
    from dassl.engine import TRAINER_REGISTRY
    from dassl.utils import check_availability

    register_everything()
    check_availability(name, TRAINER_REGISTRY.registered_names())
    return TRAINER_REGISTRY.get(name)


def benchmark_methods() -> list[str]:
    """The methods of tables and comparisons: those built on ClipTrainer, in the order of their rows."""
    from dassl.engine import TRAINER_REGISTRY
    from trainers.parts.clip_trainer import ClipTrainer

    register_everything()
    methods = {name: TRAINER_REGISTRY.get(name) for name in TRAINER_REGISTRY.registered_names()}
    ours = [name for name, method in methods.items() if issubclass(method, ClipTrainer)]
    return sorted(ours, key=lambda name: (methods[name].row, name))
