"""Executing jobs on a Ray cluster: each job is a task with cores, a fraction of a GPU and retries."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from ogkd.core import UserError, atomic_path
from ogkd.core.places import work_folder
from ogkd.runs.engines.command import RESULTS, do
from ogkd.runs.engines.options import Settings
from ogkd.runs.engines.report import Outcome, Report
from ogkd.runs.protocols import Job

SECONDS_BETWEEN_LOOKS = 1.0
OBJECT_STORE_BYTES = 100 * 1024**2  # tasks pass a few kilobytes; by default Ray takes 30 % of the memory
LOCK = ".lock"


def start(todo: Sequence[Job], settings: Settings) -> Report:
    """Execute the incomplete jobs on the cluster at the given address, or on a temporary one on this machine.

    Raises:
        UserError: Ray is not installed, there is no cluster at the address, or no node has the resources for a run.
    """
    waiting = [job for job in todo if job.waiting()]
    report = Report(waiting)
    if len(waiting) < len(todo):
        print(f"{len(todo) - len(waiting)} of {len(todo)} jobs are complete.", flush=True)
    if waiting:
        with cluster(settings) as ray:
            report.workers = room(ray, settings)
            for outcome in outcomes(ray, waiting, settings):
                report.add(outcome)
    return report


@contextlib.contextmanager
def cluster(settings: Settings) -> Iterator[ModuleType]:
    """Ray, connected to a cluster during the block."""
    ray = _imported()
    own = {"include_dashboard": True, "object_store_memory": OBJECT_STORE_BYTES}
    try:
        context = ray.init(
            address=settings.address or "local",
            log_to_driver=False,
            logging_level="ERROR",
            **({} if settings.address else own),
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        what = f"There is no Ray cluster at {settings.address}" if settings.address else "Ray could not be started"
        raise UserError(f"{what}: {str(error).strip().splitlines()[0]}") from error
    try:
        has = ray.cluster_resources()
        url = f"; dashboard: http://{context.dashboard_url}" if context.dashboard_url else ""
        nodes = f"nodes: {sum(node['Alive'] for node in ray.nodes())}"
        print(f"Ray; {nodes}, cores: {has.get('CPU', 0):g}, GPUs: {has.get('GPU', 0):g}{url}", flush=True)
        yield ray
    finally:
        ray.shutdown()


def room(ray: ModuleType, settings: Settings) -> int:
    """How many runs fit on the cluster at once.

    Raises:
        UserError: not even one fits.
    """
    gpus = _gpus(ray, settings)
    places = 0
    for node in ray.nodes():
        has = node["Resources"] if node["Alive"] else {}
        fit = has.get("CPU", 0) // settings.cpus
        places += int(min(fit, has.get("GPU", 0) // gpus) if gpus else fit)
    if not places:
        needs = f"{settings.cpus} cores" + (f" and {gpus:g} GPUs" if gpus else "")
        raise UserError(f"No node of the Ray cluster has {needs} for a run: lower --cpus or --gpus, or add a node.")
    return min(places, settings.jobs or places)


def outcomes(ray: ModuleType, todo: Sequence[Job], settings: Settings) -> Iterator[Outcome]:
    """Outcomes in the order in which jobs end. Jobs of a node that dies are retried on other nodes."""
    task = ray.remote(
        num_cpus=settings.cpus, num_gpus=_gpus(ray, settings), max_retries=settings.retries, retry_exceptions=False
    )(_do)
    # Twice as many jobs as fit are submitted, so that no slot is idle while the next job is sent.
    most = settings.jobs or 2 * room(ray, settings)
    waiting = deque(todo)
    running: dict[Any, Job] = {}
    while waiting or running:
        while waiting and len(running) < most:
            job = waiting.popleft()
            running[task.remote(job, settings.cpus, settings.retries, settings.bring_back)] = job
        ended, _ = ray.wait(list(running), num_returns=1, timeout=SECONDS_BETWEEN_LOOKS)
        for reference in ended:
            yield _outcome(ray, running.pop(reference), reference, settings)


def _outcome(ray: ModuleType, job: Job, reference: object, settings: Settings) -> Outcome:
    try:
        outcome, files = ray.get(reference)
    except ray.exceptions.RayTaskError as error:  # ours
        return Outcome(job, error=f"{type(error.cause).__name__}: {error.cause}", details=str(error))
    except ray.exceptions.RayError as error:
        cause = str(error).strip().splitlines()[0].rstrip(".")
        return Outcome(job, error=f"its node or its process died, even after {settings.retries} retries: {cause}.")
    write(files)
    return outcome


def files_of(job: Job) -> dict[str, bytes]:
    """The files in a job's run folders, by path relative to the repository's folder."""
    files = (
        file for folder in job.folders() for file in sorted(Path(work_folder(), folder).rglob("*")) if file.is_file()
    )
    return {os.path.relpath(file, work_folder()): file.read_bytes() for file in files if file.name != LOCK}


def write(files: dict[str, bytes]) -> None:
    """Write the files of run folders to their original paths; those that mark a run as complete come last."""
    for name in sorted(files, key=lambda name: Path(name).name == RESULTS):
        target = Path(work_folder(), name)
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(target) as temporary:
            temporary.write_bytes(files[name])


def _do(job: Job, threads: int, retries: int, bring_back: bool) -> tuple[Outcome, dict[str, bytes]]:
    """Runs on a node: executes the job's commands and, on request, returns the files of its run folders."""
    outcome = do(job, threads, retries)
    return outcome, files_of(job) if bring_back else {}


def _gpus(ray: ModuleType, settings: Settings) -> float:
    if settings.gpus is not None:
        return settings.gpus
    return 1 if ray.cluster_resources().get("GPU") else 0


def _imported() -> ModuleType:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # otherwise Ray sends usage statistics
    try:
        import ray
        import ray.exceptions
    except ImportError:
        raise UserError("--engine ray needs Ray: pip install -r requirements-cluster.txt") from None
    return ray
