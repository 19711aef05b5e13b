"""Everything that a run can refer to by name: the methods and data sets of this project, then those of plugins/."""

from __future__ import annotations

import functools
import importlib
import sys
from typing import Any

from ogkd.core.errors import UserError
from ogkd.core.former import alias
from ogkd.core.places import IN_CHECKOUT, work_folder
from ogkd.data.registered import register_all
from ogkd.evaluation.methods import named
from ogkd.runs.plugins import Plugins, import_plugins


@functools.cache
def register_everything() -> Plugins:
    """Register all trainers and data sets with Dassl, those of plugins/ last."""
    from dassl.data.datasets import DATASET_REGISTRY
    from dassl.engine import TRAINER_REGISTRY
    from ogkd.tuning.method import Method
    from ogkd.tuning.registration import register_methods, trainer_of

    trainers = importlib.import_module("ogkd.trainers")
    register_methods()
    register_all()
    if not IN_CHECKOUT and "trainers" not in sys.modules:  # plugins import the methods by CoOp's name
        sys.modules["trainers"] = trainers
        alias({"trainers": "ogkd.trainers"})
    plugins = import_plugins(work_folder() / "plugins", (TRAINER_REGISTRY, DATASET_REGISTRY))
    for name, kind in TRAINER_REGISTRY._obj_map.items():
        if isinstance(kind, type) and issubclass(kind, Method):  # registered with Dassl's own decorator
            TRAINER_REGISTRY._obj_map[name] = trainer_of(kind)
    for name, sentence in trainers.FAILED.items():
        if name not in TRAINER_REGISTRY._obj_map:
            plugins.failed.setdefault(("TRAINER", name), sentence)
    return plugins


def check_imported(kind: str, name: str) -> None:
    """Raise UserError if a file has a class of that name but could not be imported: another class of the name, such
    as this project's, is not what was meant. `kind`: "TRAINER" or "DATASET"."""
    if (kind, name) in register_everything().failed:
        raise UserError(register_everything().failed[kind, name])


def trainer_class(name: str) -> type[Any]:
    """The trainer of that name in Dassl's registry, see `ogkd.evaluation.methods.named`.

    Raises:
        UserError: there is none, and the message suggests the nearest name, or its file could not be imported.
    """
    from dassl.engine import TRAINER_REGISTRY
    from ogkd.core import did_you_mean

    name = named(name)
    check_imported("TRAINER", name)
    known = TRAINER_REGISTRY.registered_names()
    if name not in known:
        what = f"There is no trainer '{name}'{did_you_mean(name, known)}" if name else "Give --trainer NAME"
        raise UserError(f"{what}; there are {', '.join(known)}.")
    return TRAINER_REGISTRY.get(name)


def method_class(name: str) -> type[Any]:
    """The Method of that name; of a trainer written for CoOp's code base, the trainer itself.

    Raises UserError as `trainer_class` does.
    """
    from ogkd.tuning.clip_trainer import ClipTrainer

    trainer = trainer_class(name)
    return trainer.method_class if issubclass(trainer, ClipTrainer) else trainer


def is_built_here(name: str) -> bool:
    """Whether a Method has that name; trainers written for CoOp's code base are none."""
    from ogkd.tuning.method import Method

    return issubclass(method_class(name), Method)


def benchmark_methods() -> list[str]:
    """The methods for tables and comparisons: those of this project's kind, in table order."""
    from dassl.engine import TRAINER_REGISTRY

    failed = register_everything().failed
    names = [name for name in TRAINER_REGISTRY.registered_names() if ("TRAINER", name) not in failed]
    ours = [name for name in names if is_built_here(name)]
    return sorted(ours, key=lambda name: (method_class(name).row, name))
