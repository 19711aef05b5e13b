from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from torch import nn
from yacs.config import CfgNode

from ogkd.core import WrongValue

from .radam import RAdam

AVAI_OPTIMS = ["adam", "amsgrad", "sgd", "rmsprop", "radam", "adamw"]


def build_optimizer(
    model: nn.Module | Iterable, optim_cfg: CfgNode, param_groups: list | None = None
) -> torch.optim.Optimizer:
    """Build the optimiser that cfg.OPTIM describes, for a module, an iterable of parameters or parameter groups.

    With STAGED_LR the children named in NEW_LAYERS use the learning rate LR, all others LR * BASE_LR_MULT.
    """
    name, lr = optim_cfg.NAME, optim_cfg.LR
    if name not in AVAI_OPTIMS:
        raise WrongValue(f"OPTIM.NAME is '{name}'; it can be {', '.join(AVAI_OPTIMS)}.")
    if param_groups is None:
        if optim_cfg.STAGED_LR:
            param_groups = _staged(cast(nn.Module, model), optim_cfg)
        else:
            param_groups = list(model.parameters() if isinstance(model, nn.Module) else model)

    shared = {"lr": lr, "weight_decay": optim_cfg.WEIGHT_DECAY}
    adam = {**shared, "betas": (optim_cfg.ADAM_BETA1, optim_cfg.ADAM_BETA2), "eps": optim_cfg.ADAM_EPS}
    if name == "sgd":
        return torch.optim.SGD(
            param_groups,
            **shared,
            momentum=optim_cfg.MOMENTUM,
            dampening=optim_cfg.SGD_DAMPNING,
            nesterov=optim_cfg.SGD_NESTEROV,
        )
    if name == "rmsprop":
        return torch.optim.RMSprop(param_groups, **shared, momentum=optim_cfg.MOMENTUM, alpha=optim_cfg.RMSPROP_ALPHA)
    if name == "amsgrad":
        return torch.optim.Adam(param_groups, **adam, amsgrad=True)
    kinds = {"adam": torch.optim.Adam, "radam": RAdam, "adamw": torch.optim.AdamW}
    return kinds[name](param_groups, **adam)


def _staged(model: nn.Module, optim_cfg: CfgNode) -> list[dict]:
    if not isinstance(model, nn.Module):
        raise TypeError("OPTIM.STAGED_LR needs a module, not parameters")
    if isinstance(model, nn.DataParallel):
        model = model.module
    new = optim_cfg.NEW_LAYERS
    new = {new} if isinstance(new, str) else set(new)
    missing = new - {name for name, _ in model.named_children()}
    if missing:
        raise WrongValue(f"OPTIM.NEW_LAYERS names {', '.join(sorted(missing))}, which the model does not have.")
    groups: dict[bool, list[nn.Parameter]] = {True: [], False: []}
    for name, module in model.named_children():
        groups[name in new] += list(module.parameters())
    return [{"params": groups[False], "lr": optim_cfg.LR * optim_cfg.BASE_LR_MULT}, {"params": groups[True]}]
