"""Executing jobs on this machine, one after another or in parallel processes."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import cast

from ogkd.runs.engines.options import Settings
from ogkd.runs.engines.report import Outcome, Report, attempt
from ogkd.runs.protocols import Job, integer

ATTEMPTS = 2  # for a job whose process is killed
SECONDS_BETWEEN_LOOKS = 1.0  # to check whether processes are alive
SECONDS_TO_END = 5.0
WEIGHT_FILES = (".safetensors", ".bin", ".pt")
FIXED_BYTES = 1_500_000_000


def go_through(todo: Sequence[Job], workers: int = 1) -> Report:
    """Execute every job and report each as it ends. A job that fails is reported and the rest continue.

    With more than one worker, jobs run in parallel processes that share the machine's cores and print only to their
    log.txt.
    """
    report = Report(todo, workers)
    for outcome in _one_by_one(todo) if workers == 1 else _side_by_side(todo, workers):
        report.add(outcome)
    return report


def start(todo: Sequence[Job], settings: Settings) -> Report:
    """Execute the jobs with the requested number of workers, or as many as fit into the GPU's memory."""
    return go_through(todo, fitting(settings.jobs or 1, settings.backbone))


def fitting(workers: int, backbone: str) -> int:
    """The number of workers, at least 1 and at most `workers`, estimated to fit into the GPU's free memory."""
    if workers == 1:
        return 1
    import torch

    if not torch.cuda.is_available():
        return workers
    free, _ = torch.cuda.mem_get_info()
    needed = bytes_of_run(backbone)
    fit = max(1, min(workers, int(free // needed)))
    if fit < workers:
        print(
            f"The GPU has {free / 1e9:.0f} GB free and a run is estimated to take {needed / 1e9:.1f} GB: using {fit} "
            f"workers instead of {workers}.",
            flush=True,
        )
    return fit


def bytes_of_run(backbone: str) -> int:
    """An estimate of a run's memory on a GPU: the weights, about twice as much for intermediate results, and a constant
    for CUDA itself and a batch of images."""
    from ogkd.models import locate

    sizes = [file.stat().st_size for file in locate(backbone).rglob("*") if file.suffix in WEIGHT_FILES]
    return 3 * max(sizes, default=0) + FIXED_BYTES


def worker_count(asked: str | None, backbone: str) -> int:
    """How many jobs run in parallel: --jobs, by default 1. For PhantomCLIP, whose runs use one thread each, the default
    is one per core and at most 4.

    Raises:
        UserError: --jobs is not a whole number above 0.
    """
    if asked is not None:
        return integer(asked, "--jobs", 1)
    return min(4, os.cpu_count() or 1) if backbone == "PhantomCLIP" else 1


def _one_by_one(todo: Sequence[Job]) -> Iterator[Outcome]:
    for number, job in enumerate(todo, 1):
        print(f"Job {number} of {len(todo)}: {job}", flush=True)
        yield attempt(job)


def _side_by_side(todo: Sequence[Job], workers: int) -> Iterator[Outcome]:
    """Outcomes in the order in which jobs end. A job whose process is killed is retried once in a new process. The
    first job that runs out of GPU memory halves the number of workers; jobs that ran out of memory alongside more
    workers than that are retried."""
    threads = max(1, (os.cpu_count() or 1) // workers)
    asked = workers
    waiting = deque((job, 1) for job in todo)
    busy: list[_Worker] = []
    idle: list[_Worker] = []
    try:
        while waiting or busy:
            while waiting and len(busy) < workers:
                idle = [worker for worker in idle if worker.process.is_alive()]
                job, number = waiting.popleft()
                worker = idle.pop() if idle and number == 1 else _Worker(threads)
                busy.append(worker)
                worker.give(job, number, workers)
            wait([worker.pipe for worker in busy], SECONDS_BETWEEN_LOOKS)
            for worker in [worker for worker in busy if worker.has_ended()]:
                busy.remove(worker)
                outcome = worker.outcome()
                if outcome is not None and outcome.out_of_memory and worker.beside > 1:
                    if workers == asked:
                        workers = asked // 2
                        print(f"{worker.job}: the GPU's memory is full; from now on --jobs {workers}", file=sys.stderr)
                    if worker.beside > workers:
                        waiting.appendleft((worker.job, worker.attempts))
                        worker.stop()  # which frees its memory
                        continue
                if outcome is not None:
                    idle.append(worker)
                    yield outcome
                    continue
                cause = worker.cause_of_death()
                if worker.attempts < ATTEMPTS:
                    print(f"{worker.job}: its process {cause}; retrying in a new one", file=sys.stderr, flush=True)
                    waiting.appendleft((worker.job, worker.attempts + 1))
                else:
                    yield Outcome(worker.job, error=f"its process {cause}, {ATTEMPTS} times: {_REMEDY}.")
            while idle and len(busy) + len(idle) > workers:
                idle.pop().stop()
    finally:
        for worker in (*busy, *idle):
            worker.stop()


_REMEDY = "the memory may be full, so lower --jobs or DATALOADER.TRAIN_X.BATCH_SIZE"


class _Worker:
    """A process that executes one job after another, and its current job."""

    def __init__(self, threads: int) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.pipe, theirs = spawn.Pipe()
        self.process = spawn.Process(target=_work, args=(theirs, threads))
        with _interrupts_ignored():  # inherited: on Ctrl-C this process ends the workers, which print nothing
            self.process.start()
        theirs.close()
        self.job: Job  # what `give` gave it last
        self.attempts = 0
        self.beside = 1  # number of workers, this one included, when the job started

    def give(self, job: Job, attempts: int, workers: int) -> None:
        self.job, self.attempts, self.beside = job, attempts, workers
        with contextlib.suppress(OSError):  # it was killed just now, which `outcome` detects
            self.pipe.send(job)

    def has_ended(self) -> bool:
        """Whether the job is done, or the process is gone."""
        return self.pipe.poll() or not self.process.is_alive()

    def outcome(self) -> Outcome | None:
        """The outcome of the job; None if its process was killed."""
        try:
            return self.pipe.recv() if self.pipe.poll() else None
        except (EOFError, OSError):
            return None

    def cause_of_death(self) -> str:
        self.process.join(SECONDS_TO_END)
        code = self.process.exitcode
        self.stop()
        if code is None or code >= 0:
            return f"ended with exit code {code}"
        return f"was killed by {signal.Signals(-code).name}"

    def stop(self) -> None:
        self.process.terminate()
        self.process.join(SECONDS_TO_END)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.pipe.close()


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():  # only the main thread can set handlers
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _work(pipe: Connection, threads: int) -> None:
    """A worker's main loop: receives jobs through the pipe and sends back their outcomes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import torch

    torch.set_num_threads(threads)
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115  stays open as long as the process lives
    with contextlib.suppress(EOFError, OSError):  # the parent process is gone
        while True:
            pipe.send(attempt(pipe.recv()))


def _end_with_parent() -> None:
    """Exit as soon as the parent process ends or is killed."""
    cast(BaseProcess, multiprocessing.parent_process()).join()
    os._exit(1)
