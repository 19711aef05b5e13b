from __future__ import annotations

from yacs.config import CfgNode

from dassl.utils import Registry

TRAINER_REGISTRY = Registry("TRAINER")


def build_trainer(cfg: CfgNode):
    """The trainer that cfg.TRAINER.NAME names. Raises UserError when there is none of that name."""
    return TRAINER_REGISTRY.named(cfg.TRAINER.NAME, "Loading trainer" if cfg.VERBOSE else "")(cfg)
