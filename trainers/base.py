"""What every method over a frozen CLIP shares: loading it, its features, the test and its checkpoints."""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from yacs.config import CfgNode

import clip
from clip import FrozenCLIP, ImageFeatures
from dassl.engine import TrainerX
from dassl.metrics import compute_accuracy
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import UserError, load_checkpoint, progress
from trainers.features import EncodeAhead, FeatureCache, batches_of, encode_images, image_features, images_at_once
from trainers.phases import Phases
from trainers.prompt_learner import PromptLearner


@functools.lru_cache(maxsize=1)
def load_backbone(name: str, device: str) -> FrozenCLIP:
    """The frozen model `name`; runs of one process share it."""
    bars = {}

    def report(stage: str, done: int, total: int) -> None:
        if stage not in bars:
            bars[stage] = progress(None, f"load {Path(name).name}: {stage}", total=total)
            bars[stage].__enter__()
        bars[stage].update(done - bars[stage].n)
        if done >= total:
            bars.pop(stage).__exit__(None, None, None)

    return clip.load(name, device, report=report)


class ClipTrainer(TrainerX):
    """A trainer around one frozen vision-language model, `self.clip_model`."""

    has_novel_head = True  # can it name classes that it was not trained on?

    def __init__(self, cfg: CfgNode) -> None:
        self.phases = Phases()
        super().__init__(cfg)

    @staticmethod
    def extend_config(cfg: CfgNode) -> None:
        """Add the method's own keys with their defaults under `cfg.TRAINER`."""

    @property
    def options(self) -> CfgNode:
        """The method's own node of the configuration: `cfg.TRAINER.<NAME>`, the name in capitals."""
        return self.cfg.TRAINER[type(self).__name__.upper()]

    def build_model(self) -> None:
        with self.phases("load model"):
            self.clip_model = load_backbone(self.cfg.MODEL.BACKBONE.NAME, str(self.device))
        self.scale = self.clip_model.logit_scale
        folder = self.cfg.FEATURES.CACHE_DIR
        self.cache = FeatureCache(Path(folder) if folder else None)
        self.classnames = list(self.dm.dataset.classnames)
        with self.phases("build method"):
            self.build_method()

    @abstractmethod
    def build_method(self) -> None:
        """Make what the method learns and register it with `self.learn`."""

    def learn(self, name: str, module: nn.Module) -> None:
        """Register a module whose parameters are trained under `cfg.OPTIM` and saved as `name`."""
        module.to(self.device)
        self.optim = build_optimizer(module, self.cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, self.cfg.OPTIM)
        self.register_model(name, module, self.optim, self.sched)

    # Training: a method says what its losses are

    def losses(self, inputs: ImageFeatures | Tensor, label: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """The terms whose sum is minimised, by name, and the logits (B, C) of a batch as parse_batch_train gives it."""
        raise NotImplementedError

    def update(self, terms: dict[str, Tensor]) -> None:
        """One optimisation step."""
        self.model_backward_and_update(torch.stack(list(terms.values())).sum())

    def forward_backward(self, batch: dict) -> dict[str, float]:
        terms, logits = self.losses(*self.parse_batch_train(batch))
        self.update(terms)
        if (self.batch_idx + 1) == self.num_batches:
            self.update_lr()
        label = batch["label"].to(self.device)
        loss = sum(term.item() for term in terms.values())
        summary = {"loss": loss, "acc": compute_accuracy(logits, label)[0].item()}
        if len(terms) > 1:
            summary |= {name: term.item() for name, term in terms.items()}
        return summary

    # Checkpoints: the learned parameters, and what they belong to

    def checkpoint_meta(self) -> dict:
        return {"method": type(self).__name__, "backbone": self.clip_model.fingerprint}

    def load_model(self, directory: str, epoch: int | None = None) -> None:
        """Load the learned parameters from a run folder's checkpoint of `epoch` (None: the newest).

        Raises:
            UserError: no such checkpoint, a damaged one, or one of another method, backbone or shape.
        """
        if not directory:
            print("No --model-dir given: the method is tested as it starts.")
            return
        for name in self.get_model_names():
            path = find_checkpoint(Path(directory) / name, epoch)
            checkpoint = load_checkpoint(str(path))
            self.check_checkpoint_meta(str(path), checkpoint.get("meta") or {})
            load_parameters(self._models[name], checkpoint["state_dict"], path)
            print(f"Loaded {name} of epoch {checkpoint['epoch']} from {path}")

    def check_checkpoint_meta(self, path: str, meta: dict) -> None:
        mine = self.checkpoint_meta()
        if meta.get("method", mine["method"]) != mine["method"]:
            raise UserError(
                f"{path} is a checkpoint of {meta['method']}, not of {mine['method']}: use its own trainer."
            )
        if meta.get("backbone", mine["backbone"]) != mine["backbone"]:
            raise UserError(
                f"{path} was learned on other weights than those of {self.clip_model.name} loaded here: "
                f"use the backbone that it was learned on."
            )


class FrozenFeatureTrainer(ClipTrainer):
    """A method whose image tower sees no prompt: it trains and tests on features.

    A training batch holds `features` (normalised `ImageFeatures`) in place of `img`; test features come from the
    cache on disk.
    """

    uses_patches = False

    def build_model(self) -> None:
        super().build_model()
        images = self.cfg.FEATURES.IMAGES_AT_ONCE or images_at_once(self.clip_model.device)
        self.train_loader_x = EncodeAhead(self.train_loader_x, self.clip_model, self.uses_patches, images, self.cache)

    @abstractmethod
    def classifier(self) -> Callable[[Tensor], Tensor]:
        """A function from normalised image features (B, D) to logits (B, C)."""

    def parse_batch_train(self, batch: dict) -> tuple[ImageFeatures, Tensor]:
        return batch["features"], batch["label"].to(self.device)

    def model_inference(self, images: Tensor) -> Tensor:
        return self.classifier()(encode_images(self.clip_model, images).global_token)

    def split_features(self, split: str) -> tuple[Tensor, Tensor]:
        """Features (N, D), on the model's device, and labels (N,) of the split "val" or "test"."""
        loader = self.val_loader if split == "val" else self.test_loader
        with self.phases(f"encode {split} images"):
            features = image_features(self.clip_model, loader, self.cache, split)
        labels = torch.tensor([item.label for item in loader.dataset.data_source])
        return features.to(self.device), labels.to(self.device)

    @torch.no_grad()
    def test(self, split: str | None = None) -> float:
        """Evaluate on a split and return its accuracy in percent."""
        split = split or self.cfg.TEST.SPLIT
        if split == "val" and self.val_loader is None:
            split = "test"
        self.set_model_mode("eval")
        self.evaluator.reset()
        print(f"Evaluate on the *{split}* set")
        features, labels = self.split_features(split)
        with self.phases("test"):
            classify = self.classifier()
            size = self.cfg.DATALOADER.TEST.BATCH_SIZE
            total = -(-len(labels) // size)
            for batch, label in progress(batches_of(features, labels, size), "test", total=total, unit="batch"):
                self.evaluator.process(classify(batch), label)
            results = self.evaluator.evaluate()
        for name, value in results.items():
            self.write_scalar(f"{split}/{name}", value, self.epoch)
        return next(iter(results.values()))


class PromptTuner(FrozenFeatureTrainer):
    """Learns context vectors with the image tower frozen; a subclass is its losses."""

    prompt_learner_class = PromptLearner

    def build_method(self) -> None:
        self.prompt_learner = self.prompt_learner_class.of(self.clip_model, self.classnames, self.options)
        self.learn("prompt_learner", self.prompt_learner)
        self.has_novel_head = not self.options.CSC  # a class' own context says nothing about other classes

    def text_features(self) -> Tensor:
        """Normalised text features of the prompted classes, (C, D), differentiable in the context."""
        return F.normalize(self.clip_model.encode_text(*self.prompt_learner()), dim=-1)

    def classifier(self) -> Callable[[Tensor], Tensor]:
        weights = self.scale * self.text_features().t()
        return lambda features: features @ weights


def find_checkpoint(folder: Path, epoch: int | None = None) -> Path:
    """The checkpoint of `epoch` in a folder, or the newest there.

    Raises:
        UserError: there is none.
    """
    if epoch:
        path = folder / f"model.pth.tar-{epoch}"
        if path.is_file():
            return path
    else:
        best = folder / "model-best.pth.tar"
        if best.is_file():
            return best
        numbered = [(int(path.name.rpartition("-")[2]), path) for path in folder.glob("model.pth.tar-*[0-9]")]
        if numbered:
            return max(numbered)[1]
    wanted = f"of epoch {epoch} " if epoch else ""
    raise UserError(
        f"There is no checkpoint {wanted}in {folder}; train first, or give the run's folder as --model-dir."
    )


def load_parameters(module: nn.Module, state: dict[str, Tensor], path: Path) -> None:
    """Load learned parameters into a module, every one of them and of the right shape.

    Checkpoints of the public code bases also hold the class names' embeddings (`token_prefix`, `token_suffix`), which
    belong to the classes of training and are left out.
    """
    state = {name: value for name, value in state.items() if name not in ("token_prefix", "token_suffix")}
    mine = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    theirs = {name: tuple(value.shape) for name, value in state.items()}
    if mine != theirs:
        raise UserError(
            f"{path} holds {theirs} where this method, backbone and configuration need {mine}: "
            f"use the configuration that it was trained with."
        )
    module.load_state_dict(state)
