"""A run's folder: what stands in it, when it is complete, and whether it belongs to the configuration at hand."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import open_clip
import timm
import torch
import torchvision
import transformers
import yaml
from yacs.config import CfgNode

from dassl.engine import TrainerBase
from dassl.utils import UserError, atomic_path, find_checkpoint, write_json
from dassl.utils.phases import Phases

FORMAT = 1
# Where things are and how they are shown: they do not change what a run computes.
PLACES = ("OUTPUT_DIR", "RESUME", "VERBOSE", "DATASET.ROOT", "FEATURES.CACHE_DIR", "TRAIN.PRINT_FREQ",
          "DATALOADER.NUM_WORKERS")  # fmt: skip


def plain(value: object) -> object:
    """A configuration as JSON has it: dicts, lists and scalars."""
    return json.loads(json.dumps(value))


def flat(node: dict, prefix: str = "") -> Iterator[tuple[str, object]]:
    """(dotted key, value) of a nested dict."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def differences(mine: dict, theirs: dict) -> list[str]:
    """Keys that both have, that change what a run computes, and that differ, as "KEY theirs -> mine"."""
    mine, theirs = dict(flat(mine)), dict(flat(theirs))
    keys = sorted((mine.keys() & theirs.keys()) - set(PLACES))
    return [f"{key} {theirs[key]!r} -> {mine[key]!r}" for key in keys if mine[key] != theirs[key]]


def versions() -> dict[str, str]:
    """Versions of everything that computes."""
    modules = (torch, torchvision, open_clip, timm, transformers)
    return {"python": platform.python_version()} | {module.__name__: module.__version__ for module in modules}


def text_hash(value: object) -> str:
    """A hash of anything that JSON can write."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


class RunFolder:
    """The folder of one run, `cfg.OUTPUT_DIR`.

    A run is complete when results.json is there; that is written last, in one piece. config.yaml says what an
    unfinished run was begun with.
    """

    def __init__(self, cfg: CfgNode, args: argparse.Namespace) -> None:
        self.cfg, self.args = cfg, args
        self.path = Path(cfg.OUTPUT_DIR)
        self.config = plain(cfg)
        self.log_path = self.path / "log.txt"

    def finished_results(self) -> dict | None:
        """What results.json holds, or None when the run is not complete.

        Raises:
            UserError: the folder belongs to a run with another configuration, or of another checkpoint.
        """
        results = self.path / "results.json"
        if results.is_file():
            try:
                found = json.loads(results.read_text())
                theirs, checkpoint = found["config"], found["fingerprints"].get("checkpoint")
            except (ValueError, KeyError, TypeError):
                raise UserError(f"{results} is damaged; delete it to have the run tested again.") from None
            self._must_match(theirs, "is the result of")
            if self.args.eval_only and checkpoint != self.checkpoint_fingerprint():
                raise UserError(
                    f"{results} was made with another checkpoint than the one in {self.args.model_dir}; "
                    f"delete {self.path} to test again."
                )
            return found
        begun = self.path / "config.yaml"
        if begun.is_file() and any(self.path.glob("*/model.pth.tar-*")):
            self._must_match(yaml.safe_load(begun.read_text()) or {}, "holds an unfinished run of")
        return None

    def _must_match(self, theirs: dict, what: str) -> None:
        changed = differences(self.config, theirs)
        if changed:
            more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
            raise UserError(
                f"{self.path} {what} a different configuration ({'; '.join(changed[:3])}{more}): "
                f"choose another output folder, or delete this one."
            )

    def prepare(self) -> None:
        """Make the folder and write down the configuration; an unfinished run in it will be continued."""
        self.path.mkdir(parents=True, exist_ok=True)
        with atomic_path(self.path / "config.yaml") as temporary:
            Path(temporary).write_text(yaml.safe_dump(self.config, sort_keys=False))
        if not self.args.eval_only and not self.cfg.RESUME:
            self.cfg.defrost()
            self.cfg.RESUME = str(self.path)
            self.cfg.freeze()

    def log(self) -> TextIO:
        """The log file, to append to."""
        return self.log_path.open("a")

    def write_split(self, dataset: object) -> None:
        """split.json: the images drawn for train and val, relative to the image folder, with label and class name."""
        root = getattr(dataset, "image_dir", None)
        drawn = {
            part: [
                [os.path.relpath(item.impath, root) if root else item.impath, item.label, item.classname]
                for item in items or []
            ]
            for part, items in (("train", dataset.train_x), ("val", dataset.val))
        }
        write_json(drawn, str(self.path / "split.json"))

    def checkpoint_fingerprint(self) -> str | None:
        """Hash of the learned parameters' files in --model-dir; None where there are none."""
        if not self.args.model_dir:
            return None
        files = [
            find_checkpoint(folder, self.args.load_epoch)
            for folder in sorted(Path(self.args.model_dir).iterdir())
            if folder.is_dir() and any(folder.glob("model*.pth.tar*"))
        ]
        return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest() if files else None

    def write_results(self, trainer: TrainerBase, phases: Phases, seconds: float) -> dict:
        """results.json, in one piece: that it is there is what makes the run complete."""
        cfg, report, dataset = self.cfg, trainer.evaluator.report, trainer.dm.dataset
        classnames = list(dataset.classnames)
        results = {
            "format": FORMAT,
            "method": cfg.TRAINER.NAME,
            "dataset": cfg.DATASET.FOLDER or cfg.DATASET.NAME,
            "backbone": cfg.MODEL.BACKBONE.NAME,
            "subsample": cfg.DATASET.SUBSAMPLE_CLASSES,
            "novel": getattr(trainer, "has_novel_head", True),
            "shots": cfg.DATASET.NUM_SHOTS,
            "seed": cfg.SEED,
            "split": cfg.TEST.SPLIT,
            **{name: report[name] for name in ("accuracy", "macro_f1", "expected_calibration_error")},
            "per_class_accuracy": dict(zip(classnames, report["per_class_accuracy"], strict=True)),
            "confusion_matrix": report["confusion_matrix"],
            "classnames": classnames,
            "num_test": report["num_test"],
            "seconds": seconds,
            "phases": phases.record,
            "versions": versions(),
            "fingerprints": {
                "config": text_hash(sorted(item for item in flat(self.config) if item[0] not in PLACES)),
                "dataset": getattr(dataset, "fingerprint", None),
                "weights": getattr(getattr(trainer, "clip_model", None), "fingerprint", None),
                "checkpoint": self.checkpoint_fingerprint(),
            },
            "config": self.config,
        }
        write_json(results, str(self.path / "results.json"))
        return results
