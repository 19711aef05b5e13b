from __future__ import annotations

from yacs.config import CfgNode

from dassl.utils import Registry

EVALUATOR_REGISTRY = Registry("EVALUATOR")


def build_evaluator(cfg: CfgNode, **kwargs: object):
    """The evaluator that cfg.TEST.EVALUATOR names. Raises UserError when there is none of that name."""
    return EVALUATOR_REGISTRY.named(cfg.TEST.EVALUATOR, "Loading evaluator" if cfg.VERBOSE else "")(cfg, **kwargs)
