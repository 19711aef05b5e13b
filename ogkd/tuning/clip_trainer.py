"""The trainer of any Method: it owns loaders, optimiser, checkpoints, the test, resuming and the checks of numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler
from yacs.config import CfgNode

from dassl.data import DataManager
from dassl.metrics import compute_accuracy
from ogkd import models
from ogkd.core import UserError, find_checkpoint, progress
from ogkd.core.phases import Phases
from ogkd.core.torchtools import load_checkpoint
from ogkd.core.words import listed
from ogkd.features.cache import FeatureCache
from ogkd.features.encode import encode_images
from ogkd.features.graphs import with_graphs
from ogkd.features.loaders import batches_of
from ogkd.features.precision import at_precision
from ogkd.models import ImageFeatures
from ogkd.tuning.backbone import load_backbone
from ogkd.tuning.distillation import fingerprints
from ogkd.tuning.engine import TrainerX
from ogkd.tuning.method import Method, own_parameters
from ogkd.tuning.task import Task, dataset_name
from ogkd.tuning.teacher import sentences_of


class ClipTrainer(TrainerX):
    """Trains and tests the method `method_class` on the images of a Dassl data set.

    `ogkd.tuning.registration` makes a subclass per method, whose name is the method's in Dassl's registry and, in
    capitals, that of its section TRAINER.<NAME> of the configuration. `dataset` replaces the data set that the
    configuration names.
    """

    method_class: type[Method] = Method
    method: Method

    def __init__(self, cfg: CfgNode, dataset: Any = None) -> None:
        self.phases = Phases()
        self.given_dataset = dataset
        self.learned_from: dict[str, str] = {}  # fingerprints of the training run, even in a run that only tests
        self._accuracies: list[float] = []  # on the validation images, after each epoch
        self._sum: tuple[float, dict[str, Tensor]] = (0.0, {})  # of the epochs' weights and weighted parameters
        if self.method_class.views > 1 and cfg.DATALOADER.K_TRANSFORMS == 1:
            cfg = cfg.clone()
            cfg.defrost()
            cfg.DATALOADER.K_TRANSFORMS = self.method_class.views
            cfg.freeze()
        super().__init__(cfg)

    @classmethod
    def section(cls) -> str:
        """The name of the method's node below TRAINER in the configuration."""
        return cls.__name__.upper()

    @classmethod
    def extend_config(cls, cfg: CfgNode) -> None:
        cfg.TRAINER[cls.section()] = CfgNode(cls.method_class.options.defaults())

    @property
    def options(self) -> CfgNode:
        """The method's own node of the configuration."""
        return self.cfg.TRAINER[self.section()]

    def check_cfg(self, cfg: CfgNode) -> None:
        name = type(self).__name__
        self.method_class.options.check(cfg.TRAINER[self.section()])
        if cfg.FEATURES.CROPS and cfg.SEED < 0:
            raise UserError(
                f"FEATURES.CROPS {cfg.FEATURES.CROPS} draws crops from the seed, and the run has none: add --seed 1."
            )
        if cfg.INPUT.NO_TRANSFORM:
            raise UserError("INPUT.NO_TRANSFORM leaves images that no model takes: set it to False.")
        views = cfg.DATALOADER.K_TRANSFORMS
        if views != self.method_class.views:
            raise UserError(f"DATALOADER.K_TRANSFORMS is {views}, but {name} decides itself how many views it sees.")
        backbone, (height, width) = cfg.MODEL.BACKBONE.NAME, cfg.INPUT.SIZE
        side = models.image_spec(backbone).size
        if (height, width) != (side, side):
            raise UserError(
                f"INPUT.SIZE is ({height}, {width}), but {Path(backbone).name} takes images of {side} x {side} pixels: "
                f"leave it out."
            )
        self.method_class.check_cfg(cfg)

    # Building

    def _build_data_manager(self) -> DataManager:
        given = self.given_dataset
        manager = super()._build_data_manager() if given is None else DataManager(self.cfg, dataset=given)
        if self.method_class.needs_each_class(self.options):
            there = {item.label for item in manager.dataset.train_x}
            absent = [name for label, name in enumerate(manager.dataset.classnames) if label not in there]
            if absent:
                name = self.method_class.title or type(self).__name__
                raise UserError(
                    f"{name} cannot learn a class without a training image, and none was drawn of "
                    f"{listed(absent, last='or')}: set DATASET.DRAW to proportional, which draws one or more of each "
                    "class, or use another method."
                )
        return manager

    def build_model(self) -> None:
        cfg, method = self.cfg, self.method_class
        with self.phases("load model"):
            model = load_backbone(cfg.MODEL.BACKBONE.NAME, str(self.device))
            model = at_precision(model, cfg.FEATURES.PRECISION, cfg.FEATURES.PACKED_TEXT)
            self.clip_model = with_graphs(model, cfg.FEATURES.CUDA_GRAPHS)
        folder = cfg.FEATURES.CACHE_DIR
        cache = FeatureCache(Path(folder) if folder else None)
        self.classnames = list(self.dm.dataset.classnames)
        with self.phases("build method"):
            self.method = method(self.options, self.clip_model, self.classnames, self.sentences, cache)
        self.task = Task(
            cfg, self.dm, self.method.image_model, cache, self.phases, lambda: self.epoch, self.section(),
            method.projected,
        )  # fmt: skip
        reached = method.frozen_images and method.shares_crops and method.views == 1
        if cfg.FEATURES.CROPS and not reached and cfg.get("SETTINGS") != "fast":  # which is for any method
            print(f"Note: FEATURES.CROPS has no effect on {method.title or method.__name__}, which does not use them.")
        if self.method.state_dict():
            self.register_model(method.folder, self.method)
        self.fits = method.fit is not Method.fit
        if self.fits:
            self.max_epoch = 1

    def sentences(self, classnames: list[str]) -> list[list[str]]:
        """The teacher's sentences of each class, as the options select them."""
        return sentences_of(self.dm.dataset, classnames, self.options, self.cfg.DATASET.NAME, self.cfg.TRAINER.NAME)

    # Training

    def train(self) -> None:  # type: ignore[override]  # as SimpleTrainer.train
        if self._models:
            super().train()
        else:
            print("Nothing to train.")
            self.test()

    def before_train(self) -> None:
        if self.cfg.TEST.FINAL_MODEL == "best_val" and not self.cfg.TEST.NO_TEST:
            self.task.require_validation("the best epoch", "add TEST.FINAL_MODEL last_step")
        if self._stops_early:
            self.task.require_validation("when to stop", "give the data set some")
        self.learned_from = fingerprints(self.method_class, self.cfg, dataset_name(self.cfg))
        self.method.prepare(self.task)
        if not self.fits:
            self.train_loader_x = self.method.train_loader(self.task)
            name, steps, optim = self.method.folder, len(self.train_loader_x), self.cfg.OPTIM.clone()
            optim.defrost()
            optim.MAX_EPOCH = self.max_epoch = self.method.epochs(self.max_epoch, steps)
            self.optim, sched = self.method.optimiser(optim, steps)
            self.sched = cast(LRScheduler, sched)  # None for a rate that never changes
            self._optims[name], self._scheds[name] = self.optim, sched
        super().before_train()
        if self._stops_early and self._accuracies and self.method.stops(self._accuracies):
            self.max_epoch = self.start_epoch

    def run_epoch(self) -> None:
        if self.fits:
            self.method.fit(self.task)
        else:
            super().run_epoch()

    def parse_batch_train(self, batch: dict) -> tuple[Any, Tensor]:
        label = batch["label"].to(self.device, non_blocking=True)
        if "features" in batch:
            return batch["features"], label
        views = batch["img"] if isinstance(batch["img"], list) else [batch["img"]]
        views = [view.to(self.device, non_blocking=True) for view in views]
        if self.method.frozen_images:
            views = self._encoded(views)
        return (views if self.method.views > 1 else views[0]), label

    def _encoded(self, views: list[Tensor]) -> list[ImageFeatures]:
        out = encode_images(self.method.image_model, torch.cat(views), self.method.uses_patches)
        patches = [None] * len(views) if out.patch_tokens is None else out.patch_tokens.chunk(len(views))
        return [ImageFeatures(*both) for both in zip(out.global_token.chunk(len(views)), patches, strict=True)]

    def forward_backward(self, batch: dict) -> dict[str, float]:
        inputs, label = self.parse_batch_train(batch)
        terms, logits = self.method.losses(inputs, label)
        # One transfer for all numbers, since each transfer waits for the device.
        accuracy = compute_accuracy(logits, label)[0]
        *values, acc = torch.stack([*(term.detach() for term in terms.values()), accuracy.squeeze()]).tolist()
        self._check_terms(dict(zip(terms, values, strict=True)))
        self.method.zero_grad()
        self.method.backward(terms)
        self.optim.step()
        self.method.after_step(self.epoch, self.get_current_lr())
        if self.method.schedule_by_step or (self.batch_idx + 1) == self.num_batches:
            self.update_lr()
        summary = {"loss": sum(values), "acc": acc}
        return summary | (dict(zip(terms, values, strict=True)) if len(terms) > 1 else {})

    @property
    def _stops_early(self) -> bool:
        return type(self.method).stops is not Method.stops

    def after_epoch(self) -> None:
        if self._stops_early:
            self._accuracies.append(self.test("val"))
            if self.method.stops(self._accuracies):
                self.max_epoch = self.epoch + 1
        weight, state = self.method.epoch_weight(self.epoch, self.max_epoch), self.method.state_dict()
        if weight:
            total, mean = self._sum
            self._sum = (
                total + weight,
                {name: weight * value.detach() + mean.get(name, 0) for name, value in state.items()},
            )
        if self.epoch + 1 == self.max_epoch and self._sum[0]:
            total, mean = self._sum
            self.method.load_state_dict({name: value / total for name, value in mean.items()})
        if self.method.later_is_better:
            self.best_result = math.nextafter(self.best_result, -math.inf)
        super().after_epoch()

    def after_train(self) -> None:
        if type(self.method).finish is not Method.finish:
            path = find_checkpoint(Path(self.output_dir) / self.method.folder)  # the best if it was kept, else the last
            self.load_model(self.output_dir)
            self.method.finish(self.task)
            saved = load_checkpoint(str(path))
            self.save_model(saved["epoch"] - 1, self.output_dir, val_result=saved["val_result"], model_name=path.name)
        super().after_train()

    # Testing

    @torch.no_grad()
    def test(self, split: str | None = None) -> float:
        """Evaluate on a split and return its accuracy in percent."""
        split = split or self.cfg.TEST.SPLIT
        if split == "val" and self.val_loader is None:
            split = "test"
        self.evaluator.reset()
        print(f"Evaluate on the *{split}* set")
        for logits, label in self.logits_of(split):
            self.evaluator.process(logits, label)
        with self.phases("test"):
            results = self.evaluator.evaluate()
        for name, value in results.items():
            self.write_scalar(f"{split}/{name}", value, self.epoch)
        return next(iter(results.values()))

    @torch.no_grad()
    def logits_of(self, split: str) -> list[tuple[Tensor, Tensor]]:
        """Logits (B, C) and labels (B,) of the batches of "val", "test" or "calibration"."""
        return self.classified(self.tested_features(split))

    @torch.no_grad()
    def classified(self, batches: Iterable[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
        """Logits (B, C) and labels (B,) of batches of global tokens."""
        with self.phases("test"):
            classify = self.method.classifier()
            return [(self._check_logits(classify(features)), label) for features, label in batches]

    def tested_features(self, split: str) -> Iterable[tuple[Tensor, Tensor]]:
        """Global tokens (B, D) and labels (B,) of the batches of a split, as in `logits_of`."""
        self.set_model_mode("eval")
        if not self.method.frozen_images:
            return self._changed_features(self.task.loader_of(split), split)
        features, labels = self.task.validation_set if split == "val" else self.task.features_of(split)
        size = self.cfg.DATALOADER.TEST.BATCH_SIZE
        return progress(batches_of(features, labels, size), "test", total=-(-len(labels) // size), unit="batch")

    def _changed_features(self, loader: Any, split: str) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in progress(loader, f"test on {split}", unit="batch"):
            images, label = self.parse_batch_test(batch)
            yield self.method.encode(images).global_token, label

    # Checkpoints: the learned parameters and what they were trained on

    def _checkpoint_meta(self) -> dict:
        mine = {"method": type(self).__name__, "backbone": self.clip_model.fingerprint, "files": self.learned_from}
        return super()._checkpoint_meta() | mine

    def _own_progress(self) -> dict:
        progress = {"accuracies": self._accuracies, "sum": self._sum} if self._accuracies or self._sum[0] else {}
        return progress | ({"chosen": self.task.chosen} if self.task.chosen else {})

    def _resume_own_progress(self, state: Mapping[str, Any]) -> None:
        self.task.chosen += state.get("chosen", ())
        self._accuracies, self._sum = list(state.get("accuracies", ())), tuple(state.get("sum", (0.0, {})))

    def _trained(self, name: str) -> set[str]:
        return set(self.method.state_dict())

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Load the learned parameters from a run folder's checkpoint of `epoch`; by default the best by validation if
        the run kept it, else the newest.

        Raises:
            UserError: the checkpoint is missing, corrupt, or of another method, backbone or shape.
        """
        if not self._models:
            return
        if not directory:
            print("No --model-dir given: the method is tested untrained.")
            return
        name = self.method.folder
        path = find_checkpoint(Path(directory) / name, epoch)
        checkpoint = load_checkpoint(str(path))
        self._check_checkpoint_meta(str(path), checkpoint.get("meta") or {})
        self.learned_from = (checkpoint.get("meta") or {}).get("files", {})
        self.method.load_learned(checkpoint["state_dict"], path)
        print(f"Loaded {name} of epoch {checkpoint['epoch']} from {path}")

    def _own_state(self, name: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
        return own_parameters(self.method, state)

    def _check_checkpoint_meta(self, path: str, meta: dict) -> None:
        mine = self._checkpoint_meta()
        if meta.get("method", mine["method"]) != mine["method"]:
            raise UserError(
                f"{path} is a checkpoint of {meta['method']}, not of {mine['method']}: use --trainer {meta['method']}."
            )
        if meta.get("backbone", mine["backbone"]) != mine["backbone"]:
            raise UserError(
                f"{path} was trained with different weights from those of {self.clip_model.name} loaded here: "
                f"use the backbone that it was trained with."
            )
        theirs, here = meta.get("classes") or self.classnames, self.classnames
        if theirs != here and not self.method_class.can_name_novel_classes(self.options):
            raise UserError(
                f"{path} was trained on the classes {', '.join(theirs)}, but here they are {', '.join(here)}: "
                f"what {mine['method']} learns belongs to its classes, in their order."
            )
        changed = [name for name, value in self.learned_from.items() if meta.get("files", {}).get(name) != value]
        if changed:
            raise UserError(
                f"{path} was trained with a {changed[0]} file that has changed since: restore that file, or "
                f"choose another output folder."
            )
