#!/usr/bin/env python3
"""The overhead of engines: the time until the first run of a long plan starts, and the time per run.

    python -m benchmarks.scheduling [--engines local ray slurm] [--runs 1000] [--left 10]

A plan of few-shot runs of which all but a few are complete is written to a temporary folder, where a complete run is a
results.json. "until the first run" is the time from the start of `reproduce.py few_shot --engine ...`, imports and
planning included, until a run that is left begins: its process, or on the local engine its folder, is there. "per run"
is the time in which the engine hands out the plan's jobs, finds each complete where it was sent, and gathers the
outcomes; no process of a run is started. For Slurm it is the time to submit them, where this machine has a Slurm. Ray
has two rows: a cluster that is there already and is joined, and one that the program starts.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tabulate import tabulate

from benchmarks import machine
from ogkd.core import read_json, write_json
from ogkd.core.places import HOME
from ogkd.phantom.dataset import write_dataset
from ogkd.runs.engines import local, ray_cluster, slurm
from ogkd.runs.engines.options import Settings
from ogkd.runs.plan import plan
from ogkd.runs.protocols import Job, Places
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


def until_first_run(engine: str, folder: Path, runs: int, left: Sequence[Job], *options: str) -> float:
    """Seconds from the start of the program until the first of the remaining runs starts."""
    words = [sys.executable, "scripts/reproduce.py", "few_shot", "--datasets", "phantom", "--methods", METHOD, *options]
    words += ["--shots", "1", "--engine", engine, "--seeds", *map(str, range(1, runs + 1))]
    places = {"DATA": str(folder / "data"), "OUTPUT": str(folder / "output"), "BACKBONE": "PhantomCLIP"}
    said = folder / f"{engine}.txt"
    with said.open("w") as log:
        start = time.perf_counter()
        program = subprocess.Popen(words, cwd=HOME, env={**os.environ, **places}, stdout=log, stderr=log)
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


def ray_rows(folder: Path, runs: int, complete: Sequence[Job], left: Sequence[Job]) -> Iterator[list[object]]:
    settings = Settings(engine="ray")
    with ray_cluster.cluster(settings) as ray:
        list(ray_cluster.outcomes(ray, complete[:8], settings))  # its workers start
        seconds = timed(lambda: list(ray_cluster.outcomes(ray, complete, settings)))
        address = ray.get_runtime_context().gcs_address
        yield [
            "ray, joined",
            until_first_run("ray", folder, runs, left, "--address", address),
            per_run(seconds, complete),
        ]
    yield ["ray, started", until_first_run("ray", folder, runs, left), per_run(seconds, complete)]


def slurm_rows(folder: Path, runs: int, complete: Sequence[Job], left: Sequence[Job]) -> Iterator[list[object]]:
    if shutil.which("sbatch") is None:
        yield ["slurm", None, None]
        return
    queued: list = []
    seconds = timed(lambda: queued.extend(slurm.submit(complete, Settings(engine="slurm", logs=folder / "logs"))))
    subprocess.run(["scancel", *{one.job_id.partition("_")[0] for one in queued}], check=True)
    yield ["slurm", until_first_run("slurm", folder, runs, left), per_run(seconds, complete)]


def local_rows(folder: Path, runs: int, complete: Sequence[Job], left: Sequence[Job]) -> Iterator[list[object]]:
    jobs = [Complete(job.protocol, job.specs) for job in complete]
    seconds = timed(lambda: local.go_through(jobs, 2))
    yield ["local", until_first_run("local", folder, runs, left), per_run(seconds, complete)]


ROWS = {"local": local_rows, "ray": ray_rows, "slurm": slurm_rows}


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    with contextlib.redirect_stdout(None):
        work()
    return time.perf_counter() - start


def per_run(seconds: float, jobs: Sequence[Job]) -> float:
    return 1000 * seconds / len(jobs)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", nargs="+", choices=ROWS, default=tuple(ROWS))
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--left", type=int, default=10, help="incomplete runs in the plan")
    args = parser.parse_args(argv)
    rows: list[list[object]] = []
    with tempfile.TemporaryDirectory(prefix="ogkd-benchmark-") as made:
        folder = Path(made)
        write_dataset(folder / "data" / "Phantom", counts={"train": 2, "val": 1, "test": 1})
        jobs = write_plan(folder, args.runs, args.left)
        complete = jobs[: args.runs - args.left]
        for engine in args.engines:
            rows += ROWS[engine](folder, args.runs, complete, jobs[-args.left :])
    busy = machine.load()
    load = f", load {busy:.1f} on {os.cpu_count()} cores" if busy is not None else ""
    print(f"\n{args.runs} runs, {len(complete)} of them complete; {machine.name_of()}{load}\n")
    print(tabulate(rows, ["engine", *TARGETS], floatfmt=".1f", missingval="no such engine here"))
    print("\nat most " + ", ".join(f"{limit:g} {name}" for name, limit in TARGETS.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
