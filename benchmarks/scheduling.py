#!/usr/bin/env python3
"""The overhead of engines: the time until the first run of a long plan starts, and the time per run.

    python -m benchmarks.scheduling [--engines local ray slurm] [--runs 1000] [--left 10]

A plan of few-shot runs, all but a few of them complete, is written to a temporary folder; a complete run is just a
results.json. "until the first run" is the time from the start of `reproduce.py few_shot --engine ...`, with imports and
planning, until one of the remaining runs starts: its process, or on the local engine its folder, exists. "per run"
is the time in which the engine distributes the plan's jobs, finds that each is complete and collects the outcomes,
without starting processes for runs. For Slurm, it is the time to submit the jobs, if this machine has Slurm.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from benchmarks import machine
from dassl.utils import read_json, write_json
from phantom.dataset import write_dataset
from runs.engines import ENGINES, local, ray_cluster, slurm
from runs.engines.options import Settings
from runs.plan import plan
from runs.protocols import Job, Places
from runs.spec import ROOT
from tests.support.jobs import processes_of

TARGETS = {"until the first run, s": 5.0, "per run, ms": 50.0}
METHOD, LONGEST = "ZeroShot", 300.0


class Complete(Job):
    """A job whose results exist already, for the local engine, which calls the job itself."""

    def __call__(self) -> list[dict]:
        return [read_json(folder / "results.json") for folder in self.folders()]


def write_plan(folder: Path, runs: int, left: int) -> list[Job]:
    """The `runs` jobs of a plan, one per seed, all complete except the last `left`."""
    places = Places(data=folder / "data", output=folder / "output", backbone="PhantomCLIP")
    jobs = plan("few_shot", ["phantom"], [METHOD], range(1, runs + 1), [1], places)
    found = {"accuracy": 50.0, "dataset": "Phantom"}
    for job in jobs[: runs - left]:
        (run,) = job.folders()
        run.mkdir(parents=True)
        write_json(found, run / "results.json")
    return jobs


def until_first_run(engine: str, folder: Path, runs: int, left: Sequence[Job]) -> float:
    """Seconds from the start of the program until the first of the remaining runs starts."""
    words = [sys.executable, "scripts/reproduce.py", "few_shot", "--datasets", "phantom", "--methods", METHOD]
    words += ["--shots", "1", "--engine", engine, "--seeds", *map(str, range(1, runs + 1))]
    places = {"DATA": str(folder / "data"), "OUTPUT": str(folder / "output"), "BACKBONE": "PhantomCLIP"}
    said = folder / f"{engine}.txt"
    with said.open("w") as log:
        start = time.perf_counter()
        program = subprocess.Popen(words, cwd=ROOT, env={**os.environ, **places}, stdout=log, stderr=log)
        while not any(processes_of(job) or job.folders()[0].is_dir() for job in left):
            time.sleep(0.01)
            if program.poll() is not None or time.perf_counter() - start > LONGEST:
                program.kill()
                raise SystemExit(f"No run started: {said.read_text()}")
        seconds = time.perf_counter() - start
        program.send_signal(signal.SIGINT)
        program.wait()
    if queued := re.search(r"jobs submitted \(([\d ]+)\)", said.read_text()):
        subprocess.run(["scancel", *queued[1].split()], check=True)
    while any(map(processes_of, left)):
        time.sleep(0.1)
    for job in left:
        shutil.rmtree(job.folders()[0], ignore_errors=True)
    return seconds


def per_run(engine: str, folder: Path, jobs: Sequence[Job]) -> float | None:
    """Seconds per job to distribute all jobs, which are complete; None if this machine lacks the engine."""
    settings = Settings(engine=engine, logs=folder / "logs", jobs=2 if engine == "local" else None)
    if engine == "ray":
        with ray_cluster.cluster(settings) as ray:
            list(ray_cluster.outcomes(ray, jobs[:8], settings))  # its workers start
            start = time.perf_counter()
            list(ray_cluster.outcomes(ray, jobs, settings))
            return (time.perf_counter() - start) / len(jobs)
    if engine == "slurm":
        if shutil.which("sbatch") is None:
            return None
        start = time.perf_counter()
        queued = slurm.submit(jobs, settings)
        seconds = time.perf_counter() - start
        subprocess.run(["scancel", *{one.job_id.partition("_")[0] for one in queued}], check=True)
        return seconds / len(jobs)
    start = time.perf_counter()
    local.go_through([Complete(job.protocol, job.specs) for job in jobs], settings.jobs)
    return (time.perf_counter() - start) / len(jobs)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=tuple(ENGINES))
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--left", type=int, default=10, help="incomplete runs in the plan")
    args = parser.parse_args(argv)
    rows = []
    with tempfile.TemporaryDirectory(prefix="ogkd-benchmark-") as made:
        folder = Path(made)
        write_dataset(folder / "data" / "Phantom", counts={"train": 2, "val": 1, "test": 1})
        jobs = write_plan(folder, args.runs, args.left)
        complete = jobs[: args.runs - args.left]
        for engine in args.engines:
            seconds = per_run(engine, folder, complete)
            first = until_first_run(engine, folder, args.runs, jobs[-args.left :])
            rows.append([engine, first, None if seconds is None else 1000 * seconds])
    print(f"\n{args.runs} runs, {len(complete)} of them complete; {machine.name_of()}\n")
    print(tabulate(rows, ["engine", *TARGETS], floatfmt=".1f", missingval="not available here"))
    print("\nat most " + ", ".join(f"{limit:g} {name}" for name, limit in TARGETS.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
