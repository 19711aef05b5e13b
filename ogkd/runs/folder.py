"""A run's folder: its files, when it is complete, and whether it belongs to the current run."""

from __future__ import annotations

import contextlib
import hashlib
import platform
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from dassl.engine import SimpleTrainer, TrainerBase
from ogkd.core import Diverged, UserError, atomic_path, checkpoints_in, find_checkpoint, models_in, sweep, write_json
from ogkd.core.checkpoints import BEST
from ogkd.core.config_files import read_config
from ogkd.core.hashes import text_hash
from ogkd.core.locks import locked
from ogkd.core.phases import Phases
from ogkd.core.words import listed
from ogkd.data.sampling import BALANCED
from ogkd.evaluation.clinical import calibrated_on
from ogkd.evaluation.collect import DIVERGED, read_results
from ogkd.evaluation.doubts import about_probabilities, doubts
from ogkd.evaluation.metrics import summary
from ogkd.evaluation.predictions import Predictions
from ogkd.evaluation.protocol import PLACES
from ogkd.evaluation.sets import P_VALUES
from ogkd.evaluation.unlike import Reference
from ogkd.models.sources import revision_of
from ogkd.runs import fingerprints
from ogkd.runs.config import Configuration, flat, names_novel_classes, tested_on
from ogkd.runs.fingerprints import relative
from ogkd.runs.notes import notes
from ogkd.runs.records import CONFIG, SPLIT
from ogkd.runs.registry import method_class
from ogkd.runs.spec import FAST, PUBLISHED, SEARCH
from ogkd.tuning.clip_trainer import ClipTrainer

FORMAT = 2
RESULTS, PREDICTIONS = "results.json", "predictions.npz"
VALIDATION, REFERENCE = "val_predictions.npz", "val_reference.npz"
FINGERPRINTS, LOCK = "fingerprints.json", ".lock"
START_AGAIN = "add --rerun to start it again, or choose another output folder (OUTPUT, --output-dir)"
LIBRARIES = ("torch", "torchvision", "open_clip_torch", "timm", "transformers")


def versions() -> dict[str, str]:
    """Versions of Python and the libraries that compute."""
    return {"python": platform.python_version()} | {name: version(name) for name in LIBRARIES}


class RunFolder:
    """The folder of one run.

    A run is complete if there is a results.json; it is written last, atomically. config.yaml and fingerprints.json
    record what an unfinished run was started with. If the training diverged, diverged.json replaces results.json: it
    describes the run and, under "diverged", the non-finite term, its epoch and step, and the message shown.
    """

    def __init__(self, configuration: Configuration) -> None:
        self.configuration, self.spec, self.cfg = configuration, configuration.spec, configuration.cfg
        self.path = Path(self.cfg.OUTPUT_DIR)
        self.config = configuration.values
        self.fingerprints: fingerprints.Fingerprints = {}
        self.notes = notes(configuration)  # for readers of its results, one sentence each
        self.calibration: dict[str, int] | None = None  # how many validation images are predicted, and how many drawn
        self.warnings: list[str] = []  # doubts about the result, besides those about the predictions

    def locked(self) -> contextlib.AbstractContextManager[None]:
        """Create the folder and hold its lock, so that a second process for the same run waits for the first."""
        self.path.mkdir(parents=True, exist_ok=True)
        return locked(self.path / LOCK, f"the run in {self.path}")

    def check(self) -> None:
        """Raise UserError if a file in the configuration is missing or unusable, before anything is written."""
        fingerprints.of_graph(self.spec, self.cfg)

    @property
    def has_results(self) -> bool:
        return (self.path / RESULTS).is_file()

    def finished_results(self) -> dict | None:
        """The content of results.json, or None if the run is not complete.

        Raises:
            UserError: the folder belongs to a run with another configuration or checkpoint, or with data, sentences or
                weights that have changed since; or a file in the configuration is missing.
            Diverged: this run diverged, or the run that it tests.
        """
        self._check_diverged()
        if self.has_results:
            path = self.path / RESULTS
            results = read_results(path)
            recorded = results["fingerprints"]
            self._must_match(results["config"], "was made with")
            self._must_be_unchanged(self.path, "was made with", recorded)
            if self.spec.eval_only and recorded.get("checkpoint") != self.checkpoint_fingerprint():
                raise UserError(
                    f"{path} was made with a checkpoint that differs from the one in {self.spec.model_dir}: add "
                    f"--rerun to test again, or choose another output folder."
                )
            return results
        begun = self.path / CONFIG
        if begun.is_file() and models_in(self.path):
            self._must_match(read_config(begun), "has an unfinished run with")
            self._must_be_unchanged(self.path, "was started with")
        if self.spec.resume:
            self._must_be_unchanged(Path(self.spec.resume), "was started with")
        return None

    def _check_diverged(self) -> None:
        """Raise Diverged if this run diverged, or the run whose prompt it tests. A run that diverged with another
        configuration is replaced by this one."""
        for folder in dict.fromkeys((self.path, Path(self.spec.model_dir or self.path))):
            if not (folder / DIVERGED).is_file() or (folder / RESULTS).is_file():
                continue
            record = read_results(folder / DIVERGED)
            error = Diverged(**record["diverged"])
            if folder == self.path and self.configuration.differences(record["config"]):
                print(f"{folder} holds a run that diverged with another configuration, which this one replaces.")
                self._remove_checkpoints()
                (folder / DIVERGED).unlink()
                continue
            raise Diverged(
                f"{folder} holds a run that diverged and is not repeated. {error} To start the same run again, add "
                f"--rerun.",
                error.epoch,
                error.step,
                error.term,
            )

    def _must_match(self, theirs: dict, what: str) -> None:
        if changed := self.configuration.differences(theirs):
            raise UserError(f"{self.path} {what} a different configuration ({listed(changed)}): {START_AGAIN}.")

    def _must_be_unchanged(self, folder: Path, what: str, recorded: dict | None = None) -> None:
        """Raise UserError if data, sentences, graph or weights have changed since the run in a folder was started.
        `recorded`: the hashes in its results, if it has any."""
        before = fingerprints.read(folder / FINGERPRINTS)
        if recorded is not None:  # the file adds only the hashes of single images and classes
            hashes = fingerprints.summary(before)
            before = {name: before[name] if hashes.get(name, 0) == value else value for name, value in recorded.items()}
        changed = fingerprints.changes(before, fingerprints.now(self.spec, self.cfg)) if before else []
        if changed:
            raise UserError(f"{folder} {what} {' and '.join(changed)}: {START_AGAIN}.")

    def clear(self) -> None:
        """Remove the run's files so that it starts again. Results are removed first, so that a process killed in
        between does not leave an apparently finished run. Logs and files from elsewhere stay."""
        files = [self.path / name for name in (RESULTS, DIVERGED, PREDICTIONS, VALIDATION, REFERENCE, P_VALUES, SPLIT)]
        if not self.spec.eval_only:  # whose checkpoint may be in the same folder
            for model in models_in(self.path):
                files += [*checkpoints_in(model).values(), model / BEST, model / "checkpoint"]
            files += [*(self.path / "tensorboard").glob("events.out.tfevents.*"), self.path / FINGERPRINTS]
        for file in files:
            file.unlink(missing_ok=True)
        for folder in {file.parent for file in files} - {self.path}:
            with contextlib.suppress(OSError):  # it has other files
                folder.rmdir()

    def prepare(self) -> None:
        """Create the folder and write the configuration; an unfinished run in it will be resumed."""
        self.path.mkdir(parents=True, exist_ok=True)
        for folder in (self.path, *(path for path in self.path.iterdir() if path.is_dir())):
            sweep(folder)
        with atomic_path(self.path / CONFIG) as temporary:
            temporary.write_text(yaml.safe_dump(self.config, sort_keys=False), encoding="utf-8")

    def refused(self) -> None:
        """Remove the configuration of a run that ended before its first checkpoint, as there is nothing to resume."""
        if not any(checkpoints_in(model) for model in models_in(self.path)):
            (self.path / CONFIG).unlink(missing_ok=True)

    @property
    def revision(self) -> str | None:
        """The hub's commit of the backbone's weights, if it is known."""
        return revision_of(self.cfg.MODEL.BACKBONE.NAME)

    def write_fingerprints(self, trainer: TrainerBase) -> None:
        """Write fingerprints.json: what the run trains and tests on."""
        self.fingerprints = fingerprints.of_trainer(self.spec, self.cfg, trainer)
        write_json(self.fingerprints, self.path / FINGERPRINTS)

    def write_split(self, dataset: Any) -> None:
        """Write split.json: the images sampled for train and val, relative to the data set, with label and class."""
        sampled = {
            part: [[relative(item.impath, dataset), item.label, item.classname] for item in items or []]
            for part, items in (("train", dataset.train_x), ("val", dataset.val))
        }
        write_json(sampled, self.path / SPLIT)

    def chosen(self) -> str:
        """What was chosen for the run, one line each, for the top of its log; config.yaml has everything."""
        cfg = self.cfg
        classes = "" if cfg.DATASET.SUBSAMPLE_CLASSES == "all" else f", {cfg.DATASET.SUBSAMPLE_CLASSES} classes"
        facts = {
            "Method": cfg.TRAINER.NAME,
            "Data": tested_on(self.config) + classes,
            "Shots": "all" if cfg.DATASET.NUM_SHOTS < 0 else cfg.DATASET.NUM_SHOTS,
            "Draw": "" if cfg.DATASET.DRAW == BALANCED else cfg.DATASET.DRAW,
            "Seed": cfg.SEED if cfg.SEED >= 0 else "none",
            "Backbone": cfg.MODEL.BACKBONE.NAME,
            "Threads": torch.get_num_threads(),
            "Settings": self._settings(),
            "Tests what was learned in": self.spec.model_dir if self.spec.eval_only else "",
            "Changed": ", ".join(f"{key} {value}" for key, value in self.configuration.changed.items()) or "nothing",
            "Configuration": self.path / CONFIG,
        }
        return "\n".join(f"{name}: {value}" for name, value in facts.items() if value != "")

    def _settings(self) -> str:
        """The preset, if it is not the published one, and what the fast one means here."""
        preset, features = self.cfg.SETTINGS, self.cfg.FEATURES
        crops = f"{features.CROPS} crops of each training image, encoded once" if features.CROPS else "new crops"
        return {PUBLISHED: "", FAST: f"{preset} ({crops}, towers in {features.PRECISION})"}.get(preset, preset)

    def write_validation(self, predictions: Predictions | None, drawn: int, reference: Reference | None) -> None:
        """Write val_predictions.npz and val_reference.npz, if there are validation images; `drawn`: how many of them
        were drawn for training."""
        if reference is not None:
            reference.save(self.path / REFERENCE)
        if predictions is None:
            return
        predictions.save(self.path / VALIDATION)
        self.calibration = {"images": len(predictions), "drawn": drawn}
        print(f"Temperature and thresholds are fitted to {calibrated_on(**self.calibration)}.")

    def write_p_values(self, every: torch.Tensor, per_class: torch.Tensor) -> None:
        """Write full_conformal.npz, the p values (N, C) of test images and classes."""
        with atomic_path(self.path / P_VALUES) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, every=every.cpu().numpy(), per_class=per_class.cpu().numpy())

    def _labelled(self, trainer: TrainerBase) -> dict[str, list] | None:
        """The labelled images that a training uses: the fewest and the most per class, to learn from (train) and to
        choose by (val), and what was `chosen` by the latter. Temperature and thresholds change no answer, see
        `calibration`."""
        if self.spec.eval_only:
            return None
        search, chosen, learns = self.cfg.SEARCH, list[str](), True
        if isinstance(trainer, ClipTrainer):
            chosen, learns = [*trainer.task.chosen], bool(trainer.get_model_names())
        elif self.cfg.TEST.FINAL_MODEL == "best_val":
            chosen.append("the best epoch")
        if self.cfg.SETTINGS == SEARCH and search.TRIALS and not search.FOLDS:
            chosen.append("the settings")
        dataset = getattr(getattr(trainer, "dm", None), "dataset", None)
        if dataset is None:  # a trainer may build its loaders without one
            return None
        spans = {}
        for part, items in (("train", dataset.train_x if learns else []), ("val", dataset.val if chosen else [])):
            counts = Counter(item.label for item in items or ())
            of_classes = [counts[label] for label in range(dataset.num_classes)]
            spans[part] = [min(of_classes), max(of_classes)]
        return {**spans, "chosen": list(dict.fromkeys(chosen))}

    def checkpoint_fingerprint(self) -> str | None:
        """Hash of the checkpoint files in --model-dir; None if there are none."""
        if not self.spec.model_dir:
            return None
        files = [find_checkpoint(folder, self.spec.load_epoch) for folder in models_in(self.spec.model_dir)]
        return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest() if files else None

    def write_results(self, trainer: SimpleTrainer, predictions: Predictions, phases: Phases, seconds: float) -> dict:
        """Write predictions.npz, then results.json, whose presence marks the run as complete."""
        predictions.save(self.path / PREDICTIONS)
        measured, training = summary(predictions), trainer._mean_losses or None
        trained = None if self.cfg.DATASET.TEST_ON else getattr(trainer, "num_classes", None)
        about = doubts(measured["confusion_matrix"], predictions.classnames, training, trained)
        about += about_probabilities(predictions.probabilities)
        measured |= {"training": training, "warnings": [*self.warnings, *about]}
        results = self._record(trainer, measured, phases, seconds)
        write_json(results, self.path / RESULTS)
        (self.path / DIVERGED).unlink(missing_ok=True)
        return results

    def write_diverged(self, trainer: TrainerBase, error: Diverged, phases: Phases, seconds: float) -> None:
        """Write diverged.json, so that the run does not count as unfinished, and remove its checkpoints."""
        about = {"message": str(error), "epoch": error.epoch, "step": error.step, "term": error.term}
        write_json(self._record(trainer, {"diverged": about}, phases, seconds), self.path / DIVERGED)
        self._remove_checkpoints()

    def _remove_checkpoints(self) -> None:
        for model in models_in(self.path):
            for path in (*checkpoints_in(model).values(), model / BEST):
                path.unlink(missing_ok=True)

    def _record(self, trainer: TrainerBase, measured: dict, phases: Phases, seconds: float) -> dict:
        """The description of the run together with what it found."""
        cfg, method = self.cfg, method_class(self.cfg.TRAINER.NAME)
        return {
            "format": FORMAT,
            "method": cfg.TRAINER.NAME,
            "title": vars(method).get("title") or cfg.TRAINER.NAME,
            "dataset": tested_on(self.config),
            "source": self.configuration.source,
            "backbone": cfg.MODEL.BACKBONE.NAME,
            "revision": self.revision,
            "subsample": cfg.DATASET.SUBSAMPLE_CLASSES,
            "trained": not self.spec.eval_only,
            "novel": names_novel_classes(cfg),
            "shots": cfg.DATASET.NUM_SHOTS,
            "draw": cfg.DATASET.DRAW,
            "seed": cfg.SEED,
            "split": cfg.TEST.SPLIT,
            "settings": cfg.SETTINGS,
            "changed": self.configuration.changed,
            "tuned": self.configuration.tuned,
            "calibration": self.calibration,
            "labelled": self._labelled(trainer),
            **measured,
            "notes": self.notes,
            "seconds": seconds,
            "phases": phases.record,
            "threads": torch.get_num_threads(),
            "versions": versions(),
            "fingerprints": {
                "config": text_hash(sorted(item for item in flat(self.config) if item[0] not in PLACES)),
                "weights": None,
                **fingerprints.summary(self.fingerprints),
                "checkpoint": self.checkpoint_fingerprint(),
                **(trainer.learned_from if isinstance(trainer, ClipTrainer) else {}),
            },
            "config": self.config,
        }
