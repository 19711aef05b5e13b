"""A run's folder: what it holds, when it is complete, and whether it belongs to the run at hand."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import TextIO

import yaml
from yacs.config import CfgNode

from dassl.data.data_manager import DataManager
from dassl.engine import TrainerBase
from dassl.utils import UserError, atomic_path, find_checkpoint, models_in, sweep, write_json
from dassl.utils.phases import Phases
from datasets.catalogue import load, name_of_folder
from datasets.duplicates import identical
from reports.collect import ELSEWHERE
from reports.metrics import summary
from reports.predictions import Predictions
from reports.variants import PLACES
from runs.config import changed_keys, flat, plain
from runs.registry import method_class
from runs.spec import RunSpec

FORMAT = 2
RESULTS, PREDICTIONS = "results.json", "predictions.npz"
CONFIG, SPLIT, VALIDATION = "config.yaml", "split.json", "val_predictions.npz"
PHANTOM_BACKBONE = "PhantomCLIP"
LIBRARIES = ("torch", "torchvision", "open_clip_torch", "timm", "transformers")


def differences(mine: dict, theirs: dict) -> list[str]:
    """Keys that both have, that change what a run computes, and that differ, as "KEY theirs -> mine"."""
    mine, theirs = dict(flat(mine)), dict(flat(theirs))
    keys = sorted((mine.keys() & theirs.keys()) - set(PLACES))
    return [f"{key} {theirs[key]!r} -> {mine[key]!r}" for key in keys if mine[key] != theirs[key]]


def versions() -> dict[str, str]:
    """Versions of everything that computes."""
    return {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES}


def text_hash(value: object) -> str:
    """A hash of anything that JSON can write."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


class RunFolder:
    """The folder of one run.

    A run is complete when results.json is there; it is written last, atomically. config.yaml says what an unfinished
    run was begun with.
    """

    def __init__(self, spec: RunSpec, cfg: CfgNode) -> None:
        self.spec, self.cfg = spec, cfg
        self.path = Path(cfg.OUTPUT_DIR)
        self.config = plain(cfg)
        self.log_path = self.path / "log.txt"
        self._data_notes: list[str] | None = None

    def finished_results(self) -> dict | None:
        """What results.json holds, or None when the run is not complete.

        Raises:
            UserError: the folder belongs to a run with another configuration, or of another checkpoint; or a file that
                the configuration names is not there.
        """
        files = self._files()
        results = self.path / RESULTS
        if results.is_file():
            try:
                found = json.loads(results.read_text(encoding="utf-8"))
                theirs, checkpoint = found["config"], found["fingerprints"].get("checkpoint")
            except (ValueError, KeyError, TypeError):
                raise UserError(f"{results} is corrupt; delete it to have the run tested again.") from None
            self._must_match(theirs, "is the result of")
            changed = [name for name, value in files.items() if found["fingerprints"].get(name) != value]
            if changed:
                raise UserError(
                    f"{self.path} is the result of another {changed[0]}, whose file has changed since: "
                    f"choose another output folder, or delete this one."
                )
            if self.spec.eval_only and checkpoint != self.checkpoint_fingerprint():
                raise UserError(
                    f"{results} was made with another checkpoint than the one in {self.spec.model_dir}; "
                    f"delete {self.path} to test again."
                )
            return found
        begun = self.path / CONFIG
        if begun.is_file() and models_in(self.path):
            self._must_match(yaml.safe_load(begun.read_text(encoding="utf-8")) or {}, "holds an unfinished run of")
        return None

    def _must_match(self, theirs: dict, what: str) -> None:
        changed = differences(self.config, theirs)
        if changed:
            more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
            raise UserError(
                f"{self.path} {what} a different configuration ({'; '.join(changed[:3])}{more}): "
                f"choose another output folder, or delete this one."
            )

    def _files(self) -> dict[str, str]:
        """Fingerprints of the files, beside data and weights, that decide what the run will learn."""
        method = method_class(self.cfg.TRAINER.NAME)
        if self.spec.eval_only or not hasattr(method, "fingerprints"):
            return {}
        return method.fingerprints(self.cfg)

    def prepare(self) -> None:
        """Make the folder and write down the configuration; an unfinished run in it will be resumed."""
        self.path.mkdir(parents=True, exist_ok=True)
        for folder in (self.path, *models_in(self.path)):
            sweep(folder)
        with atomic_path(self.path / CONFIG) as temporary:
            temporary.write_text(yaml.safe_dump(self.config, sort_keys=False), encoding="utf-8")
        if not self.spec.eval_only and not self.cfg.RESUME:
            self.cfg.defrost()
            self.cfg.RESUME = str(self.path)
            self.cfg.freeze()

    def log(self) -> TextIO:
        """The log file, to append to."""
        return self.log_path.open("a", encoding="utf-8")

    def write_split(self, dataset: object) -> None:
        """split.json: the images drawn for train and val, relative to the data set, with label and class name."""
        drawn = {
            part: [[relative(item.impath, dataset), item.label, item.classname] for item in items or []]
            for part, items in (("train", dataset.train_x), ("val", dataset.val))
        }
        write_json(drawn, self.path / SPLIT)

    def data_notes(self, trainer: TrainerBase) -> list[str]:
        """What a reader must know of the images, a sentence each; nothing for a test of what another run learned."""
        if self._data_notes is None:
            self._data_notes = [] if self.spec.eval_only else data_notes(trainer.dm)
        return self._data_notes

    def write_validation(self, predictions: Predictions | None) -> None:
        """val_predictions.npz, where there are any."""
        if predictions is not None:
            predictions.save(self.path / VALIDATION)

    def checkpoint_fingerprint(self) -> str | None:
        """Hash of the learned parameters' files in --model-dir; None where there are none."""
        if not self.spec.model_dir:
            return None
        files = [find_checkpoint(folder, self.spec.load_epoch) for folder in models_in(self.spec.model_dir)]
        return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest() if files else None

    def source(self) -> str:
        """The data set on which the parameters that an evaluation loads were learned: what the run folder --model-dir
        says, `ELSEWHERE` where it is not one of this project's, "" for a run without --model-dir."""
        if self.cfg.DATASET.TEST_ON:
            return trained_on(self.config)
        if not self.spec.eval_only or not self.spec.model_dir:
            return ""
        begun = Path(self.spec.model_dir) / "config.yaml"
        if not begun.is_file():
            return ELSEWHERE
        try:
            return trained_on(yaml.safe_load(begun.read_text(encoding="utf-8")))
        except (yaml.YAMLError, KeyError, TypeError, ValueError):
            raise UserError(
                f"{begun} is corrupt, so that what was learned there cannot be told: train again."
            ) from None

    def write_results(self, trainer: TrainerBase, predictions: Predictions, phases: Phases, seconds: float) -> dict:
        """predictions.npz, then results.json, whose presence makes the run complete."""
        predictions.save(self.path / PREDICTIONS)
        cfg, method, source = self.cfg, method_class(self.cfg.TRAINER.NAME), self.source()
        results = {
            "format": FORMAT,
            "method": cfg.TRAINER.NAME,
            "title": vars(method).get("title") or cfg.TRAINER.NAME,
            "dataset": tested_on(self.config),
            "source": source,
            "backbone": cfg.MODEL.BACKBONE.NAME,
            "subsample": cfg.DATASET.SUBSAMPLE_CLASSES,
            "trained": not self.spec.eval_only,
            "novel": names_novel_classes(cfg),
            "shots": cfg.DATASET.NUM_SHOTS,
            "seed": cfg.SEED,
            "split": cfg.TEST.SPLIT,
            "changed": changed_keys(self.spec, cfg, "" if source == ELSEWHERE else source),
            **summary(predictions),
            "notes": [*notes(cfg), *self.data_notes(trainer)],
            "seconds": seconds,
            "phases": phases.record,
            "versions": versions(),
            "fingerprints": {
                "config": text_hash(sorted(item for item in flat(self.config) if item[0] not in PLACES)),
                "dataset": getattr(trainer.dm.dataset, "fingerprint", None),
                "weights": getattr(getattr(trainer, "clip_model", None), "fingerprint", None),
                "checkpoint": self.checkpoint_fingerprint(),
                **getattr(trainer, "learned_from", {}),
            },
            "config": self.config,
        }
        write_json(results, self.path / RESULTS)
        return results


def notes(cfg: CfgNode) -> list[str]:
    """What a reader of a run's numbers must know, a sentence each."""
    facts = load().find(cfg.DATASET.NAME)
    note = phantom_note(cfg.MODEL.BACKBONE.NAME)
    return [note] if note and not (facts and facts.generator) else []


def data_notes(manager: DataManager) -> list[str]:
    """What a reader of numbers on these images must know, a sentence each."""
    dataset, found = manager.dataset, list(getattr(manager.dataset, "notes", ()))
    seen = {item.impath for part in (dataset.train_x, dataset.val) for item in part or ()}
    tested = list(dict.fromkeys(item.impath for item in dataset.test or ()))
    shared = identical(map(Path, tested), map(Path, seen))
    if shared:
        found.append(
            f"{len(shared)} of the {len(tested)} test images are, byte for byte, training or validation images, which "
            "makes the test too easy: scripts/check_data.py lists them."
        )
    if manager.several_frames:
        found.append(
            f"{manager.several_frames} of the images have several frames, of which one is read, the middle one unless "
            "INPUT.FRAME says otherwise."
        )
    return found


def phantom_note(backbone: str) -> str:
    """A sentence on what the bundled model is not for; "" for other models."""
    if Path(backbone).name.lower() != PHANTOM_BACKBONE.lower():
        return ""
    return f"{PHANTOM_BACKBONE} knows nothing but the drawn images of Phantom: on others its answers mean nothing."


def dataset_name(cfg: CfgNode) -> str:
    """The data set's name; for a folder of images the folder's."""
    return Path(cfg.DATASET.FOLDER).name or cfg.DATASET.NAME


def trained_on(config: dict) -> str:
    """The data set of a configuration, as in the catalogue; a folder of images by its name, which tells it from a set
    of the catalogue."""
    folder = config["DATASET"]["FOLDER"]
    return name_of_folder(folder) if folder else config["DATASET"]["NAME"]


def tested_on(config: dict) -> str:
    """The data set whose images a run of a configuration tests."""
    name = config["DATASET"]["TEST_ON"]
    facts = load().find(name) if name else None
    return facts.name if facts else name or trained_on(config)


def relative(path: str, dataset: object) -> str:
    """An image's path below its data set's image folder, with forward slashes; for a data set that does not name one,
    below its folder."""
    root = getattr(dataset, "image_dir", None) or getattr(dataset, "dataset_dir", None)
    return Path(os.path.relpath(path, root) if root else path).as_posix()


def names_novel_classes(cfg: CfgNode) -> bool:
    """Whether what a run of this configuration learns can name classes that it never saw."""
    method = method_class(cfg.TRAINER.NAME)
    if not hasattr(method, "can_name_novel_classes"):
        return getattr(method, "has_novel_head", True)
    return method.can_name_novel_classes(cfg.TRAINER[cfg.TRAINER.NAME.upper()])
