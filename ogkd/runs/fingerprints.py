"""Fingerprints of what a run trains and tests on: its split, images, sentences, graph and weights.

A run folder records them at the start, so that a run is never reused or resumed after any of these has changed. They
depend only on contents: data that were moved to another folder count as the same data.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from yacs.config import CfgNode

from dassl.data.datasets import DatasetBase, build_dataset
from ogkd.core.hashes import FileMemory, file_hashes, memory_file, remembered, text_hash
from ogkd.core.schema import Rule, read_record
from ogkd.core.seeds import seeded
from ogkd.data.catalogue import load
from ogkd.models import folder_of
from ogkd.runs.registry import is_built_here, method_class
from ogkd.runs.spec import RunSpec
from ogkd.tuning.backbone import load_backbone
from ogkd.tuning.clip_trainer import ClipTrainer
from ogkd.tuning.distillation import distilled_with, fingerprints
from ogkd.tuning.task import dataset_name
from ogkd.tuning.teacher import sentences_of

Fingerprints = dict[str, str | dict[str, str]]

# How a change of each is reported. For mappings (image -> hash, class -> hash), the changed entries are counted.
WORDS = {
    "dataset": "another split",
    "test_images": "other test images",
    "images": "other images",
    "sentences": "other teacher sentences",
    "graph": "another graph, whose file has changed since",
    "weights": "other weights of the backbone",
}
SHAPE = Rule(lambda hashes: all(isinstance(value, str | dict) for value in hashes.values()), "hashes by name")
COUNTED = {"images": "images", "test_images": "images", "sentences": "classes"}


def _folder(dataset: object) -> str | None:
    """A data set's image folder, else its folder, if it names one."""
    return getattr(dataset, "image_dir", None) or getattr(dataset, "dataset_dir", None)


def relative(path: str, dataset: object) -> str:
    """An image's path relative to its data set's folder, see `_folder`, with forward slashes."""
    root = _folder(dataset)
    return Path(os.path.relpath(path, root) if root else path).as_posix()


def of_dataset(cfg: CfgNode, dataset: DatasetBase) -> Fingerprints:
    """The split, and a hash of each image that the run reads.

    Without a seed, the shots differ each time, so only the test images are fingerprinted.
    """
    tested = getattr(dataset, "tested", dataset)
    learned = [] if cfg.SEED < 0 else [*(dataset.train_x or []), *(dataset.train_u or []), *(dataset.val or [])]
    memory = FileMemory(memory_file(cfg.FEATURES.CACHE_DIR, _folder(dataset) or cfg.DATASET.ROOT))
    tests = [item.impath for item in dataset.test or []]
    hashes = file_hashes([*(item.impath for item in learned), *tests], memory)
    images = {relative(item.impath, dataset): hashes[item.impath] for item in learned}
    split = getattr(dataset, "fingerprint", None)
    if split is None:
        items = [*learned, *(dataset.test or [])]
        split = text_hash([[relative(item.impath, dataset), item.label, item.classname] for item in items])
    return {
        "dataset": split,
        "images": images,
        "test_images": {relative(path, tested): hashes[path] for path in tests},
    }


def of_sentences(spec: RunSpec, cfg: CfgNode, dataset: DatasetBase) -> Fingerprints:
    """A hash of the teacher's sentences of each class, for a run that needs them."""
    method = method_class(cfg.TRAINER.NAME)
    if not is_built_here(cfg.TRAINER.NAME) or (spec.eval_only and not method.needs_sentences):
        return {}
    name = cfg.TRAINER.NAME
    nodes = [(of, node) for of, node in ((name, cfg.TRAINER.get(name.upper())), ("OGKD", distilled_with(cfg))) if node]
    sources = {(node.PROMPTS, node.PROMPT_BANK): (node, of) for of, node in nodes if "PROMPTS" in node}
    if not sources:
        return {}
    fold = any(node.get("FOLD_HELD_OUT") for node, _ in sources.values())
    names = list(dict.fromkeys([*dataset.classnames, *(getattr(dataset, "all_classnames", []) if fold else [])]))
    banks = [sentences_of(dataset, names, options, cfg.DATASET.NAME, of) for options, of in sources.values()]
    hashes = {name: text_hash(both if len(both) > 1 else both[0]) for name, *both in zip(names, *banks, strict=True)}
    return {"sentences": {**hashes}}


def of_graph(spec: RunSpec, cfg: CfgNode) -> Fingerprints:
    """Files other than data and sentences that affect what the run learns."""
    name = cfg.TRAINER.NAME
    if spec.eval_only or not is_built_here(name):
        return {}
    return {**fingerprints(method_class(name), cfg, dataset_name(cfg))}


def of_weights(cfg: CfgNode, fingerprint: str = "") -> Fingerprints:
    """The backbone's fingerprint; {} if its files are not on this machine or the method has no backbone.

    If it is not given, the model is loaded, unless its files are known from an earlier run.
    """
    folder = folder_of(cfg.MODEL.BACKBONE.NAME)
    if folder is None or not is_built_here(cfg.TRAINER.NAME):
        return {}

    def compute() -> str:
        device = "cuda" if torch.cuda.is_available() and cfg.USE_CUDA else "cpu"
        return fingerprint or load_backbone(cfg.MODEL.BACKBONE.NAME, device).fingerprint

    files = [folder] if folder.is_file() else [path for path in folder.iterdir() if path.is_file()]
    memory = FileMemory(memory_file(cfg.FEATURES.CACHE_DIR, folder))
    return {"weights": remembered(memory, "weights", files, compute)}


def now(spec: RunSpec, cfg: CfgNode) -> Fingerprints:
    """The fingerprints that a run would have if it started now, computed before anything heavy is loaded.

    Anything that is not on this machine is left out: removed data or weights do not count as changed.

    Raises:
        UserError: a file in the configuration is missing or unusable.
    """
    hashes = of_graph(spec, cfg) | of_weights(cfg)
    if not _data_are_there(cfg):
        return hashes
    with contextlib.redirect_stdout(io.StringIO()), seeded(max(cfg.SEED, 0)):  # the run itself prints the same
        dataset = build_dataset(cfg)
        return hashes | of_dataset(cfg, dataset) | of_sentences(spec, cfg, dataset)


def of_trainer(spec: RunSpec, cfg: CfgNode, trainer: object) -> Fingerprints:
    """The fingerprints of a run whose trainer has been built."""
    manager = getattr(trainer, "dm", None)
    hashes = of_graph(spec, cfg)
    if manager is not None:  # a trainer may make its loaders without one
        hashes |= of_dataset(cfg, manager.dataset)
        with contextlib.redirect_stdout(io.StringIO()):  # the trainer prints which sentences it reads
            hashes |= of_sentences(spec, cfg, manager.dataset)
    if isinstance(trainer, ClipTrainer):
        fingerprint = trainer.clip_model.fingerprint
        hashes |= of_weights(cfg, fingerprint) | {"weights": fingerprint}  # and remember it
    return hashes


def _data_are_there(cfg: CfgNode) -> bool:
    facts, root = load().find(cfg.DATASET.NAME), Path(cfg.DATASET.ROOT or ".").expanduser()
    return (facts is None and not cfg.DATASET.FOLDER) or (
        facts.folder(root) if facts else root / cfg.DATASET.FOLDER
    ).is_dir()


def summary(hashes: Fingerprints) -> dict[str, str]:
    """One hash per fingerprint."""
    return {name: value if isinstance(value, str) else text_hash(value) for name, value in hashes.items()}


def read(path: Path) -> Fingerprints:
    """Read a run's file of fingerprints; {} if there is no such file, as in runs of older versions.

    Raises:
        UserError: the file is corrupt.
    """
    return read_record(path, SHAPE) if path.is_file() else {}


def changes(before: Mapping[str, object], mine: Fingerprints) -> list[str]:
    """What has changed, in words: "other images (3 of 96 changed, the first is cyst/001.png)".

    Anything that was not recorded, or no longer exists, is not compared. Values of `before` may come from `summary`.
    """
    hashes, changed = summary(mine), []
    for name, words in WORDS.items():
        old = before.get(name)
        if old and name in mine and (old if isinstance(old, str) else text_hash(old)) != hashes[name]:
            changed.append(f"{words}{_counted(old, mine[name], COUNTED.get(name, ''))}")
    return changed


def _counted(old: object, new: object, noun: str) -> str:
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return ""
    differing = [name for name in sorted(old.keys() | new.keys()) if old.get(name) != new.get(name)]
    return f" ({len(differing)} of {len(old.keys() | new.keys())} {noun}, the first is {differing[0]})"
