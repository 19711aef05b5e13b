"""Options for executing many runs: the engine and the resources of each run."""

from __future__ import annotations

import argparse
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path

from ogkd.core import UserError
from ogkd.runs.engines import ENGINES
from ogkd.runs.protocols import integer

RETRIES = 3
_OF_ENGINE = {
    "address": ("ray",),
    "bring_back": ("ray",),
    "cpus": ("ray", "slurm"),
    "gpus": ("ray", "slurm"),
    "retries": ("ray", "slurm"),
    "partition": ("slurm",),
    "time": ("slurm",),
    "mem": ("slurm",),
    "sbatch": ("slurm",),
}


@dataclass(frozen=True)
class Settings:
    """How jobs are executed. None and "" leave a setting to the engine."""

    engine: str = "local"
    jobs: int | None = None  # in parallel; None: one on the local engine, as many as fit on a cluster
    backbone: str = ""  # whose weights each run loads
    logs: Path = Path("output/logs")  # for the engine's own logs
    cpus: int = 1  # cores and threads per run
    gpus: float | None = None  # per run; may be a fraction of one
    retries: int = RETRIES  # for a job whose node or process dies
    address: str = ""  # of a Ray cluster; "": start one on this machine
    bring_back: bool = False  # copy run folders from nodes that do not share OUTPUT
    partition: str = ""
    minutes: int = 24 * 60  # time limit of a Slurm job
    memory: str = ""  # as sbatch takes it
    sbatch: tuple[tuple[str, str], ...] = ()  # further options of sbatch


def add_options(parser: argparse.ArgumentParser, jobs: str = "default: 1") -> None:
    """Add --jobs, --dry-run, --engine and the engines' options to a parser. `jobs` describes the default of --jobs."""
    parser.add_argument("--jobs", help=f"parallel runs ({jobs}; on Ray and Slurm as many as fit)")
    parser.add_argument("--dry-run", action="store_true", help="print what would be started, and start nothing")
    group = parser.add_argument_group(
        "engines", "where runs are executed; docs/benchmark.md says what a cluster's machines must share"
    )
    group.add_argument("--engine", choices=ENGINES, default="local", help="default: local, this machine")
    group.add_argument("--address", help="ray: cluster to join, such as HOST:6379 or auto (default: start one here)")
    group.add_argument("--bring-back", action="store_true", help="ray: OUTPUT is not shared; copy run folders back")
    group.add_argument("--cpus", help="ray, slurm: cores and threads per run (default: 1)")
    group.add_argument(
        "--gpus", help="ray, slurm: GPUs per run, on Ray also a fraction such as 0.25 (Ray's default: 1 if any)"
    )
    group.add_argument(
        "--retries", help=f"ray, slurm: retries for a run whose node or process died (default: {RETRIES})"
    )
    group.add_argument("--partition", help="slurm: partition")
    group.add_argument("--time", help="slurm: time limit in minutes or as [DAYS-]HH:MM:SS (default: 24:00:00)")
    group.add_argument("--mem", help="slurm: memory, such as 16G")
    group.add_argument(
        "--sbatch", action="append", metavar="KEY=VALUE", help="slurm: another option of sbatch; may be repeated"
    )


def settings_of(args: argparse.Namespace, workers: int, backbone: str, output: Path) -> Settings:
    """The settings from the command line. `workers`: parallel runs on the local engine.

    Raises:
        UserError: a value is invalid, or an option belongs to another engine.
    """
    for name, engines in _OF_ENGINE.items():
        if getattr(args, name) not in (None, False) and args.engine not in engines:
            option = "--" + name.replace("_", "-")
            raise UserError(f"{option} is an option of --engine {' or '.join(engines)}, not of {args.engine}.")
    jobs = workers if args.engine == "local" else integer(args.jobs, "--jobs", 1) if args.jobs else None
    gpus = None if args.gpus is None else _share(args.gpus)
    if args.engine == "slurm" and gpus is not None and not gpus.is_integer():
        raise UserError(f"--gpus must be a whole number on Slurm, not {args.gpus}: it cannot share a GPU.")
    return Settings(
        engine=args.engine,
        jobs=jobs,
        backbone=backbone,
        logs=output / "logs" / args.engine,
        cpus=integer(args.cpus, "--cpus", 1) if args.cpus else 1,
        gpus=gpus,
        retries=integer(args.retries, "--retries", 0) if args.retries else RETRIES,
        address=args.address or os.environ.get("RAY_ADDRESS", ""),
        bring_back=args.bring_back,
        partition=args.partition or "",
        minutes=minutes(args.time) if args.time else Settings.minutes,
        memory=args.mem or "",
        sbatch=tuple(_pair(text) for text in args.sbatch or ()),
    )


def minutes(text: str) -> int:
    """A time limit in minutes from Slurm's formats: MINUTES, MINUTES:SECONDS, HH:MM:SS, DAYS-HH, DAYS-HH:MM and
    DAYS-HH:MM:SS. Seconds are rounded up.

    Raises:
        UserError: it has none of these formats, or is zero.
    """
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if found is not None:
        days, *parts = found.groups()
        numbers = [int(part) for part in parts if part is not None]
        if days is not None:  # hours come first
            hours, mins, seconds = [*numbers, 0, 0][:3]
        elif len(numbers) == 3:
            hours, mins, seconds = numbers
        else:  # minutes come first
            hours, (mins, seconds) = 0, [*numbers, 0][:2]
        total = (int(days or 0) * 24 + hours) * 60 + mins + (seconds > 0) * -(-seconds // 60)
        if total > 0:
            return total
    raise UserError(f"--time must be minutes or [DAYS-]HH:MM:SS, not '{text}'.")


def _share(text: str) -> float:
    """A number of GPUs: a fraction below 1, or a whole number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isfinite(value) and value >= 0 and (value <= 1 or value.is_integer()):
        return value
    raise UserError(f"--gpus must be a fraction from 0 to 1 or a whole number, not '{text}'.")


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.removeprefix("--").partition("=")
    if not key or not equals:
        raise UserError(f"--sbatch takes KEY=VALUE, such as account=lab, not '{text}'.")
    return key, value
