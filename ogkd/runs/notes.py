"""Notes and warnings that a run's results carry: in the log, in results.json, and below the tables."""

from __future__ import annotations

from pathlib import Path

from dassl.engine import TrainerBase
from ogkd.core.places import command
from ogkd.core.words import counted
from ogkd.data.catalogue import load
from ogkd.data.duplicates import identical
from ogkd.data.first_look import divided_by_name, small
from ogkd.data.image_folder import ImageFolder
from ogkd.evaluation.limits import MEANINGLESS, is_phantom
from ogkd.evaluation.shortcuts import shortcuts
from ogkd.models.named import SEEN
from ogkd.models.sources import facts_of
from ogkd.runs.config import Configuration
from ogkd.runs.registry import register_everything
from ogkd.tuning.clip_trainer import ClipTrainer


def notes(configuration: Configuration) -> list[str]:
    """Notes for readers of a run's results, one sentence each."""
    cfg = configuration.cfg
    facts = load().find(cfg.DATASET.NAME)
    knows = not is_phantom(cfg.MODEL.BACKBONE.NAME) or (facts and facts.generator)
    sentences = [] if knows else [MEANINGLESS]
    names = {("TRAINER", cfg.TRAINER.NAME): "The trainer", ("DATASET", cfg.DATASET.NAME): "The data set"}
    for (kind, name), place in register_everything().replaced.items():
        if (kind, name) in names:
            sentences.append(f"{names[kind, name]} {name} comes from {place} and replaces this project's.")
    return [*sentences, *configuration.notes()]


def data_notes(trainer: TrainerBase) -> list[str]:
    """Notes for readers of results on a trainer's images, one sentence each."""
    manager = getattr(trainer, "dm", None)
    if manager is None:  # a trainer may build its loaders without one
        return []
    dataset, sentences = manager.dataset, list(getattr(manager.dataset, "notes", ()))
    seen = {item.impath for part in (dataset.train_x, dataset.val) for item in part or ()}
    tested = list(dict.fromkeys(item.impath for item in dataset.test or ()))
    trial = getattr(dataset, "trial", "")  # which may be tested on its validation images
    shared = [] if trial else identical(map(Path, tested), map(Path, seen))
    if shared:
        sentences.append(
            f"{len(shared)} of the {len(tested)} test images are byte-identical to training or validation images, "
            f"which makes the test too easy: {command('check-data')} lists them."
        )
    opened = getattr(manager, "opened", None)  # a trainer may have a data manager of its own
    if opened and (several := sum(look.frames > 1 for look in opened)):
        sentences.append(
            f"{several} of the images have several frames or pages, of which only one is read: the "
            "middle one, unless INPUT.FRAME selects another."
        )
    return sentences


def model_warnings(trainer: TrainerBase) -> list[str]:
    """Reasons to doubt results with a trainer's frozen model, phrases without a full stop: it saw the images before, or
    lacks what the method needs."""
    cfg, phrases = getattr(trainer, "cfg", None), []  # a trainer may keep its configuration elsewhere
    if cfg is not None and (facts := facts_of(cfg.MODEL.BACKBONE.NAME)):
        for dataset in dict.fromkeys((cfg.DATASET.NAME, cfg.DATASET.TEST_ON)):
            status, why = facts.exposure(dataset)
            if status == SEEN:
                phrases.append(f"{facts.name} was pre-trained on images of {dataset}: {why} ({facts.source})")
    if isinstance(trainer, ClipTrainer) and trainer.method.uses_patches and not trainer.clip_model.has_patches:
        title = trainer.method.title or type(trainer.method).__name__
        name = trainer.clip_model.name
        phrases.append(f"{name} has no patch tokens in the space of texts, so {title} runs without its local term")
    return phrases


def data_warnings(trainer: TrainerBase) -> list[str]:
    """Reasons to doubt any result on a trainer's images, phrases without a full stop."""
    manager = getattr(trainer, "dm", None)
    number = sum(look.blank for look in getattr(manager, "opened", ()))
    blank = [f"{counted(number, 'of the images is', 'of the images are')} blank (see {command('check-data')})"]
    dataset = getattr(manager, "dataset", None)
    folders = [
        one for one in dict.fromkeys((dataset, getattr(dataset, "tested", None))) if isinstance(one, ImageFolder)
    ]
    return [
        *getattr(dataset, "warnings", ()),
        *(blank if number else ()),
        *(phrase for folder in folders for phrase in _first_look(folder)),
    ]


def _first_look(folder: ImageFolder) -> list[str]:
    """What check_data says about one's own images, as far as it is known once they are opened. No phrase names a file,
    which may be named after a patient."""
    return [
        *small(folder.looks, named=False),
        *divided_by_name(folder.looks, folder.parts, folder.patients),
        *shortcuts(folder.looks, folder.patients),
    ]
