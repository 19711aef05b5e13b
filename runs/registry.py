"""Everything that a run can refer to by name: the methods and data sets of this project, then those of plugins/."""

from __future__ import annotations

import functools
from typing import Any

from reports.methods import named
from runs.spec import ROOT


@functools.cache
def register_everything() -> dict[tuple[str, str], str]:
    """Register all trainers and data sets with Dassl, those of plugins/ last.

    Returns (registry, name) -> file for each plugin class that replaces one of ours.
    """
    import datasets
    import trainers  # noqa: F401  registers the methods
    from dassl.data.datasets import DATASET_REGISTRY
    from dassl.engine import TRAINER_REGISTRY
    from runs.plugins import import_plugins

    datasets.register_all()
    return import_plugins(ROOT / "plugins", (TRAINER_REGISTRY, DATASET_REGISTRY))


def method_class(name: str) -> type[Any]:
    """The trainer class of that name, see `reports.methods.named`.

    Raises:
        UserError: there is none; the message suggests the nearest name.
    """
    from dassl.engine import TRAINER_REGISTRY
    from dassl.utils import check_availability

    register_everything()
    name = named(name)
    check_availability(name, TRAINER_REGISTRY.registered_names())
    return TRAINER_REGISTRY.get(name)


def is_built_here(name: str) -> bool:
    """Whether the trainer of that name is built on ClipTrainer; trainers written for CoOp's code base are not."""
    from trainers.parts.clip_trainer import ClipTrainer

    return issubclass(method_class(name), ClipTrainer)


def benchmark_methods() -> list[str]:
    """The methods for tables and comparisons: those built on ClipTrainer, in table order."""
    from dassl.engine import TRAINER_REGISTRY

    register_everything()
    ours = [name for name in TRAINER_REGISTRY.registered_names() if is_built_here(name)]
    return sorted(ours, key=lambda name: (method_class(name).row, name))
