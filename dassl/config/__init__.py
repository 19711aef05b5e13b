"""Configuration: defaults and their clean-up."""

from yacs.config import CfgNode

from .defaults import default_config

cfg_default = default_config()
"""The defaults; `get_cfg_default` gives a copy to change."""


def get_cfg_default() -> CfgNode:
    """A copy of the defaults, to change."""
    return cfg_default.clone()


def clean_cfg(cfg: CfgNode, trainer: str) -> None:
    """Drop the options of all trainers but `trainer` (matched without regard to case)."""
    for key in list(cfg.TRAINER):
        if key != "NAME" and key != trainer.upper():
            cfg.TRAINER.pop(key)


__all__ = ["cfg_default", "clean_cfg", "get_cfg_default"]
