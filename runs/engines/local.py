"""Going through jobs on this machine, one after another or side by side."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor

from dassl.utils import UserError, report_error
from runs.protocols import Job


def go_through(todo: Sequence[Job], workers: int = 1) -> list[str]:
    """Do every job. A job that fails with a user error is reported and the rest continue. Returns the failures.

    With more than one worker, jobs run side by side in processes of their own, share out the machine's cores, and print
    to their log.txt alone.
    """
    failures = []
    for number, (job, wait) in enumerate(_started(todo, workers), 1):
        print(f"[{number}/{len(todo)}] {job}", flush=True)
        try:
            wait()
        except UserError as error:
            failures.append(f"{job}: {error}")
            report_error(error)
    return failures


def _started(todo: Sequence[Job], workers: int) -> Iterator[tuple[Job, Callable[[], object]]]:
    """Each job with a function that returns when it is done."""
    if workers == 1:
        yield from ((job, job) for job in todo)
        return
    threads = max(1, (os.cpu_count() or 1) // workers)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn, initializer=_begin_worker, initargs=(threads,)) as pool:
        waiting = [(job, pool.submit(job)) for job in todo]
        yield from ((job, future.result) for job, future in waiting)


def _begin_worker(threads: int) -> None:
    import torch

    torch.set_num_threads(threads)
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115  open as long as the process
