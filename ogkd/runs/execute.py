"""Executing one run."""

from __future__ import annotations

import contextlib
import inspect
import time
from collections.abc import Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch

from dassl.data.datasets import Datum
from dassl.engine import SimpleTrainer, build_trainer
from ogkd.core import Diverged, UserError, setup_logger
from ogkd.core.errors import resumable
from ogkd.core.phases import Phases
from ogkd.core.seeds import seeded
from ogkd.core.torchtools import collect_env_info, set_random_seed
from ogkd.data.groups import by_column, read_groups
from ogkd.data.patients import read_patients
from ogkd.data.same_classes import places
from ogkd.evaluation.limits import is_phantom
from ogkd.evaluation.predictions import Predictions, numbered, units
from ogkd.evaluation.tested import sample
from ogkd.evaluation.unlike import Reference, fit
from ogkd.models.errors import MissingWeights
from ogkd.runs.config import Configuration, resolve
from ogkd.runs.fingerprints import relative
from ogkd.runs.folder import RunFolder
from ogkd.runs.learned_classes import learned_otherwise, with_learned_classes
from ogkd.runs.notes import data_notes, data_warnings, model_warnings
from ogkd.runs.ready import with_remedy
from ogkd.runs.spec import RunSpec
from ogkd.tuning.clip_trainer import ClipTrainer


def execute(spec: RunSpec, configuration: Configuration | None = None) -> dict | None:
    """Execute a run unless it is complete. Returns its results.json, or None for a run that neither trains nor tests.

    `configuration`: the run's, if it has been resolved already.

    Raises:
        UserError: something that the user can fix; the message is one sentence.
    """
    try:
        with resumable():
            return _execute(spec, (configuration or resolve(spec)).complete())
    except MissingWeights as error:
        raise with_remedy(error) from error


def _execute(spec: RunSpec, configuration: Configuration) -> dict | None:
    folder = RunFolder(configuration)
    if folder.has_results and not spec.rerun:
        return _already(cast(dict, folder.finished_results()), folder)
    folder.check()
    with folder.locked():
        if spec.rerun:
            folder.clear()
        finished = folder.finished_results()  # another process may have done the run meanwhile
        return _already(finished, folder) if finished is not None else _logged(spec, folder)


def _already(finished: dict, folder: RunFolder) -> dict:
    print(f"{folder.path} is complete: accuracy {finished['accuracy']:.2f} %. Nothing to do.")
    return finished


def _logged(spec: RunSpec, folder: RunFolder) -> dict | None:
    cfg = folder.cfg
    folder.prepare()
    restore_output = setup_logger(cfg.OUTPUT_DIR)
    try:
        if cfg.SEED >= 0:
            set_random_seed(cfg.SEED)
        with threads_for(cfg.MODEL.BACKBONE.NAME):
            return _run(spec, folder)
    except UserError as error:
        if not isinstance(error, Diverged):
            folder.refused()
        restore_output()  # flushes the log, so that the sentence comes last
        with (folder.path / "log.txt").open("a", encoding="utf-8") as log:
            print(f"error: {error}", file=log)
        raise
    finally:
        restore_output()


@contextlib.contextmanager
def threads_for(backbone: str) -> Iterator[None]:
    """One thread during the block for PhantomCLIP: sums over several round differently, and programs that do one run
    or several side by side would disagree in the last digits. Other backbones keep PyTorch's number."""
    before = torch.get_num_threads()
    torch.set_num_threads(1 if is_phantom(backbone) else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _run(spec: RunSpec, folder: RunFolder) -> dict | None:
    print(f"{folder.chosen()}\n")
    print(f"Collecting environment information\n{collect_env_info()}\n")
    started = time.perf_counter()
    phases = Phases()
    with phases("setup"):
        trainer = build_trainer(folder.cfg)
    folder.write_split(dataset_of(trainer))
    with phases("fingerprints"):
        folder.write_fingerprints(trainer)  # first of all that compares images, since it remembers their hashes
    folder.notes += [] if spec.eval_only else data_notes(trainer)
    for note in folder.notes:
        print(f"Note: {note}\n")
    if revision := folder.revision:
        print(f"Weights: revision {revision} of {folder.cfg.MODEL.BACKBONE.NAME}\n")
    folder.warnings += [*data_warnings(trainer), *model_warnings(trainer)]
    for warning in folder.warnings:
        print(f"Warning: {warning}\n")
    if spec.eval_only and spec.model_dir:
        trainer, warnings = with_learned_classes(trainer, spec.model_dir, spec.load_epoch)
        folder.warnings += [*warnings, *learned_otherwise(spec.model_dir, folder.cfg)]
    try:
        return _train_and_test(spec, trainer, folder, phases, started)
    except Diverged as error:
        if not spec.eval_only:
            folder.write_diverged(trainer, error, phases, time.perf_counter() - started)
        raise


def _train_and_test(
    spec: RunSpec, trainer: SimpleTrainer, folder: RunFolder, phases: Phases, started: float
) -> dict | None:
    if spec.eval_only:
        more = {"cfg": trainer.cfg} if "cfg" in inspect.signature(trainer.load_model).parameters else {}  # as CLAP's
        trainer.load_model(spec.model_dir, epoch=spec.load_epoch, **more)
        with phases("test"):
            trainer.test()
    elif spec.no_train:
        return None
    else:
        with phases("train and test"):
            trainer.train()
            if not trainer.evaluator.has_results:
                trainer.test()
    if not spec.eval_only:
        validated, reference = validated_by(trainer)
        folder.write_validation(validated, len(dataset_of(trainer).val or ()), reference)
        if isinstance(trainer, ClipTrainer) and trainer.options.get("FULL_CONFORMAL"):
            tokens = torch.cat([of_batch for of_batch, _ in trainer.tested_features(trainer.cfg.TEST.SPLIT)])
            folder.write_p_values(*cast(Any, trainer.method).p_values(trainer.task, tokens))
    if isinstance(trainer, ClipTrainer):
        phases.record.update(trainer.phases.record)
    predictions = predictions_of(trainer)
    results = folder.write_results(trainer, predictions, phases, time.perf_counter() - started)
    if len(predictions.classnames) < trainer.num_classes:
        print(f"=> among the {len(predictions.classnames)} classes of {results['dataset']}: {results['accuracy']:.1f}%")
    print(f"=> tested on {sample(results)}")
    print(f"* expected calibration error: {results['expected_calibration_error']:.1f}%")
    for note in results["notes"]:
        print(f"Note: {note}")
    for doubt in results["warnings"]:
        print(f"Warning: {doubt}")
    return results


def dataset_of(trainer: SimpleTrainer) -> Any:
    """A trainer's data set; without a DataManager, an object with the class names and no images."""
    dm = getattr(trainer, "dm", None)
    if dm is not None:
        return dm.dataset
    return SimpleNamespace(train_x=[], val=[], classnames=[name for _, name in sorted(trainer.lab2cname.items())])


def predictions_of(trainer: SimpleTrainer) -> Predictions:
    """The logits of a trainer's last test with the names of the images.

    Since a trainer may run its own test, images are named only if the labels are in the order of one of its loaders,
    and classes as its images name them. For a test on another data set, only the logits of that data set's classes are
    kept, in its class order.
    """
    dataset, logits, labels = dataset_of(trainer), trainer.evaluator.logits, trainer.evaluator.labels.tolist()
    tested = getattr(dataset, "tested", dataset)
    images, shown = ("",) * len(labels), list[Datum]()
    loaders = [getattr(trainer, "val_loader", None), trainer.test_loader]  # the last one whose labels these are
    for loader in loaders[:: -1 if trainer.cfg.TEST.SPLIT == "val" else 1]:
        items = getattr(getattr(loader, "dataset", None), "data_source", [])
        if [item.label for item in items] == labels:
            images, shown = tuple(relative(item.impath, tested) for item in items), items
    if tested is dataset:
        names = class_names(dataset.classnames, {item.label: item.classname for item in shown}, logits.shape[1])
    else:
        names = tested.classnames
        columns = list(places(tested.classnames, dataset.classnames).values())
        labels, logits = [columns.index(label) for label in labels], logits[:, columns]
    return Predictions(images, labels, logits.numpy(), tuple(names), *recorded(images, tested))


def recorded(images: Sequence[str], dataset: object) -> tuple[np.ndarray | None, dict[str, tuple[str, ...]]]:
    """What the folder of a data set records of images: the patient of each as a number, and its groups by column."""
    folder = getattr(dataset, "image_dir", None) or getattr(dataset, "dataset_dir", None)
    patients, groups = (read_patients(folder), read_groups(folder)) if folder else ({}, {})
    return numbered([patients.get(image) for image in images]), by_column(groups, images)


def class_names(trained: Sequence[str], tested: Mapping[int, str], columns: int) -> list[str]:
    """The names of the classes of `columns` logits, given those of the training images and those of the labels of the
    tested ones, which a data set may number apart. A class that neither names is called by its number."""
    apart = any(trained[label : label + 1] != [name] for label, name in tested.items())
    known = tested if apart else dict(enumerate(trained))
    return [known.get(column) or f"class {column}" for column in range(columns)]


@torch.no_grad()
def validated_by(trainer: SimpleTrainer) -> tuple[Predictions | None, Reference | None]:
    """The logits of the validation images, for temperature and thresholds, and what other images are compared with to
    find those unlike them: of those that the data set has for calibration, else of the drawn ones. Random states are
    left unchanged.

    None without validation images, and for a trainer that is not built on ClipTrainer.
    """
    if not isinstance(trainer, ClipTrainer) or trainer.val_loader is None:
        return None, None
    dataset = trainer.dm.dataset
    items = getattr(dataset, "calibration", None)
    with seeded(0):
        batches = list(trainer.tested_features("calibration" if items else "val"))
        logits, labels = map(torch.cat, zip(*trainer.classified(batches), strict=True))
    tokens = torch.cat([of_batch for of_batch, _ in batches]).float().cpu().numpy()
    numbers = labels.cpu().numpy()
    images = tuple(relative(item.impath, dataset) for item in items or dataset.val or ())
    names = tuple(dataset.classnames)
    predictions = Predictions(images, numbers, logits.float().cpu().numpy(), names, recorded(images, dataset)[0])
    return predictions, fit(tokens, numbers, units(predictions))
