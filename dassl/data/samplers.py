"""Samplers: the order in which a loader visits a data set. The same seed gives the same order as in Dassl."""

from __future__ import annotations

from collections.abc import Sequence

from torch.utils.data import RandomSampler, Sampler, SequentialSampler
from yacs.config import CfgNode

from ogkd.core import WrongValue

from .datasets import Datum


def build_sampler(
    sampler_type: str,
    cfg: CfgNode | None = None,
    data_source: Sequence[Datum] = (),
    batch_size: int = 32,
    n_domain: int = 0,
    n_ins: int = 16,
) -> Sampler:
    """Return the sampler called `sampler_type`."""
    makers = {
        "RandomSampler": lambda: RandomSampler(data_source),
        "SequentialSampler": lambda: SequentialSampler(data_source),
    }
    if sampler_type not in makers:
        raise WrongValue(f"There is no sampler '{sampler_type}'; there are {', '.join(makers)}.")
    return makers[sampler_type]()
