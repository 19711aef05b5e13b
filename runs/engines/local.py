"""Going through jobs on this machine, one after another or side by side in processes of their own."""

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

from runs.protocols import Job, integer

from .options import Settings
from .report import Outcome, Report, attempt

ATTEMPTS = 2  # at a job whose process is killed
SECONDS_BETWEEN_LOOKS = 1.0  # at whether a process is alive
SECONDS_TO_END = 5.0
WEIGHT_FILES = (".safetensors", ".bin", ".pt")
FIXED_BYTES = 1_500_000_000


def go_through(todo: Sequence[Job], workers: int = 1) -> Report:
    """Do every job and tell of each as it ends. A job that fails is named and the rest continue.

    With more than one worker, jobs run side by side in processes of their own, share out the machine's cores, and print
    to their log.txt alone.
    """
    report = Report(todo, workers)
    for outcome in _one_by_one(todo) if workers == 1 else _side_by_side(todo, workers):
        report.add(outcome)
    return report


def start(todo: Sequence[Job], settings: Settings) -> Report:
    """Go through the jobs with as many workers as were asked for, or as the GPU's memory has room for."""
    return go_through(todo, fitting(settings.jobs or 1, settings.backbone))


def fitting(workers: int, backbone: str) -> int:
    """At most `workers`: as many as the free memory of this machine's GPU is estimated to have room for, at least 1."""
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
            f"The GPU has {free / 1e9:.0f} GB free and a run is estimated to take {needed / 1e9:.1f} GB: {fit} side by "
            f"side instead of {workers}.",
            flush=True,
        )
    return fit


def bytes_of_run(backbone: str) -> int:
    """An estimate of a run's memory on a GPU: its weights, about twice as much for what their products leave behind,
    and a fixed part for CUDA itself and a batch of images."""
    from clip.registry import locate

    sizes = [file.stat().st_size for file in locate(backbone).rglob("*") if file.suffix in WEIGHT_FILES]
    return 3 * max(sizes, default=0) + FIXED_BYTES


def worker_count(asked: str | None, backbone: str) -> int:
    """How many jobs run side by side: what --jobs asks for, by default 1, or for PhantomCLIP, which is too small for
    the threads of one run to gain much, one per core and at most 4.

    Raises:
        UserError: it is not a whole number above 0.
    """
    if asked is not None:
        return integer(asked, "--jobs", 1)
    return min(4, os.cpu_count() or 1) if backbone == "PhantomCLIP" else 1


def _one_by_one(todo: Sequence[Job]) -> Iterator[Outcome]:
    for number, job in enumerate(todo, 1):
        print(f"Job {number} of {len(todo)}: {job}", flush=True)
        yield attempt(job)


def _side_by_side(todo: Sequence[Job], workers: int) -> Iterator[Outcome]:
    """Outcomes in the order in which jobs end. A job whose process is killed is done once more in a fresh one. The
    first that finds the GPU's memory full halves the number of workers, and jobs that ran beside more workers than
    there are then are done once more."""
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
                        worker.stop()  # and with it the memory that it holds
                        continue
                if outcome is not None:
                    idle.append(worker)
                    yield outcome
                    continue
                cause = worker.cause_of_death()
                if worker.attempts < ATTEMPTS:
                    print(f"{worker.job}: its process {cause}; once more in a fresh one", file=sys.stderr, flush=True)
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
    """A process that does one job after another, and the job that it is at."""

    def __init__(self, threads: int) -> None:
        spawn = multiprocessing.get_context("spawn")
        self.pipe, theirs = spawn.Pipe()
        self.process = spawn.Process(target=_work, args=(theirs, threads))
        with _interrupts_ignored():  # inherited: on Ctrl-C this process ends the others, which say nothing
            self.process.start()
        theirs.close()
        self.job: Job  # what `give` gave it last
        self.attempts = 0
        self.beside = 1  # how many workers there were, this one included, when it began

    def give(self, job: Job, attempts: int, workers: int) -> None:
        self.job, self.attempts, self.beside = job, attempts, workers
        with contextlib.suppress(OSError):  # it was killed just now, which `outcome` tells
            self.pipe.send(job)

    def has_ended(self) -> bool:
        """Whether the job is done, or the process is gone."""
        return self.pipe.poll() or not self.process.is_alive()

    def outcome(self) -> Outcome | None:
        """What became of the job; None where the process was killed at it."""
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
    if threading.current_thread() is not threading.main_thread():  # only that one sets handlers
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _work(pipe: Connection, threads: int) -> None:
    """A worker's life: jobs come through the pipe, their outcomes go back."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    import torch

    torch.set_num_threads(threads)
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115  open as long as the process
    with contextlib.suppress(EOFError, OSError):  # whoever asked is gone
        while True:
            pipe.send(attempt(pipe.recv()))


def _end_with_parent() -> None:
    """End this process as soon as the one that started it is gone, killed or not."""
    cast(BaseProcess, multiprocessing.parent_process()).join()
    os._exit(1)
