"""Executing jobs on a Slurm cluster with submitit: job arrays in which each task executes one job."""

from __future__ import annotations

import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ogkd.core import UserError
from ogkd.core.places import work_folder
from ogkd.runs.engines.options import Settings, minutes, needed
from ogkd.runs.engines.report import Outcome, Report, attempt
from ogkd.runs.protocols import Job

if TYPE_CHECKING:
    from submitit import Job as Submitted

MOST_IN_ARRAY = 1000  # Slurm's default MaxArraySize is 1001
MOST_AT_ONCE = 256
SECONDS_BETWEEN_LOOKS = 1.0
KILLED = ("FAILED", "OUT_OF_MEMORY", "NODE_FAIL", "UNKNOWN")  # states of a task that was killed; it is queued again


class Task:
    """One job, as submitit pickles it."""

    def __init__(self, job: Job, threads: int) -> None:
        self.job, self.threads, self.folder = job, threads, str(work_folder())

    def __call__(self) -> Outcome:
        return attempt(self.job, self.threads, self.folder)

    def checkpoint(self) -> object:
        """Called by submitit at a time limit or preemption: queues the same job, which resumes."""
        self.job = self.job.with_rerun(False)
        return needed("slurm", "submitit").helpers.DelayedSubmission(self)


def outcomes(todo: Sequence[Job], settings: Settings, report: Report, cluster: str = "slurm") -> Iterator[Outcome]:
    """Outcomes, approximately in the order in which jobs end. `cluster` is submitit's name; "local" executes all jobs
    at once on this machine.

    Raises:
        UserError: submitit is not installed, this machine is not part of a Slurm cluster, or sbatch rejects the jobs.
    """
    report.workers = min(len(todo), settings.jobs or MOST_AT_ONCE)
    queued = submit(todo, settings, cluster)
    from submitit.core.utils import FailedJobError, UncompletedJobError

    retries = dict.fromkeys(queued.values(), settings.retries)
    try:
        while queued:
            for submitted in [one for one in queued if one.done()]:
                job = queued.pop(submitted)
                try:
                    outcome = submitted.result()
                except UncompletedJobError as error:
                    state, killed = submitted.state, not isinstance(error, FailedJobError)
                    if killed and retries[job] and state.upper().startswith(KILLED):
                        retries[job] -= 1
                        queued |= submit([job.with_rerun(False)], settings, cluster)
                        continue
                    ended = f"Slurm's job {submitted.job_id} ended without a result ({state.lower()})"
                    outcome = Outcome(job, error=f"{ended}, see {submitted.paths.stderr}")
                yield outcome
            time.sleep(SECONDS_BETWEEN_LOOKS if queued else 0)
    except KeyboardInterrupt:
        print(f"\nThe jobs stay in the queue: `scancel {_ids(queued)}` removes them.", file=sys.stderr)
        raise


def submit(todo: Sequence[Job], settings: Settings, cluster: str = "slurm") -> dict[Submitted, Job]:
    """Submit jobs as arrays. Returns each submitted job with the Job that it executes.

    Raises:
        UserError: as for `outcomes`.
    """
    submitit = needed("slurm", "submitit")
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    if cluster == "slurm" and shutil.which("srun") is None:
        raise UserError("--engine slurm needs srun, which is not on this machine: start it on a node that has it.")
    executor = submitit.AutoExecutor(_folder(settings), cluster=cluster, slurm_max_num_timeout=settings.retries)
    executor.update_parameters(**_parameters(settings))
    queued: dict[Submitted, Job] = {}
    for part in _arrays(todo):
        try:
            with executor.batch():
                submitted = [executor.submit(Task(job, settings.cpus)) for job in part]
        except (FailedJobError, FailedSubmissionError) as error:
            raise UserError(f"sbatch rejected the jobs: {str(error).strip().splitlines()[-1]}") from error
        queued |= dict(zip(submitted, part, strict=True))
    print(f"{len(queued)} jobs submitted ({_ids(queued)}); their logs are in {settings.logs}", flush=True)
    return queued


def preview(todo: Sequence[Job], settings: Settings) -> str:
    """The batch scripts that would be submitted, each with its tasks' commands as comments."""
    needed("slurm", "submitit")
    from submitit.slurm.slurm import _make_sbatch_string

    folder = _folder(settings)
    parameters = {name.removeprefix("slurm_"): value for name, value in _parameters(settings).items()}
    parameters |= {"time": parameters.pop("timeout_min"), "folder": folder}
    parameters["command"] = f"{shlex.quote(sys.executable)} -u -m submitit.core._submit {shlex.quote(folder)}"
    scripts = []
    for part in _arrays([job for job in todo if job.waiting()]):
        script = _make_sbatch_string(map_count=len(part) if len(part) > 1 else None, **parameters)
        tasks = [f"# task {number}: {spec.command()}" for number, job in enumerate(part) for spec in job.waiting()]
        scripts.append("\n".join([script.rstrip("\n"), "", *tasks]))
    return "\n\n".join(scripts)


def _parameters(settings: Settings) -> dict[str, Any]:
    """The settings as parameters of submitit's AutoExecutor. A job whose node dies is requeued."""
    further = {key.replace("_", "-"): value or True for key, value in settings.further.items() if key != "time"}
    given = {
        "timeout_min": minutes(settings.further.get("time", "24:00:00")),
        "slurm_job_name": "runs",
        "slurm_cpus_per_task": settings.cpus,
        "slurm_gpus_per_node": int(settings.gpus) if settings.gpus else None,
        "slurm_array_parallelism": settings.jobs or MOST_AT_ONCE,
        "slurm_setup": [f"cd {shlex.quote(str(work_folder()))}"],  # the folder that the task imports code from
        "slurm_additional_parameters": {"requeue": True, **further},
    }
    return {name: value for name, value in given.items() if value is not None}


def _folder(settings: Settings) -> str:
    """Where submitit writes: one folder per job, %j being its id."""
    return str(settings.logs.absolute() / "%j")


def _arrays(todo: Sequence[Job]) -> list[Sequence[Job]]:
    return [todo[first : first + MOST_IN_ARRAY] for first in range(0, len(todo), MOST_IN_ARRAY)]


def _ids(queued: dict[Submitted, Job]) -> str:
    return " ".join(dict.fromkeys(submitted.job_id.partition("_")[0] for submitted in queued))
