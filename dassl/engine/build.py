from __future__ import annotations

from yacs.config import CfgNode

from dassl.utils import Registry
from ogkd.core import check_availability

TRAINER_REGISTRY = Registry("TRAINER")


def build_trainer(cfg: CfgNode):
    """The trainer that cfg.TRAINER.NAME names. Raises UserError when there is none of that name."""
    check_availability(cfg.TRAINER.NAME, TRAINER_REGISTRY.registered_names())
    if cfg.VERBOSE:
        print(f"Loading trainer: {cfg.TRAINER.NAME}")
    return TRAINER_REGISTRY.get(cfg.TRAINER.NAME)(cfg)
