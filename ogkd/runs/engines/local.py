"""Executing jobs on this machine: one after another in this process, or side by side in processes of their own."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection

from ogkd.core.places import PACKAGE
from ogkd.runs.engines.options import Settings
from ogkd.runs.engines.report import Outcome, Report, attempt
from ogkd.runs.protocols import Job

ATTEMPTS = 2  # for a job whose process is killed
_method = "forkserver" if sys.platform == "linux" else "spawn"  # how processes start
_REMEDY = "the memory may be full, so lower --jobs or DATALOADER.TRAIN_X.BATCH_SIZE"


def outcomes(todo: Sequence[Job], settings: Settings, report: Report) -> Iterator[Outcome]:
    """Outcomes in the order in which jobs end. With more than one worker, jobs share the machine's cores and print only
    to their log.txt."""
    workers = settings.jobs or 1
    if workers > 1:
        waiting = [job for job in todo if job.waiting()]
        with contextlib.redirect_stdout(None):
            complete = [attempt(job) for job in todo if job not in waiting]
        yield from complete
        if waiting:
            yield from side_by_side(waiting, workers)
        return
    for number, job in enumerate(todo, 1):
        print(f"Job {number} of {len(todo)}: {job}", flush=True)
        yield attempt(job)


def import_ahead() -> None:
    """Start the process from which the others are forked, if it does not run yet. It imports what runs need, once for
    all, while this process does something else. Only Linux has it; elsewhere each process imports everything itself.
    """
    if _method == "forkserver":
        multiprocessing.get_context(_method).set_forkserver_preload(["ogkd.runs.engines.preloaded"])
        starting = threading.Thread(target=_start_forkserver)
        starting.start()
        starting.join()


def _start_forkserver() -> None:
    global _method
    from multiprocessing import forkserver  # which Windows has not

    _block_interrupts()
    before = dict(os.environ)  # Python before 3.14 does not hand sys.path on
    os.environ["PYTHONPATH"] = os.pathsep.join([str(PACKAGE.parent), os.environ.get("PYTHONPATH", "")]).rstrip(":")
    try:
        forkserver.ensure_running()
    except OSError:  # the path of a socket in the temporary folder is too long
        _method = "spawn"
    finally:
        _set_environment(before)


def _set_environment(variables: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(variables)


def side_by_side(todo: Sequence[Job], workers: int) -> Iterator[Outcome]:
    """A thread for each worker hands jobs to a process, which executes one after another. A job whose process is killed
    is retried once in a new one. Jobs that find the GPU's memory full are retried at the end, half as many at a time.
    """
    import_ahead()
    leash, held = multiprocessing.Pipe(duplex=False)  # workers end as soon as `held` is closed, or this process ends
    processes: dict[int, ProcessPoolExecutor] = {}  # of each thread; one process each, so that none ends another
    cores = max(1, (os.cpu_count() or 1) // workers)

    def execute(job: Job) -> Outcome:
        for number in range(1, ATTEMPTS + 1):
            process = processes.pop(threading.get_ident(), None) or ProcessPoolExecutor(
                1, multiprocessing.get_context(_method), _begin, (leash, cores, dict(os.environ))
            )
            try:
                outcome = process.submit(attempt, job).result()
            except BrokenProcessPool:
                if number < ATTEMPTS and not held.closed:
                    print(f"{job}: its process was killed; retrying in a new one", file=sys.stderr, flush=True)
                job = job.with_rerun(False)
            else:
                processes[threading.get_ident()] = process
                return outcome
        return Outcome(job, error=f"its process was killed, {ATTEMPTS} times: {_REMEDY}.")

    full = []
    threads = ThreadPoolExecutor(workers, initializer=_block_interrupts)
    try:
        for future in as_completed([threads.submit(execute, job) for job in todo]):
            outcome = future.result()
            if outcome.out_of_memory and workers > 1:
                print(f"{outcome.job}: the GPU's memory is full; retrying it at the end", file=sys.stderr, flush=True)
                full.append(outcome.job.with_rerun(False))
            else:
                yield outcome
    finally:
        held.close()
        threads.shutdown(cancel_futures=True)
        for process in processes.values():
            process.shutdown()
    if full:
        print(f"From now on --jobs {workers // 2}", file=sys.stderr, flush=True)
        yield from side_by_side(full, workers // 2)


def _block_interrupts() -> None:
    """Processes inherit this from the thread that starts them: on Ctrl-C, which reaches them too, they are silent."""
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def _begin(leash: Connection, threads: int, environment: Mapping[str, str]) -> None:
    """A worker's start."""

    def end_with_leash() -> None:
        with contextlib.suppress(EOFError, OSError):
            leash.recv()
        os._exit(1)

    _set_environment(environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=end_with_leash, daemon=True).start()
    from ogkd.core.workers import share_cores

    share_cores(threads)
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115  stays open as long as the process lives
