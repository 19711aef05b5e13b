"""Configuration: defaults and their clean-up."""

from yacs.config import CfgNode

from .defaults import default_config

cfg_default = default_config()
"""The defaults. To change values, take a copy with `get_cfg_default`."""


def get_cfg_default() -> CfgNode:
    """Return a copy of the defaults that may be changed."""
    return cfg_default.clone()


def clean_cfg(cfg: CfgNode, trainer: str) -> None:
    """Remove the options of every trainer except `trainer` (compared case-insensitively)."""
    for key in list(cfg.TRAINER):
        if key != "NAME" and key != trainer.upper():
            cfg.TRAINER.pop(key)


__all__ = ["cfg_default", "clean_cfg", "get_cfg_default"]
