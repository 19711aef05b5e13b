"""Samplers: the order in which a loader visits a data set. The same seed gives the same order as in Dassl."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import RandomSampler, Sampler, SequentialSampler
from yacs.config import CfgNode

from ogkd.core import WrongValue

from .datasets import Datum


class RandomClassSampler(Sampler):
    """Each batch holds batch_size / n_ins classes with n_ins images per class."""

    def __init__(self, data_source: Sequence[Datum], batch_size: int, n_ins: int) -> None:
        if batch_size < n_ins:
            raise WrongValue(f"The batch size {batch_size} is less than the {n_ins} images per class in a batch.")
        self.data_source, self.batch_size, self.n_ins = data_source, batch_size, n_ins
        self.ncls_per_batch = batch_size // n_ins
        self.index_dic = defaultdict(list)
        for index, item in enumerate(data_source):
            self.index_dic[item.label].append(index)
        self.labels = list(self.index_dic)
        if len(self.labels) < self.ncls_per_batch:
            raise WrongValue(f"A batch takes {self.ncls_per_batch} classes, but there are {len(self.labels)}.")
        self.length = len(list(iter(self)))

    def __iter__(self) -> Iterator[int]:
        pieces = {}
        for label, rows in self.index_dic.items():
            short = len(rows) < self.n_ins
            drawn = np.random.choice(rows, size=self.n_ins, replace=True).tolist() if short else list(rows)
            random.shuffle(drawn)
            whole = len(drawn) // self.n_ins
            pieces[label] = [drawn[i * self.n_ins : (i + 1) * self.n_ins] for i in range(whole)]
        order: list[int] = []
        available = list(self.labels)
        while len(available) >= self.ncls_per_batch:
            for label in random.sample(available, self.ncls_per_batch):
                order += pieces[label].pop(0)
                if not pieces[label]:
                    available.remove(label)
        return iter(order)

    def __len__(self) -> int:
        return self.length


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
        "RandomClassSampler": lambda: RandomClassSampler(data_source, batch_size, n_ins),
    }
    if sampler_type not in makers:
        raise WrongValue(f"There is no sampler '{sampler_type}'; there are {', '.join(makers)}.")
    return makers[sampler_type]()
