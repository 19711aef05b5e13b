"""Many runs: every method on every data set with every seed, what is finished of them, and going through them."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import torch

import clip
from dassl.utils import UserError
from runs.protocols import BASE2NEW_SHOTS, Place, Protocol, benchmark_methods

# Three classes leave one novel class, which nothing can be confused with.
NOT_IN_BASE2NEW = ("busi",)


@dataclass(frozen=True)
class Step:
    """One protocol of one method on one data set with one seed."""

    protocol: str
    run: Protocol

    def finished(self) -> bool:
        """Whether all its run folders hold results."""
        return all((folder / "results.json").is_file() for folder in self.run.folders(self.protocol))

    def __call__(self) -> None:
        getattr(self.run, self.protocol)()

    def __str__(self) -> str:
        run = self.run
        return f"{self.protocol} {run.dataset} {run.method} {run.shots} shots seed {run.seed}"


def steps(
    protocol: str,
    datasets: Sequence[str],
    methods: Sequence[str],
    seeds: Sequence[int],
    shots: Sequence[int],
    place: Place,
    pairs: Sequence[str] = (),
) -> list[Step]:
    """The runs of a protocol, data set by data set; base-to-novel has its own number of shots.

    Raises:
        UserError: an unknown method.
    """
    known = benchmark_methods()
    for method in methods:
        if method not in known:
            raise UserError(f"There is no method '{method}'; there are {', '.join(known)}.")
    if protocol == "base2new":
        datasets, shots = [name for name in datasets if name not in NOT_IN_BASE2NEW], [BASE2NEW_SHOTS]
    return [
        Step(protocol, Protocol(method, dataset, number, seed, pairs, place))
        for dataset in datasets
        for method in methods
        for number in shots
        for seed in seeds
    ]


def go_through(todo: Sequence[Step], jobs: int = 1) -> list[str]:
    """Run what is not finished. One that fails by a user's error is named and the rest goes on; the failures.

    With more than one job, runs stand side by side in processes of their own, with the machine's cores shared out, and
    print to their log.txt alone.
    """
    failures = []
    for number, (step, wait) in enumerate(_started(todo, jobs), 1):
        print(f"[{number}/{len(todo)}] {step}", flush=True)
        try:
            wait()
        except (UserError, clip.ModelError) as error:
            failures.append(f"{step}: {error}")
            print(f"error: {error}", flush=True)
    return failures


def _started(todo: Sequence[Step], jobs: int) -> Iterator[tuple[Step, Callable[[], None]]]:
    """Each step with a function that returns when it is done."""
    if jobs == 1:
        yield from ((step, step) for step in todo)
        return
    threads = max(1, (os.cpu_count() or 1) // jobs)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=spawn, initializer=_begin_worker, initargs=(threads,)) as pool:
        waiting = [(step, pool.submit(step)) for step in todo]
        yield from ((step, future.result) for step, future in waiting)


def _begin_worker(threads: int) -> None:
    torch.set_num_threads(threads)
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115  open as long as the process
