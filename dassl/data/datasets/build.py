from __future__ import annotations

from yacs.config import CfgNode

from dassl.utils import Registry

from .base_dataset import DatasetBase

DATASET_REGISTRY = Registry("DATASET")


def build_dataset(cfg: CfgNode) -> DatasetBase:
    """The data set that cfg.DATASET.NAME names. Raises UserError when there is none of that name."""
    return DATASET_REGISTRY.named(cfg.DATASET.NAME, "Loading dataset" if cfg.VERBOSE else "")(cfg)
