"""Going through jobs on a Ray cluster: each job is a task with cores, a share of a GPU and retries."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from dassl.utils import UserError, atomic_path
from runs.protocols import Job
from runs.spec import ROOT

from .command import RESULTS, do
from .options import Settings
from .report import Outcome, Report

SECONDS_BETWEEN_LOOKS = 1.0
OBJECT_STORE_BYTES = 100 * 1024**2  # tasks pass a few kilobytes; Ray would take 30 % of the memory
LOCK = ".lock"


def start(todo: Sequence[Job], settings: Settings) -> Report:
    """Do the jobs that are not complete on the cluster at the given address, or on one that is started here and ends
    with them.

    Raises:
        UserError: Ray is not installed, there is no cluster at the address, or none of its nodes has what a run asks
            for.
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
    """Ray, joined to a cluster during the block."""
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
    """How many runs the cluster has room for at once.

    Raises:
        UserError: for none.
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
    """Outcomes in the order in which jobs end. The jobs of a node that dies begin again on others."""
    task = ray.remote(
        num_cpus=settings.cpus, num_gpus=_gpus(ray, settings), max_retries=settings.retries, retry_exceptions=False
    )(_do)
    # As many again as there is room for wait in Ray's queue, so that no place is idle while a job is on its way.
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
        return Outcome(job, error=f"its node or its process died, also at {settings.retries} retries: {cause}.")
    write(files)
    return outcome


def files_of(job: Job) -> dict[str, bytes]:
    """What a job's run folders hold, by path from the repository's folder."""
    files = (file for folder in job.folders() for file in sorted(Path(ROOT, folder).rglob("*")) if file.is_file())
    return {os.path.relpath(file, ROOT): file.read_bytes() for file in files if file.name != LOCK}


def write(files: dict[str, bytes]) -> None:
    """Put the files of run folders where they are from; those that make a run complete come last."""
    for name in sorted(files, key=lambda name: Path(name).name == RESULTS):
        target = Path(ROOT, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(target) as temporary:
            temporary.write_bytes(files[name])


def _do(job: Job, threads: int, retries: int, bring_back: bool) -> tuple[Outcome, dict[str, bytes]]:
    """What runs on a node: the job's commands, and where they are asked for, the files of its run folders."""
    outcome = do(job, threads, retries)
    return outcome, files_of(job) if bring_back else {}


def _gpus(ray: ModuleType, settings: Settings) -> float:
    if settings.gpus is not None:
        return settings.gpus
    return 1 if ray.cluster_resources().get("GPU") else 0


def _imported() -> ModuleType:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray reports to its makers otherwise
    try:
        import ray
        import ray.exceptions
    except ImportError:
        raise UserError("--engine ray needs Ray: pip install -r requirements-cluster.txt") from None
    return ray
