"""What an engine reports: one line as each job ends, the time left, and at the end what failed or diverged."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass

from ogkd.core import Diverged, UserError, cause_of, is_out_of_memory, report_error
from ogkd.runs.protocols import Job

MOST_NAMED = 5  # jobs listed in the last sentence


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    scores: its results as text. error: one sentence if it failed. diverged: whether a training diverged, which is also
    an error. out_of_memory: whether the GPU's memory was full. lost: whether it ended without an outcome of its own.
    details: the traceback of an error that is not the user's.
    """

    job: Job
    seconds: float = 0.0
    scores: str = ""
    error: str = ""
    diverged: bool = False
    out_of_memory: bool = False
    lost: bool = False
    details: str = ""


def attempt(job: Job, threads: int = 0, folder: str = "") -> Outcome:
    """Execute a job in this process; an exception becomes part of the outcome. On a cluster's node, with a number of
    threads and in the folder that relative paths start from."""
    started = time.perf_counter()
    try:
        if folder:
            import torch

            os.chdir(folder)
            torch.set_num_threads(threads)
        scores = scores_of(job, job())
        return Outcome(job, time.perf_counter() - started, scores)
    except Exception as problem:
        sentence = cause_of(problem)
        return Outcome(
            job,
            time.perf_counter() - started,
            error=sentence or f"{type(problem).__name__}: {problem}",
            diverged=isinstance(problem, Diverged),
            out_of_memory=is_out_of_memory(problem),
            details="" if sentence else traceback.format_exc(),
        )


def scores_of(job: Job, results: Sequence[dict]) -> str:
    """The accuracies of a job's runs, such as "82.1 % base, 64.0 % novel"."""
    of_classes = {"base": " base", "new": " novel"}
    parts = []
    for spec, found in zip(job.specs, results, strict=True):
        elsewhere = job.protocol == "transfer" and spec.eval_only
        where = f" on {found['dataset']}" if elsewhere else of_classes.get(spec.subsample, "")
        parts.append(f"{found['accuracy']:.1f} %{where}")
    return ", ".join(parts)


class Report:
    """Reports jobs as they end; `failed` and `diverged` list those without a result as "job: cause"."""

    def __init__(self, todo: Sequence[Job], workers: int = 1) -> None:
        self.total, self.workers, self.ended = len(todo), workers, 0
        self.failed: list[str] = []
        self.diverged: list[str] = []
        self._left = {job for job in todo if job.waiting()}
        self._seconds: list[float] = []

    @property
    def succeeded(self) -> int:
        return self.ended - len(self.failed) - len(self.diverged)

    def add(self, outcome: Outcome) -> None:
        """Print the line of a job that has ended."""
        self.ended += 1
        job, took = outcome.job, outcome.job in self._left
        if took:
            self._left.remove(job)
            self._seconds.append(outcome.seconds)
        place = f"[{self.ended}/{self.total}] {job}: "
        if outcome.error:
            (self.diverged if outcome.diverged else self.failed).append(f"{job}: {outcome.error}")
            if outcome.details:
                print(outcome.details, file=sys.stderr)
            report_error(place + outcome.error)
            return
        spent = f"in {duration(outcome.seconds)}" if took else "(was complete)"
        left = self.seconds_left()
        print(place + f"{outcome.scores} {spent}" + (f", about {duration(left)} left" if left else ""), flush=True)

    def seconds_left(self) -> float:
        """Estimated time for the remaining jobs, from the mean of those done; 0 if there is nothing to go by."""
        if not self._left or not self._seconds:
            return 0.0
        mean = sum(self._seconds) / len(self._seconds)
        return mean * len(self._left) / min(self.workers, len(self._left))

    def conclude(self) -> None:
        """Raise an error that lists the jobs without a result, if there are any.

        Raises:
            UserError: there are such jobs.
        """
        if not self.failed and not self.diverged:
            return
        parts = []
        if self.diverged:
            names = [one.partition(": ")[0] for one in self.diverged]
            more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
            parts.append(f"{len(names)} of {self.total} jobs diverged ({'; '.join(names[:MOST_NAMED])}{more})")
        if self.failed:
            parts.append(f"{len(self.failed)} of {self.total} jobs failed, the first: {self.failed[0]}")
        raise UserError(" and ".join(parts).rstrip(".") + ".")


def duration(seconds: float) -> str:
    """A duration as text: 9 s, 6 min, 1 h 20 min."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
