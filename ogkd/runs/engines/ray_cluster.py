"""Executing jobs on a Ray cluster: each job is a task with cores, a share of a GPU and Ray's own retries."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from types import ModuleType

from ogkd.core import UserError, atomic_path, first_line
from ogkd.core.places import work_folder
from ogkd.runs.engines.options import Settings, needed
from ogkd.runs.engines.report import Outcome, Report, attempt
from ogkd.runs.protocols import Job

OBJECT_STORE_BYTES = 100 * 1024**2  # tasks pass a few kilobytes; by default Ray takes 30 % of the memory


def outcomes(todo: Sequence[Job], settings: Settings, report: Report) -> Iterator[Outcome]:
    """Outcomes in the order in which jobs end. Jobs of a process or node that dies are retried, on another node too.

    Raises:
        UserError: Ray is not installed, there is no cluster at the address, or no node has the resources for a run.
    """
    with cluster(settings) as ray:
        gpus = settings.gpus if settings.gpus is not None else min(1, ray.cluster_resources().get("GPU", 0))
        needs = {"CPU": settings.cpus} | ({"GPU": gpus} if gpus else {})
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        room = sum(int(min(has.get(what, 0) // count for what, count in needs.items())) for has in nodes)
        if not room:
            what = f"{settings.cpus} cores" + (f" and {gpus:g} GPUs" if gpus else "")
            raise UserError(f"No node of the Ray cluster has {what} for a run: lower cpus or gpus, or add a node.")
        report.workers = min(room, settings.jobs or room)
        task = ray.remote(num_cpus=settings.cpus, num_gpus=gpus, max_retries=settings.retries)(_execute)
        more = settings.cpus, str(work_folder()), bool(settings.further.get("bring_back"))
        references = ((task.remote(job, *more), job) for job in todo)
        running = dict(islice(references, settings.jobs))
        while running:
            for ended in ray.wait(list(running))[0]:
                job = running.pop(ended)
                try:
                    outcome, files = ray.get(ended)
                    write(files)
                except ray.exceptions.RayError as error:
                    cause = f"its process or node died, or was lost: {first_line(error)}."
                    outcome = Outcome(job, error=cause, details=str(error))
                running |= dict(islice(references, 1))
                yield outcome


@contextlib.contextmanager
def cluster(settings: Settings) -> Iterator[ModuleType]:
    """Ray, connected during the block to the cluster at the address, else to a temporary one on this machine."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # otherwise Ray sends usage statistics
    ray = needed("ray", "ray")
    address = settings.further.get("address") or os.environ.get("RAY_ADDRESS", "")
    own = {} if address else {"include_dashboard": True, "object_store_memory": OBJECT_STORE_BYTES}
    try:
        context = ray.init(address=address or "local", log_to_driver=False, logging_level="ERROR", **own)
    except (ConnectionError, ValueError, RuntimeError) as error:
        what = f"There is no Ray cluster at {address}" if address else "Ray could not be started"
        raise UserError(f"{what}: {first_line(error)}.") from error
    try:
        has = ray.cluster_resources()
        url = f"; dashboard: http://{context.dashboard_url}" if context.dashboard_url else ""
        nodes = f"nodes: {sum(node['Alive'] for node in ray.nodes())}"
        print(f"Ray; {nodes}, cores: {has.get('CPU', 0):g}, GPUs: {has.get('GPU', 0):g}{url}", flush=True)
        yield ray
    finally:
        ray.shutdown()


def _execute(job: Job, threads: int, folder: str, bring_back: bool) -> tuple[Outcome, dict[str, bytes]]:
    """On a node: execute a job and, on request, return the files of its run folders."""
    return attempt(job, threads, folder), files_of(job, folder) if bring_back else {}


def files_of(job: Job, folder: str | Path) -> dict[str, bytes]:
    """The files in a job's run folders, by path relative to `folder`; those that mark a run as complete come last."""
    files = [file for run in job.folders() for file in sorted(Path(folder, run).rglob("*")) if file.is_file()]
    files.sort(key=lambda file: file.name == "results.json")
    return {os.path.relpath(file, folder): file.read_bytes() for file in files if file.name != ".lock"}


def write(files: dict[str, bytes]) -> None:
    """Write the files of run folders to their original paths, in order."""
    for name, content in files.items():
        target = Path(work_folder(), name)
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(target) as temporary:
            temporary.write_bytes(content)
