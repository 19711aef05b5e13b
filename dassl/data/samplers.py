"""Samplers: the order in which a loader visits a data set. The same seed gives the same order as in Dassl."""

from __future__ import annotations

import copy
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import RandomSampler, Sampler, SequentialSampler
from yacs.config import CfgNode

from ogkd.core import WrongValue

from .datasets import Datum


class RandomDomainSampler(Sampler):
    """Each batch draws n_domain domains (0 or less: all) and takes equally many images from each."""

    def __init__(self, data_source: Sequence[Datum], batch_size: int, n_domain: int) -> None:
        self.data_source = data_source
        self.domain_dict = defaultdict(list)
        for index, item in enumerate(data_source):
            self.domain_dict[item.domain].append(index)
        self.domains = list(self.domain_dict)
        self.n_domain = n_domain if n_domain > 0 else len(self.domains)
        if batch_size % self.n_domain:
            raise WrongValue(f"The batch size {batch_size} is not a multiple of its {self.n_domain} domains.")
        self.n_img_per_domain = batch_size // self.n_domain
        self.batch_size = batch_size
        self.length = len(list(iter(self)))

    def __iter__(self) -> Iterator[int]:
        domain_dict = copy.deepcopy(self.domain_dict)
        order: list[int] = []
        while True:
            for domain in self._domains_of_a_batch():
                chosen = random.sample(domain_dict[domain], min(self.n_img_per_domain, len(domain_dict[domain])))
                order += chosen
                used = set(chosen)
                domain_dict[domain] = [index for index in domain_dict[domain] if index not in used]
            if any(len(domain_dict[domain]) < self.n_img_per_domain for domain in self.domains):
                return iter(order)

    def _domains_of_a_batch(self) -> list[int]:
        return random.sample(self.domains, self.n_domain)

    def __len__(self) -> int:
        return self.length


class SeqDomainSampler(RandomDomainSampler):
    """Each batch holds all domains in order, with equally many images from each."""

    def __init__(self, data_source: Sequence[Datum], batch_size: int) -> None:
        super().__init__(data_source, batch_size, -1)

    def _domains_of_a_batch(self) -> list[int]:
        return sorted(self.domains)


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
        "RandomDomainSampler": lambda: RandomDomainSampler(data_source, batch_size, n_domain),
        "SeqDomainSampler": lambda: SeqDomainSampler(data_source, batch_size),
        "RandomClassSampler": lambda: RandomClassSampler(data_source, batch_size, n_ins),
    }
    if sampler_type not in makers:
        raise WrongValue(f"There is no sampler '{sampler_type}'; there are {', '.join(makers)}.")
    return makers[sampler_type]()
