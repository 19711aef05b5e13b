"""Executing jobs on a Slurm cluster with submitit: job arrays in which each task executes one job."""

from __future__ import annotations

import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ogkd.core import UserError
from ogkd.core.places import work_folder
from ogkd.runs.engines.command import do
from ogkd.runs.engines.options import Settings
from ogkd.runs.engines.report import Outcome, Report
from ogkd.runs.protocols import Job

if TYPE_CHECKING:
    from submitit import Job as SubmittedJob

MOST_IN_ARRAY = 1000  # Slurm's default MaxArraySize is 1001
MOST_AT_ONCE = 256
SECONDS_BETWEEN_LOOKS = 1.0


class Task:
    """One job, as submitit pickles it."""

    def __init__(self, job: Job, threads: int, retries: int) -> None:
        self.job, self.threads, self.retries = job, threads, retries

    def __call__(self) -> Outcome:
        return do(self.job, self.threads, self.retries)

    def checkpoint(self) -> object:
        """Called by submitit at a time limit or preemption: resubmits the same job, which resumes."""
        import submitit

        return submitit.helpers.DelayedSubmission(Task(self.job.with_rerun(False), self.threads, self.retries))


def start(todo: Sequence[Job], settings: Settings, cluster: str = "slurm") -> Report:
    """Submit the incomplete jobs and wait for them. `cluster` is submitit's name of the cluster; "local" executes all
    jobs at once on this machine.

    Raises:
        UserError: submitit is not installed, this machine is not part of a Slurm cluster, or sbatch rejects the jobs.
    """
    waiting = [job for job in todo if job.waiting()]
    if len(waiting) < len(todo):
        print(f"{len(todo) - len(waiting)} of {len(todo)} jobs are complete.", flush=True)
    report = Report(waiting, min(len(waiting), settings.jobs or MOST_AT_ONCE) or 1)
    if waiting:
        for outcome in outcomes(waiting, settings, cluster):
            report.add(outcome)
    return report


def preview(todo: Sequence[Job], settings: Settings) -> str:
    """The batch scripts that would be submitted, each with its tasks' commands as comments."""
    _imported()
    from submitit.slurm.slurm import _make_sbatch_string

    command = f"{shlex.quote(sys.executable)} -u -m submitit.core._submit {shlex.quote(_folder(settings))}"
    scripts = []
    for part in _arrays([job for job in todo if job.waiting()]):
        script = _make_sbatch_string(
            command=command,
            folder=_folder(settings),
            map_count=len(part) if len(part) > 1 else None,
            **{name.removeprefix("slurm_"): value for name, value in _parameters(settings).items()},
        )
        tasks = [f"# task {number}: {spec.command()}" for number, job in enumerate(part) for spec in job.waiting()]
        scripts.append("\n".join([script.rstrip("\n"), "", *tasks]))
    return "\n\n".join(scripts)


def submit(todo: Sequence[Job], settings: Settings, cluster: str = "slurm") -> dict[SubmittedJob, Job]:
    """Submit jobs as arrays. Returns each submitted job with the Job that it executes.

    Raises:
        UserError: as for `start`.
    """
    submitit = _imported()
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    if cluster == "slurm" and shutil.which("srun") is None:
        raise UserError(
            "--engine slurm needs srun, which is not on this machine: start it on a node that submits jobs."
        )
    more = {"slurm_max_num_timeout": settings.retries} if cluster == "slurm" else {}
    executor = submitit.AutoExecutor(_folder(settings), cluster=cluster, **more)
    executor.update_parameters(**(_parameters(settings) if cluster == "slurm" else {"timeout_min": settings.minutes}))
    queued: dict[SubmittedJob, Job] = {}
    for part in _arrays(todo):
        try:
            with executor.batch():
                submitted = [executor.submit(Task(job, settings.cpus, settings.retries)) for job in part]
        except (FailedJobError, FailedSubmissionError) as error:
            raise UserError(f"sbatch rejected the jobs: {str(error).strip().splitlines()[-1]}") from error
        queued |= dict(zip(submitted, part, strict=True))
    return queued


def outcomes(todo: Sequence[Job], settings: Settings, cluster: str = "slurm") -> Iterator[Outcome]:
    """Outcomes, approximately in the order in which jobs end."""
    queued = submit(todo, settings, cluster)
    ids = " ".join(dict.fromkeys(job.job_id.partition("_")[0] for job in queued))
    print(f"{len(queued)} jobs submitted ({ids}); their logs are in {settings.logs}", flush=True)
    try:
        while queued:
            for submitted in [one for one in queued if one.done()]:
                yield _outcome(queued.pop(submitted), submitted)
            time.sleep(SECONDS_BETWEEN_LOOKS if queued else 0)
    except KeyboardInterrupt:
        print(f"\nThe jobs stay in the queue: `scancel {ids}` removes them.", file=sys.stderr)
        raise


def _outcome(job: Job, submitted: SubmittedJob) -> Outcome:
    from submitit.core.utils import FailedJobError, UncompletedJobError

    where = f"see {submitted.paths.stderr}"
    try:
        return submitted.result()
    except FailedJobError as error:
        return Outcome(job, error=f"its task failed, {where}", details=str(error))
    except UncompletedJobError:
        ended = f"Slurm's job {submitted.job_id} ended without a result ({submitted.state.lower()})"
        return Outcome(job, error=f"{ended}, {where}")


def _parameters(settings: Settings) -> dict[str, Any]:
    """The settings as parameters of submitit's AutoExecutor. A job whose node dies is requeued."""
    further = {key.replace("_", "-"): value or True for key, value in settings.sbatch}
    given = {
        "slurm_job_name": "runs",
        "slurm_time": settings.minutes,
        "slurm_cpus_per_task": settings.cpus,
        "slurm_gpus_per_node": int(settings.gpus) if settings.gpus else None,
        "slurm_partition": settings.partition or None,
        "slurm_mem": settings.memory or None,
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


def _imported() -> ModuleType:
    try:
        import submitit
    except ImportError:
        raise UserError("--engine slurm needs submitit: pip install -r requirements-cluster.txt") from None
    return submitit
