"""The training loop and its hooks, with Dassl's names; what makes a training robust is ogkd/core/training.py."""

from __future__ import annotations

import datetime
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from yacs.config import CfgNode

from dassl.data import DataManager
from dassl.evaluation import build_evaluator
from dassl.modeling import build_backbone
from dassl.optim import build_lr_scheduler, build_optimizer
from dassl.utils import AverageMeter, MetricMeter, count_num_param, load_pretrained_weights, tolist_if_not
from ogkd.core import UserError, progress
from ogkd.core.training import Checkpoints, RobustTraining

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class _NoWriter:
    """Takes what a SummaryWriter takes and writes nothing, where TensorBoard is not installed."""

    def __init__(self, *_: object, **__: object) -> None: ...

    def __getattr__(self, name: str) -> Any:
        return _NoWriter


def __getattr__(name: str) -> Any:
    """SummaryWriter, which other code bases import from here. TensorBoard is slow to import, so only on demand."""
    if name != "SummaryWriter":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return _NoWriter
    return SummaryWriter


class SimpleNet(nn.Module):
    """A backbone and a linear classifier (none with num_classes 0)."""

    def __init__(self, cfg: CfgNode, model_cfg: CfgNode, num_classes: int, **kwargs: Any) -> None:
        super().__init__()
        if model_cfg.HEAD.NAME:
            raise UserError(f"There is no head '{model_cfg.HEAD.NAME}': leave out MODEL.HEAD.NAME.")
        self.backbone = build_backbone(
            model_cfg.BACKBONE.NAME, verbose=cfg.VERBOSE, pretrained=model_cfg.BACKBONE.PRETRAINED, **kwargs
        )
        self.fdim = cast(int, self.backbone.out_features)
        self.classifier = nn.Linear(self.fdim, num_classes) if num_classes > 0 else None

    def forward(self, x: Tensor, return_feature: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        features = self.backbone(x)
        if self.classifier is None:
            return features
        logits = self.classifier(features)
        return (logits, features) if return_feature else logits


class TrainerBase(Checkpoints):
    """Holds models by name, with their optimisers and schedulers, and runs the loop over epochs.

    Names that Dassl's class does not have begin with "_", so that a trainer may use any other for itself.
    """

    def __init__(self) -> None:
        self._models: OrderedDict[str, nn.Module] = OrderedDict()
        self._optims: OrderedDict[str, torch.optim.Optimizer | None] = OrderedDict()
        self._scheds: OrderedDict[str, torch.optim.lr_scheduler.LRScheduler | None] = OrderedDict()
        self._writer: SummaryWriter | None = None
        self.best_result = float("-inf")

    # Models

    def register_model(
        self,
        name: str = "model",
        model: nn.Module | None = None,
        optim: torch.optim.Optimizer | None = None,
        sched: torch.optim.lr_scheduler.LRScheduler | None = None,
    ) -> None:
        """Register a model under a name, to be trained, stepped, saved and resumed."""
        if "_models" not in self.__dict__:
            raise AttributeError("register_model before super().__init__()")
        if name in self._models:
            raise ValueError(f"a model named '{name}' is registered already")
        self._models[name], self._optims[name], self._scheds[name] = cast(nn.Module, model), optim, sched

    def get_model_names(self, names: str | list[str] | None = None) -> list[str]:
        """Return all registered names, or `names` after checking that they are registered."""
        if names is None:
            return list(self._models)
        names = tolist_if_not(names)
        for name in names:
            if name not in self._models:
                raise ValueError(f"there is no model '{name}'")
        return names

    def set_model_mode(self, mode: str = "train", names: str | list[str] | None = None) -> None:
        """Set train or eval mode ("test" means eval too)."""
        if mode not in ("train", "eval", "test"):
            raise KeyError(f"mode is '{mode}'; it can be train, eval or test")
        for name in self.get_model_names(names):
            self._models[name].train(mode == "train")

    def update_lr(self, names: str | list[str] | None = None) -> None:
        """Step the schedulers once."""
        for name in self.get_model_names(names):
            if (sched := self._scheds[name]) is not None:
                sched.step()

    def get_current_lr(self, names: str | list[str] | None = None) -> float:
        """The learning rate of the first of the named models that has an optimiser; 0 where none has."""
        for name in self.get_model_names(names):
            if (optim := self._optims[name]) is not None:
                return optim.param_groups[0]["lr"]
        return 0.0

    # TensorBoard, where it is installed

    def init_writer(self, log_dir: str) -> None:
        if self._writer is not None:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        print(f"Initialize tensorboard (log_dir={log_dir})")
        self._writer = SummaryWriter(log_dir=log_dir)

    def close_writer(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def write_scalar(self, tag: str, scalar_value: float, global_step: int | None = None) -> None:
        if self._writer is not None:
            self._writer.add_scalar(tag, scalar_value, global_step)

    # The loop

    def train(self, start_epoch: int, max_epoch: int) -> None:
        self.start_epoch, self.max_epoch = start_epoch, max_epoch
        self.before_train()
        for epoch in range(self.start_epoch, self.max_epoch):
            self.epoch = epoch
            self.before_epoch()
            self.run_epoch()
            self.after_epoch()
        self.after_train()

    def before_train(self) -> None: ...

    def after_train(self) -> None: ...

    def before_epoch(self) -> None: ...

    def after_epoch(self) -> None: ...

    def run_epoch(self) -> None:
        raise NotImplementedError

    def parse_batch_train(self, batch: dict) -> tuple:
        raise NotImplementedError

    def forward_backward(self, batch: dict) -> dict[str, float]:
        raise NotImplementedError

    # One step

    def model_zero_grad(self, names: str | list[str] | None = None) -> None:
        for name in self.get_model_names(names):
            if (optim := self._optims[name]) is not None:
                optim.zero_grad()

    def model_backward(self, loss: Tensor) -> None:
        self.detect_anomaly(loss)
        loss.backward()

    def model_update(self, names: str | list[str] | None = None) -> None:
        for name in self.get_model_names(names):
            if (optim := self._optims[name]) is not None:
                optim.step()

    def model_backward_and_update(self, loss: Tensor, names: str | list[str] | None = None) -> None:
        self.model_zero_grad(names)
        self.model_backward(loss)
        self.model_update(names)

    def prograd_backward_and_update(
        self, loss_a: Tensor, loss_b: Tensor, lambda_: float = 1, names: str | list[str] | None = None
    ) -> None:
        """Take one step along the gradient of loss_a, without what conflicts with that of loss_b (ProGrad, arXiv
        2205.14865).

        For each parameter whose two gradients conflict (negative dot product), lambda_ times the component of the first
        along the second is subtracted. The forks of Dassl that come with ProGrad, KgCoOp, BiomedCoOp and OGKD have this
        method.
        """
        parameters = [p for name in self.get_model_names(names) for p in self._models[name].parameters()]
        self.model_zero_grad(names)
        self.detect_anomaly(loss_b)
        loss_b.backward(retain_graph=True)
        others = [None if p.grad is None else p.grad.clone() for p in parameters]
        self.model_zero_grad(names)
        self.model_backward(loss_a)
        for p, other in zip(parameters, others, strict=True):
            if p.grad is None or other is None:
                continue
            along = torch.sum(p.grad * other)
            if along < 0:
                p.grad = p.grad - lambda_ * along / other.square().sum() * other
        self.model_update(names)


class SimpleTrainer(RobustTraining, TrainerBase):  # type: ignore[misc]  # train() has two forms in Dassl
    """A trainer with data, a model, an evaluator and a test."""

    train_loader_x: Any  # a DataLoader, or what gives its batches with features in place of images
    model: nn.Module
    num_batches: int  # of the epoch; `run_epoch` sets it

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        self.check_cfg(cfg)
        self.device = torch.device("cuda" if torch.cuda.is_available() and cfg.USE_CUDA else "cpu")
        self.start_epoch = self.epoch = 0
        self.max_epoch = cfg.OPTIM.MAX_EPOCH
        self.output_dir = cfg.OUTPUT_DIR
        self.cfg = cfg
        self.build_data_loader()
        self.build_model()
        self.evaluator = build_evaluator(cfg, lab2cname=self.lab2cname)

    def check_cfg(self, cfg: CfgNode) -> None:
        """Check that the configuration has what this trainer needs."""

    def build_data_loader(self) -> None:
        """Build the data manager and keep its loaders as attributes."""
        dm = self._build_data_manager()
        self.train_loader_x, self.train_loader_u = dm.train_loader_x, dm.train_loader_u
        self.val_loader, self.test_loader = dm.val_loader, dm.test_loader
        self.num_classes, self.num_source_domains = dm.num_classes, dm.num_source_domains
        self.lab2cname = dm.lab2cname
        self.dm = dm

    def _build_data_manager(self) -> DataManager:
        return DataManager(self.cfg)

    def build_model(self) -> None:
        """Build and register the model: a classifier on a backbone unless a trainer overrides this."""
        cfg = self.cfg
        print("Building model")
        self.model = SimpleNet(cfg, cfg.MODEL, self.num_classes)
        if cfg.MODEL.INIT_WEIGHTS:
            load_pretrained_weights(self.model, cfg.MODEL.INIT_WEIGHTS)
        self.model.to(self.device)
        print(f"# params: {count_num_param(self.model):,}")
        self.optim = build_optimizer(self.model, cfg.OPTIM)
        self.sched = build_lr_scheduler(self.optim, cfg.OPTIM)
        self.register_model("model", self.model, self.optim, self.sched)

    @torch.no_grad()
    def test(self, split: str | None = None) -> float:
        """Evaluate on "val" or "test" (default TEST.SPLIT) and return the first of the evaluator's results.

        Raises:
            Diverged: a logit is not finite.
        """
        self.set_model_mode("eval")
        self.evaluator.reset()
        split = split or self.cfg.TEST.SPLIT
        if split == "val" and self.val_loader is not None:
            loader: DataLoader | None = self.val_loader
        else:
            split, loader = "test", self.test_loader
        print(f"Evaluate on the *{split}* set")
        for batch in progress(loader, f"test on {split}", unit="batch"):
            input, label = self.parse_batch_test(batch)
            self.evaluator.process(self._check_logits(self.model_inference(input)), label)
        results = self.evaluator.evaluate()
        for name, value in results.items():
            self.write_scalar(f"{split}/{name}", value, self.epoch)
        return next(iter(results.values()))

    def model_inference(self, input: Tensor) -> Tensor:
        return self.model(input)

    def parse_batch_test(self, batch: dict) -> tuple[Tensor, Tensor]:
        return batch["img"].to(self.device), batch["label"].to(self.device)

    def _log_step(self, losses: MetricMeter, batch_time: AverageMeter, data_time: AverageMeter) -> None:
        """Print a line every TRAIN.PRINT_FREQ batches, and write scalars for TensorBoard."""
        due = (self.batch_idx + 1) % self.cfg.TRAIN.PRINT_FREQ == 0
        if due or self.num_batches < self.cfg.TRAIN.PRINT_FREQ:
            left = self.num_batches - self.batch_idx - 1 + (self.max_epoch - self.epoch - 1) * self.num_batches
            print(
                f"epoch [{self.epoch + 1}/{self.max_epoch}] batch [{self.batch_idx + 1}/{self.num_batches}] "
                f"time {batch_time.val:.3f} ({batch_time.avg:.3f}) data {data_time.val:.3f} ({data_time.avg:.3f}) "
                f"{losses} lr {self.get_current_lr():.4e} "
                f"eta {datetime.timedelta(seconds=int(batch_time.avg * left))}"
            )
        step = self.epoch * self.num_batches + self.batch_idx
        for name, meter in losses.meters.items():
            self.write_scalar(f"train/{name}", meter.avg, step)
        self.write_scalar("train/lr", self.get_current_lr(), step)

    def _run_steps(self, batches: Iterator[tuple]) -> None:
        """Call forward_backward once per tuple of batches.

        Raises:
            Diverged: a number that it returns is not finite.
        """
        self.set_model_mode("train")
        losses, batch_time, data_time = MetricMeter(), AverageMeter(), AverageMeter()
        end = time.time()
        for self.batch_idx, batch in enumerate(batches):
            data_time.update(time.time() - end)
            losses.update(self.forward_backward(*batch))
            self._check_terms({name: meter.val for name, meter in losses.meters.items()})
            batch_time.update(time.time() - end)
            self._log_step(losses, batch_time, data_time)
            end = time.time()
        if "loss" in losses.meters:
            mean = losses.meters["loss"].avg
            self._mean_losses = {"first_loss": self._mean_losses.get("first_loss", mean), "last_loss": mean}


class TrainerX(SimpleTrainer):
    """A trainer on labelled data."""

    def run_epoch(self) -> None:
        self.num_batches = len(self.train_loader_x)
        self._run_steps((batch,) for batch in self.train_loader_x)

    def parse_batch_train(self, batch: dict) -> tuple:
        return batch["img"].to(self.device), batch["label"].to(self.device), batch["domain"].to(self.device)


class TrainerXU(SimpleTrainer):
    """A trainer on labelled and unlabelled data side by side."""

    train_loader_u: DataLoader

    def run_epoch(self) -> None:
        lengths = {"train_x": len(self.train_loader_x), "train_u": len(self.train_loader_u)}
        lengths["smaller_one"] = min(lengths.values())
        if self.cfg.TRAIN.COUNT_ITER not in lengths:
            raise UserError(f"TRAIN.COUNT_ITER is '{self.cfg.TRAIN.COUNT_ITER}'; it can be {', '.join(lengths)}.")
        self.num_batches = lengths[self.cfg.TRAIN.COUNT_ITER]
        labelled, unlabelled = _again_and_again(self.train_loader_x), _again_and_again(self.train_loader_u)
        self._run_steps((next(labelled), next(unlabelled)) for _ in range(self.num_batches))

    def parse_batch_train(self, batch_x: dict, batch_u: dict) -> tuple:  # type: ignore[override]  # as Dassl has it
        """Return labelled images, their labels and unlabelled images."""
        return batch_x["img"].to(self.device), batch_x["label"].to(self.device), batch_u["img"].to(self.device)


def _again_and_again(loader: Iterable) -> Iterator:
    while True:
        yield from loader
