"""What a run learned for single classes meets the same classes in a test: by name, never by position."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from yacs.config import CfgNode

from dassl.data import DataManager
from dassl.data.datasets import Datum
from dassl.engine import SimpleTrainer
from ogkd.core import UserError, find_checkpoint, models_in
from ogkd.core.seeds import seeded
from ogkd.core.torchtools import load_checkpoint
from ogkd.core.words import listed
from ogkd.data.given import GivenImages
from ogkd.data.same_classes import places
from ogkd.data.sampling import BALANCED
from ogkd.evaluation.collect import RESULTS, read_results
from ogkd.runs.config import flat, names_novel_classes
from ogkd.runs.records import CONFIG, SPLIT, run_config, sampled_images
from ogkd.tuning.clip_trainer import ClipTrainer
from ogkd.tuning.method import own_parameters

UNMATCHED = "its trainer is not built on ClipTrainer, so parameters of single classes may have met other classes"


def learned_classes(folder: str | Path, epoch: int | None = None) -> tuple[str, ...]:
    """The classes that the run in a folder was trained on, in the order of its parameters.

    The checkpoint names them; for older ones, and without one, split.json or results.json does. () if none of them is
    there.
    """
    folder = Path(folder)
    for model in models_in(folder):
        meta = load_checkpoint(str(find_checkpoint(model, epoch))).get("meta") or {}
        if meta.get("classes"):
            return tuple(meta["classes"])
    images = sampled_images(folder)["train"] if (folder / SPLIT).is_file() else []
    known = {label: name for _, label, name in images}
    names = tuple(known[label] for label in sorted(known))
    results = read_results(folder / RESULTS) if (folder / RESULTS).is_file() else {}
    if results.get("trained") and not results.get("source"):  # it also has the classes of which no image was drawn
        names = max(names, tuple(results.get("classnames") or ()), key=len)
    return names


def with_learned_classes(
    trainer: SimpleTrainer, folder: str | Path, epoch: int | None = None
) -> tuple[SimpleTrainer, list[str]]:
    """A trainer that tests what the run in `folder` learned, and warnings about it.

    It is the trainer itself if its classes are the run's, or if what the run learned applies to any class. Otherwise it
    is another one with the run's classes, whose test images have the labels that their classes have there.

    Raises:
        UserError: a class of the test images is not among the run's.
    """
    theirs, mine = learned_classes(folder, epoch), tuple(name for _, name in sorted(trainer.lab2cname.items()))
    labels = [label for _, label, _ in sampled_images(folder)["train"]] if (Path(folder) / SPLIT).is_file() else []
    dataset: Any = getattr(getattr(trainer, "dm", None), "dataset", None)  # a trainer may make its loaders without one
    as_many = not labels or dataset is None or len(labels) == len(dataset.train_x)
    if (theirs == mine and as_many) or not _belongs_to_classes(trainer, len(theirs), folder, epoch):
        return trainer, []
    if not theirs:
        return trainer, [f"{folder} does not name its classes, assumed to be {_listed(mine)}"]
    tested = getattr(dataset, "tested", dataset)
    names = mine if tested is None else tested.classnames
    where = places(names, theirs)
    missing = next((name for name in names if name not in where), None)
    if missing is not None and isinstance(trainer, ClipTrainer):
        raise UserError(
            f"What {type(trainer).__name__} learned in {folder} applies only to its classes ({', '.join(theirs)}), and "
            f"'{missing}' of the test images is not one of them: {_remedy(missing, theirs, where)}."
        )
    own_loaders = dataset is None or type(trainer)._build_data_manager is not SimpleTrainer._build_data_manager
    if not isinstance(trainer, ClipTrainer) and (missing is not None or own_loaders):
        return trainer, [f"{folder} was trained on {_listed(theirs)}, but the test has {_listed(mine)}: {UNMATCHED}"]
    given = GivenImages.of_classes(
        theirs,
        labels or None,
        val=_moved(dataset.val, where),
        test=_moved(dataset.test, where),
        prompts_name=getattr(dataset, "prompts_name", ""),
        sentences=getattr(dataset, "sentences", None),
    )
    given.tested = tested
    print(f"The classes are matched by name with {_listed(theirs)} of {folder}.")
    return _remade(trainer, given), []


def learned_otherwise(folder: str | Path, cfg: CfgNode) -> list[str]:
    """Return a phrase if a test says other shots, another draw or seed than the run that it tests; else []."""
    if not (Path(folder) / CONFIG).is_file():
        return []
    theirs = {"DATASET.DRAW": BALANCED} | dict(flat(run_config(folder)))
    pairs = (
        ("DATASET.NUM_SHOTS", cfg.DATASET.NUM_SHOTS),
        ("DATASET.DRAW", cfg.DATASET.DRAW),
        ("SEED", cfg.SEED),
    )
    wrong = [f"{key} {theirs[key]}, not {value}" for key, value in pairs if theirs.get(key, value) != value]
    return [f"what is tested was learned with {listed(wrong)} as this test says"] if wrong else []


def _belongs_to_classes(trainer: SimpleTrainer, learned: int, folder: str | Path, epoch: int | None) -> bool:
    """Whether what a trainer learns may belong to its classes. learned: their number in the run, 0 if not known.

    Methods declare it. One of a plugin may have forgotten to, so if a parameter is as long as there are classes, the
    method is made again with one class fewer, and the shapes are compared. Trainers that are not built on ClipTrainer
    declare nothing, so the shapes in the checkpoint decide.
    """
    if not isinstance(trainer, ClipTrainer):
        models = {model.name: model for model in models_in(folder)}
        return any(
            (learned or trainer.num_classes) in value.shape
            for name in models.keys() & trainer._models.keys()
            for value in own_parameters(
                trainer._models[name], load_checkpoint(str(find_checkpoint(models[name], epoch)))["state_dict"]
            ).values()
        )
    if not names_novel_classes(trainer.cfg):
        return bool(models_in(folder))
    shapes = {tuple(value.shape) for value in trainer.method.state_dict().values()}
    if trainer.num_classes < 2 or not any(trainer.num_classes in shape for shape in shapes):
        return False
    method = trainer.method
    with seeded(0):
        fewer = type(method)(method.options, method.clip_model, method.classnames[:-1], method.sentences)
    return {tuple(value.shape) for value in fewer.state_dict().values()} != shapes


def _remade(trainer: SimpleTrainer, dataset: GivenImages) -> Any:
    """A trainer of the same kind and configuration for another data set."""
    kind: type[Any] = type(trainer)
    if isinstance(trainer, ClipTrainer):
        return kind(trainer.cfg, dataset)
    manager = {"_build_data_manager": lambda self: DataManager(self.cfg, dataset=dataset)}
    return type(kind.__name__, (kind,), manager)(trainer.cfg)


def _moved(items: list[Datum] | None, where: dict[str, int]) -> list[Datum] | None:
    """The images of the classes in `where`, with the labels there."""
    images = [item for item in items or () if item.classname in where]
    return [Datum.of_known(item.impath, where[item.classname], classname=item.classname) for item in images] or None


def _listed(names: Sequence[str]) -> str:
    return f"the classes {', '.join(names)}, in this order"


def _remedy(name: str, theirs: Sequence[str], where: dict[str, int]) -> str:
    free = [other for place, other in enumerate(theirs) if place not in where.values()]
    near = difflib.get_close_matches(name, free, 1)
    return f"if it is '{near[0]}', give it that name" if near else "test it on images of these classes"
