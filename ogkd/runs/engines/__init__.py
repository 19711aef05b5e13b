"""Engines that execute many runs: on this machine, on a Ray cluster, or through Slurm's queue."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING

from ogkd.core.errors import resumable
from ogkd.runs.engines.report import Report
from ogkd.runs.protocols import Job

if TYPE_CHECKING:
    from ogkd.runs.engines.options import Settings

# An engine is a module with outcomes(todo, settings, report) -> Iterator[Outcome] and, if it submits more than the
# commands themselves, preview(todo, settings) -> str.
ENGINES = {"local": "local", "ray": "ray_cluster", "slurm": "slurm"}


def go_through(todo: Sequence[Job], settings: Settings) -> Report:
    """Execute every job on the chosen engine and report each as it ends. A job that fails or diverges is listed in the
    report, and the rest continue. A cluster gets only the incomplete jobs.

    Raises:
        UserError: the engine's package is missing, or there is no such cluster.
    """
    if settings.engine != "local":
        complete = [job for job in todo if not job.waiting()]
        todo = [job for job in todo if job.waiting()]
        if complete:
            print(f"{len(complete)} of {len(complete) + len(todo)} jobs are complete.", flush=True)
    report = Report(todo, settings.jobs or 1)
    if todo:
        with resumable():
            for outcome in _module(settings).outcomes(todo, settings, report):
                report.add(outcome)
    return report


def dry_run(todo: Sequence[Job], settings: Settings) -> None:
    """Print what `go_through` would start: the batch script, if the engine submits one, else the runs' commands. Print
    the number of runs on stderr."""
    specs = dict.fromkeys(spec for job in todo for spec in job.specs)
    waiting = dict.fromkeys(spec for job in todo for spec in job.waiting())
    preview = getattr(_module(settings), "preview", None)
    if waiting:
        print(preview(todo, settings) if preview else "\n".join(spec.command() for spec in waiting), flush=True)
    print(f"{len(waiting)} of {len(specs)} runs to do, {len(specs) - len(waiting)} complete", file=sys.stderr)


def _module(settings: Settings) -> ModuleType:
    return importlib.import_module(f".{ENGINES[settings.engine]}", __name__)
