"""Configuration: defaults and their clean-up."""

from yacs.config import CfgNode

from .defaults import default_config


def get_cfg_default() -> CfgNode:
    """A copy of the defaults, to change."""
    return default_config()


def clean_cfg(cfg: CfgNode, trainer: str) -> None:
    """Drop the options of all trainers but `trainer` (matched without regard to case)."""
    for key in list(cfg.TRAINER):
        if key != "NAME" and key != trainer.upper():
            cfg.TRAINER.pop(key)


__all__ = ["clean_cfg", "get_cfg_default"]
