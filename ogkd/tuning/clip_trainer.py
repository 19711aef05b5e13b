"""The base class of every method: a frozen CLIP, its features, the test, checkpoints and facts about the method."""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from yacs.config import CfgNode

from dassl.data import DataManager
from dassl.data.datasets import DatasetBase
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from ogkd import models
from ogkd.core import UserError, find_checkpoint, load_checkpoint, progress
from ogkd.core.phases import Phases
from ogkd.core.training import not_finite
from ogkd.features.cache import FeatureCache
from ogkd.features.crops import CropStore
from ogkd.features.encode import encode_images, image_features, images_at_once
from ogkd.features.keys import images_of
from ogkd.features.loaders import EncodeAhead, batches_of
from ogkd.features.precision import BF16, FP32, at_precision, has_bf16
from ogkd.models import FrozenCLIP, ImageFeatures
from ogkd.tuning.engine import TrainerX

PROMPT_LEARNER = "prompt_learner."  # prefix of names in the checkpoint of a whole prompted model


@functools.lru_cache(maxsize=1)
def load_backbone(name: str, device: str) -> FrozenCLIP:
    """The frozen model `name`, shared by all runs in a process."""
    return models.load(name, device)


class ClipTrainer(TrainerX):
    """A trainer around one frozen vision-language model, `self.clip_model`.

    A method is a subclass whose class attributes say what it is and whose hooks say what it does: `default_options`,
    `build_method`, `losses`, `classifier`. Its options are `self.options`, the node TRAINER.<NAME> of the
    configuration, where <NAME> is the class's own name in capitals, even for a subclass of another method.

    With `frozen_images` the image tower gets no prompts: training batches hold `features` (normalised `ImageFeatures`)
    instead of `img`, and test features come from the cache on disk.

    `dataset` replaces the data set that the configuration names. With `predicts_only` the trainer only classifies, with
    parameters from `load_learned`: of the data set it uses the class names and the number and labels of the training
    images, and reads no image.
    """

    title = ""  # the name in tables and text; default: the class's name
    paper = ""  # arXiv number
    row = 1000  # position in tables: smaller numbers come first
    has_novel_head = True  # can it classify into classes that it was not trained on?
    frozen_images = True
    uses_patches = False  # do training batches need patch tokens?
    shares_crops = True  # can epochs share FEATURES.CROPS crops? Only with `frozen_images`
    keeps_training_images = False  # do its parameters hold a feature of each training image?
    needs_sentences = False  # does it use the teacher's sentences to classify, not only to learn?

    def __init__(self, cfg: CfgNode, dataset: DatasetBase | None = None, predicts_only: bool = False) -> None:
        self.phases = Phases()
        self.given_dataset, self.predicts_only = dataset, predicts_only
        self.learned_from: dict[str, str] = {}  # fingerprints of the training run, even in a run that only tests
        super().__init__(cfg)

    # Options

    @classmethod
    def default_options(cls) -> dict[str, object]:
        """The method's own options with their default values; they become TRAINER.<NAME>."""
        return {}

    @classmethod
    def check_options(cls, options: CfgNode) -> None:
        """Raise UserError if an option has an invalid value."""

    @classmethod
    def can_name_novel_classes(cls, options: CfgNode) -> bool:
        """Whether what a run with these options learns applies to classes that it was not trained on; class-specific
        contexts do not."""
        return cls.has_novel_head and not options.get("CSC", False)

    @classmethod
    def fingerprints(cls, cfg: CfgNode) -> dict[str, str]:
        """SHA-256 of each file, besides data and weights, that affects what a run of this configuration learns.

        Raises UserError if such a file cannot be read.
        """
        return {}

    @classmethod
    def extend_config(cls, cfg: CfgNode) -> None:
        cfg.TRAINER[cls.__name__.upper()] = CfgNode(cls.default_options())

    def check_cfg(self, cfg: CfgNode) -> None:
        name = type(self).__name__
        self.check_options(cfg.TRAINER[name.upper()])
        if cfg.FEATURES.CROPS and cfg.SEED < 0:
            raise UserError(
                f"FEATURES.CROPS {cfg.FEATURES.CROPS} draws crops from the seed, and the run has none: add --seed 1."
            )
        if cfg.INPUT.NO_TRANSFORM:
            raise UserError("INPUT.NO_TRANSFORM leaves images that no model takes: set it to False.")
        if cfg.DATALOADER.K_TRANSFORMS > 1:
            views = cfg.DATALOADER.K_TRANSFORMS
            raise UserError(f"DATALOADER.K_TRANSFORMS is {views}, but {name} learns from one view of an image.")
        backbone, (height, width) = cfg.MODEL.BACKBONE.NAME, cfg.INPUT.SIZE
        side = models.image_spec(backbone).size
        if (height, width) != (side, side):
            raise UserError(
                f"INPUT.SIZE is ({height}, {width}), but {Path(backbone).name} takes images of {side} x {side} pixels: "
                f"leave it out."
            )

    @property
    def options(self) -> CfgNode:
        """The method's own node of the configuration."""
        return self.cfg.TRAINER[type(self).__name__.upper()]

    # Building

    def _build_data_manager(self) -> DataManager:
        if self.given_dataset is None:
            return super()._build_data_manager()
        return DataManager(self.cfg, dataset=self.given_dataset)

    def build_model(self) -> None:
        with self.phases("load model"):
            model = load_backbone(self.cfg.MODEL.BACKBONE.NAME, str(self.device))
            self.clip_model = at_precision(model, self._precision())
        self.scale = self.clip_model.logit_scale
        folder = self.cfg.FEATURES.CACHE_DIR
        self.cache = FeatureCache(Path(folder) if folder else None)
        self.classnames = list(self.dm.dataset.classnames)
        with self.phases("build method"):
            self.build_method()
        if self.cfg.FEATURES.CROPS and not (self.frozen_images and self.shares_crops):
            print(
                f"Note: FEATURES.CROPS has no effect on {self.title or type(self).__name__}, which does not use them."
            )
        if self.frozen_images and not self.predicts_only:
            self.train_loader_x = self.feature_loader()

    def _precision(self) -> str:
        """FEATURES.PRECISION; for prediction, a device without bf16 falls back to fp32."""
        precision = self.cfg.FEATURES.PRECISION
        if self.predicts_only and precision == BF16 and not has_bf16(self.device):
            print("Note: the prompt was trained in bf16, which this device lacks: fp32 changes probabilities slightly.")
            return FP32
        return precision

    @abstractmethod
    def build_method(self) -> None:
        """Create the modules that the method trains and register them with `self.learn`."""

    def learn(self, name: str, module: nn.Module) -> None:
        """Register a module whose parameters are trained under `cfg.OPTIM` and saved as `name`."""
        module.to(self.device)
        self.optim = build_optimizer(module, self.cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, self.cfg.OPTIM)
        self.register_model(name, module, self.optim, self.sched)

    def feature_loader(self) -> Iterable[dict]:
        """The training loader of a method with `frozen_images`."""
        features = self.cfg.FEATURES
        images = features.IMAGES_AT_ONCE or images_at_once(self.clip_model.device)
        common = self.train_loader_x, self.clip_model, self.uses_patches, images, self.cache
        if not features.CROPS:
            return EncodeAhead(*common)
        return CropStore(
            *common,
            count=features.CROPS,
            seed=self.cfg.SEED,
            most_bytes=features.CROPS_GB * 1e9,
            epoch=lambda: self.epoch,
        )

    # Training

    def before_train(self) -> None:
        self.learned_from = self.fingerprints(self.cfg)
        super().before_train()

    def parse_batch_train(self, batch: dict) -> tuple[ImageFeatures | Tensor, Tensor]:
        inputs = batch["features"] if self.frozen_images else batch["img"].to(self.device, non_blocking=True)
        return inputs, batch["label"].to(self.device, non_blocking=True)

    def losses(self, inputs: Any, label: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """The loss terms by name (their sum is minimised) and the logits (B, C), for a batch from parse_batch_train:
        `inputs` are ImageFeatures with `frozen_images`, and images (B, 3, H, W) without."""
        raise NotImplementedError

    def update(self, terms: dict[str, Tensor]) -> None:
        """One optimisation step."""
        self.model_backward_and_update(torch.stack(list(terms.values())).sum())

    def detect_anomaly(self, loss: Tensor | Mapping[str, Tensor]) -> None:
        """Does nothing: `forward_backward` checks the terms, so that no step waits for the device twice."""

    def forward_backward(self, batch: dict) -> dict[str, float]:
        inputs, label = self.parse_batch_train(batch)
        terms, logits = self.losses(inputs, label)
        # One transfer for all numbers, since each transfer waits for the device.
        accuracy = compute_accuracy(logits, label)[0]
        *values, acc = torch.stack([*(term.detach() for term in terms.values()), accuracy.squeeze()]).tolist()
        self._check_terms(dict(zip(terms, values, strict=True)))
        self.update(terms)
        if (self.batch_idx + 1) == self.num_batches:
            self.update_lr()
        summary = {"loss": sum(values), "acc": acc}
        return summary | (dict(zip(terms, values, strict=True)) if len(terms) > 1 else {})

    # Testing

    def encode(self, images: Tensor, patches: bool = False) -> ImageFeatures:
        """Normalised tokens of images (B, 3, H, W) as `classifier` and `patch_classifier` take them."""
        return encode_images(self.clip_model, images, patches)

    def classifier(self) -> Callable[[Tensor], Tensor]:
        """A function from normalised image features (B, D) to logits (B, C)."""
        raise NotImplementedError

    def patch_classifier(self) -> Callable[[ImageFeatures], Tensor] | None:
        """A function from the output of `encode` with patches to each patch's logits (B, P, C); None for a method that
        does not compare tokens with text features."""
        return None

    def model_inference(self, images: Tensor) -> Tensor:
        return self.classifier()(self.encode(images).global_token)

    def split_features(self, split: str) -> tuple[Tensor, Tensor]:
        """Features (N, D), on the model's device, and labels (N,) of the split "val" or "test"."""
        loader = cast(DataLoader, self.val_loader if split == "val" else self.test_loader)
        with self.phases(f"encode {split} images"):
            features = image_features(self.clip_model, loader, self.cache, split)
        labels = torch.tensor([item.label for item in images_of(loader).data_source])
        return features.to(self.device), labels.to(self.device)

    @torch.no_grad()
    def test(self, split: str | None = None) -> float:
        """Evaluate on a split and return its accuracy in percent."""
        if not self.frozen_images:
            return super().test(split)
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
        """Logits (B, C) and labels (B,) of the batches of "val" or "test", for a method with `frozen_images`."""
        self.set_model_mode("eval")
        features, labels = self.split_features(split)
        with self.phases("test"):
            classify = self.classifier()
            size = self.cfg.DATALOADER.TEST.BATCH_SIZE
            total = -(-len(labels) // size)
            batches = progress(batches_of(features, labels, size), "test", total=total, unit="batch")
            return [(self._check_logits(classify(batch)), label) for batch, label in batches]

    # Checkpoints: the learned parameters and what they were trained on

    def _checkpoint_meta(self) -> dict:
        mine = {"method": type(self).__name__, "backbone": self.clip_model.fingerprint, "files": self.learned_from}
        return super()._checkpoint_meta() | mine

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Load the learned parameters from a run folder's checkpoint of `epoch`; by default the best by validation if
        the run kept it, else the newest.

        Raises:
            UserError: the checkpoint is missing, corrupt, or of another method, backbone or shape.
        """
        if not directory:
            print("No --model-dir given: the method is tested untrained.")
            return
        for name in self.get_model_names():
            path = find_checkpoint(Path(directory) / name, epoch)
            checkpoint = load_checkpoint(str(path))
            self._check_checkpoint_meta(str(path), checkpoint.get("meta") or {})
            self.learned_from = (checkpoint.get("meta") or {}).get("files", {})
            load_parameters(self._models[name], checkpoint["state_dict"], path)
            print(f"Loaded {name} of epoch {checkpoint['epoch']} from {path}")

    def load_learned(self, learned: Mapping[str, dict[str, Tensor]], origin: Path) -> None:
        """Load the learned parameters of each registered model, by its name.

        Raises:
            UserError: `origin` lacks a model, or its parameters have other names or shapes.
        """
        for name in self.get_model_names():
            if name not in learned:
                raise UserError(
                    f"{origin} has no learned parameters '{name}' of {type(self).__name__}: train it first."
                )
            load_parameters(self._models[name], learned[name], origin)

    def _own_state(self, name: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
        return own_parameters(self._models[name], state)

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
        if theirs != here and not self.can_name_novel_classes(self.options):
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


def own_parameters(module: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The entries of a checkpoint's state_dict that a module learns.

    Checkpoints of the public code bases also hold the class names' embeddings (`token_prefix`, `token_suffix`), which
    belong to the training classes and are left out. From a checkpoint of a whole model, only the prompt learner's own
    parameters are taken, not the frozen towers.
    """
    if any(name.startswith(PROMPT_LEARNER) for name in state):
        state = {name.removeprefix(PROMPT_LEARNER): value for name, value in state.items()}
        state = {name: value for name, value in state.items() if name in module.state_dict()}
    return {name: value for name, value in state.items() if name not in ("token_prefix", "token_suffix")}


def load_parameters(module: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Load learned parameters into a module; all must be present, finite and of the right shape."""
    state = own_parameters(module, state)
    mine = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    theirs = {name: tuple(value.shape) for name, value in state.items()}
    if mine != theirs:
        raise UserError(
            f"{path} holds {theirs} where this method, backbone and configuration need {mine}: "
            f"use the configuration that it was trained with."
        )
    broken = not_finite(state)
    if broken is not None:
        raise UserError(
            f"{path} is from a training that diverged ({broken} is not finite): train again with a lower OPTIM.LR."
        )
    module.load_state_dict(state)
