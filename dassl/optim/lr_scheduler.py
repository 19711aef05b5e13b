from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, MultiStepLR, StepLR
from yacs.config import CfgNode

from ogkd.core import WrongValue

AVAI_SCHEDS = ["single_step", "multi_step", "cosine"]


class _BaseWarmupScheduler(LRScheduler):
    """Warm-up learning rates for warmup_epoch steps, then those of a successor, which starts counting there."""

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        successor: LRScheduler,
        warmup_epoch: int,
        last_epoch: int = -1,
        verbose: bool = False,
    ) -> None:
        """`verbose` is accepted, as in Dassl, but has no effect: PyTorch's schedulers no longer print."""
        self.successor, self.warmup_epoch = successor, warmup_epoch
        super().__init__(optimizer, last_epoch)

    def warmup_lr(self) -> list[float | Tensor]:
        raise NotImplementedError

    def get_lr(self) -> list[float | Tensor]:
        return self.successor.get_last_lr() if self.last_epoch >= self.warmup_epoch else self.warmup_lr()

    def step(self, epoch: int | None = None) -> None:
        if self.last_epoch >= self.warmup_epoch:
            self.successor.step(epoch)
            self.last_epoch += 1
            self._last_lr = self.successor.get_last_lr()
        else:
            super().step(epoch)

    def state_dict(self) -> dict:
        """The plain values of the warm-up and of the successor."""
        own = {name: value for name, value in super().state_dict().items() if name != "successor"}
        return {**own, "successor": self.successor.state_dict()}

    def load_state_dict(self, state_dict: dict) -> None:
        state_dict = dict(state_dict)
        self.successor.load_state_dict(state_dict.pop("successor"))
        super().load_state_dict(state_dict)


class ConstantWarmupScheduler(_BaseWarmupScheduler):
    """A constant learning rate during the warm-up."""

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        successor: LRScheduler,
        warmup_epoch: int,
        cons_lr: float,
        last_epoch: int = -1,
        verbose: bool = False,
    ) -> None:
        self.cons_lr = cons_lr
        super().__init__(optimizer, successor, warmup_epoch, last_epoch, verbose)

    def warmup_lr(self) -> list[float | Tensor]:
        return [self.cons_lr] * len(self.base_lrs)


class LinearWarmupScheduler(_BaseWarmupScheduler):
    """min_lr in epoch 0, then base rate * epoch / warmup_epoch."""

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        successor: LRScheduler,
        warmup_epoch: int,
        min_lr: float,
        last_epoch: int = -1,
        verbose: bool = False,
    ) -> None:
        self.min_lr = min_lr
        super().__init__(optimizer, successor, warmup_epoch, last_epoch, verbose)

    def warmup_lr(self) -> list[float | Tensor]:
        if self.last_epoch == 0:
            return [self.min_lr] * len(self.base_lrs)
        return [lr * self.last_epoch / self.warmup_epoch for lr in self.base_lrs]


def build_lr_scheduler(optimizer: torch.optim.Optimizer, optim_cfg: CfgNode) -> LRScheduler:
    """Build the schedule that cfg.OPTIM describes; it steps once per epoch.

    Cosine with W epochs of constant warm-up: WARMUP_CONS_LR in the epochs below W, then
    0.5 LR (1 + cos(pi (e - W) / MAX_EPOCH)) in epoch e.
    """
    name, stepsize, max_epoch = optim_cfg.LR_SCHEDULER, optim_cfg.STEPSIZE, optim_cfg.MAX_EPOCH
    if name not in AVAI_SCHEDS:
        raise WrongValue(f"OPTIM.LR_SCHEDULER is '{name}'; it can be {', '.join(AVAI_SCHEDS)}.")
    scheduler: LRScheduler
    if name == "single_step":
        step = stepsize[-1] if isinstance(stepsize, (list, tuple)) else stepsize
        scheduler = StepLR(optimizer, step_size=step if step > 0 else max_epoch, gamma=optim_cfg.GAMMA)
    elif name == "multi_step":
        if not isinstance(stepsize, (list, tuple)):
            raise WrongValue(f"OPTIM.STEPSIZE is {stepsize}, but multi_step needs a list of epochs.")
        scheduler = MultiStepLR(optimizer, milestones=list(stepsize), gamma=optim_cfg.GAMMA)
    else:
        scheduler = CosineAnnealingLR(optimizer, cast(int, float(max_epoch)))
    if optim_cfg.WARMUP_EPOCH <= 0:
        return scheduler
    if not optim_cfg.WARMUP_RECOUNT:
        scheduler.last_epoch = optim_cfg.WARMUP_EPOCH
    if optim_cfg.WARMUP_TYPE == "constant":
        return ConstantWarmupScheduler(optimizer, scheduler, optim_cfg.WARMUP_EPOCH, optim_cfg.WARMUP_CONS_LR)
    if optim_cfg.WARMUP_TYPE == "linear":
        return LinearWarmupScheduler(optimizer, scheduler, optim_cfg.WARMUP_EPOCH, optim_cfg.WARMUP_MIN_LR)
    raise WrongValue(f"OPTIM.WARMUP_TYPE is '{optim_cfg.WARMUP_TYPE}'; it can be linear or constant.")
