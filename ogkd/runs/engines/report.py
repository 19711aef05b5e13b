"""What an engine reports: one line as each job ends, the time left, and at the end what failed or diverged."""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

from ogkd.core import Diverged, UserError, cause_of, is_out_of_memory, report_error
from ogkd.runs.protocols import Job


@dataclass(frozen=True)
class Outcome:
    """How a job ended."""

    job: Job
    seconds: float = 0.0
    scores: str = ""  # its results as text
    error: str = ""  # one sentence if it failed
    diverged: bool = False  # which is also an error
    out_of_memory: bool = False  # the GPU's
    details: str = ""  # the traceback of an error that is not the user's


def attempt(job: Job, threads: int = 0, folder: str = "") -> Outcome:
    """Execute a job in this process; an exception becomes part of the outcome. On a cluster's node, with a number of
    threads and in the folder that relative paths start from."""
    started = time.perf_counter()
    try:
        if folder:
            from ogkd.core.workers import share_cores

            os.chdir(folder)
            share_cores(threads)
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
    parts = []
    for spec, result in zip(job.specs, results, strict=True):
        what = {"base": " base", "new": " novel"}.get(spec.subsample, "")
        if job.protocol == "transfer" and spec.eval_only:
            what = f" on {result['dataset']}"
        parts.append(f"{result['accuracy']:.1f} %{what}")
    return ", ".join(parts)


class Report:
    """Reports jobs as they end; `failed` and `diverged` list those without a result as "job: cause"."""

    def __init__(self, todo: Sequence[Job], workers: int = 1) -> None:
        self.total, self.workers, self.succeeded = len(todo), workers, 0
        self.failed: list[str] = []
        self.diverged: list[str] = []
        self._left = {job for job in todo if job.waiting()}
        self._seconds: list[float] = []

    def add(self, outcome: Outcome) -> None:
        """Print the line of a job that has ended."""
        job, spent = outcome.job, "(was complete)"
        if job in self._left:
            self._left.remove(job)
            self._seconds.append(outcome.seconds)
            spent = f"in {duration(outcome.seconds)}"
        if outcome.error:
            (self.diverged if outcome.diverged else self.failed).append(f"{job}: {outcome.error}")
        else:
            self.succeeded += 1
        place = f"[{self.succeeded + len(self.failed) + len(self.diverged)}/{self.total}] {job}: "
        if outcome.error:
            if outcome.details:
                print(outcome.details, file=sys.stderr)
            report_error(place + outcome.error)
            return
        left = self.seconds_left()
        print(f"{place}{outcome.scores} {spent}" + (f", about {duration(left)} left" if left else ""), flush=True)

    def seconds_left(self) -> float:
        """Estimated time for the remaining jobs, from the mean of those done; 0 if there is nothing to go by."""
        if not self._left or not self._seconds:
            return 0.0
        return mean(self._seconds) * len(self._left) / min(self.workers, len(self._left))

    def conclude(self, diverged: bool = True) -> None:
        """Raise a UserError that counts the jobs without a result, with the first of each kind, if there are any.
        `diverged`: whether those that diverged count."""
        kinds = {"diverged": self.diverged if diverged else [], "failed": self.failed}
        parts = [f"{len(of)} of {self.total} jobs {kind}, the first: {of[0]}" for kind, of in kinds.items() if of]
        if parts:
            raise UserError(" and ".join(part.rstrip(".") for part in parts) + ".")


def duration(seconds: float) -> str:
    """A duration as text: 9 s, 6 min, 1 h 20 min."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
