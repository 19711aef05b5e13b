"""Executing a job by the commands of its runs, as cluster engines do on their nodes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from ogkd.core import read_json
from ogkd.core.places import work_folder
from ogkd.runs.engines.report import Outcome, scores_of
from ogkd.runs.protocols import Job
from ogkd.runs.spec import RunSpec

RESULTS, DIVERGED = "results.json", "diverged.json"
# Kills a process group as soon as the process at the other end of its standard input is gone.
_GUARD = 'read -r _; kill -s KILL -- "-$1"'


def do(job: Job, threads: int = 1, retries: int = 0) -> Outcome:
    """Execute the incomplete runs of a job, each as `python train.py ...` in a separate process. A run that is killed
    by a signal is retried at most `retries` times and resumes after its last epoch."""
    started = time.perf_counter()
    for spec in job.waiting():
        code, said = _run(spec, threads)
        for _ in range(retries if code < 0 else 0):
            code, said = _run(spec.again(), threads)
            if code >= 0:
                break
        if code:
            return _without_result(job, spec, code, said, time.perf_counter() - started)
    found = [read_json(Path(work_folder(), folder, RESULTS)) for folder in job.folders()]
    return Outcome(job, time.perf_counter() - started, scores_of(job, found))


def _without_result(job: Job, spec: RunSpec, code: int, said: str, seconds: float) -> Outcome:
    lines = said.strip().splitlines()
    if code < 0:
        sentence = f"its process was killed by {signal.Signals(-code).name}: the machine's memory may be full."
    else:
        sentence = lines[-1].removeprefix("error: ") if lines else f"`{spec.command()}` ended with exit code {code}."
    diverged = code == 2 and Path(work_folder(), spec.folder, DIVERGED).is_file()
    details = said.strip() if "Traceback (most recent call last)" in said else ""
    return Outcome(job, seconds, error=sentence, diverged=diverged, details=details)


def _run(spec: RunSpec, threads: int) -> tuple[int, str]:
    """Exit code of a run's command (negative if a signal killed it) and its output on stderr. Its standard output is in
    the run's log.txt."""
    words = [sys.executable, "-m", "ogkd", "train", *spec.arguments()]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    process = subprocess.Popen(
        words,
        cwd=work_folder(),
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    with process, _guarded(process):
        said = process.communicate()[1]
    return process.returncode, said


@contextlib.contextmanager
def _guarded(process: subprocess.Popen) -> Iterator[None]:
    """Kill a process and its children when the block ends or this process is killed, so that a run on a node that
    counts as dead does not continue alongside its successor."""
    if os.name != "posix":
        try:
            yield
        finally:
            process.kill()
        return
    guard = subprocess.Popen(
        ["sh", "-c", _GUARD, "guard", str(process.pid)], stdin=subprocess.PIPE, start_new_session=True
    )
    try:
        yield
    finally:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        guard.kill()
        cast(IO[bytes], guard.stdin).close()
        guard.wait()
