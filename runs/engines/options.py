"""The options that say how many runs are done: the engine, and what each run gets of it."""

from __future__ import annotations

import argparse
import math
import os
import re
from dataclasses import dataclass
from pathlib import Path

from dassl.utils import UserError
from runs.protocols import integer

from . import ENGINES

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
    """How jobs are done. None and "" leave a value to the engine."""

    engine: str = "local"
    jobs: int | None = None  # side by side; None: as many as the engine has room for, on the local engine one
    backbone: str = ""  # whose weights each run loads
    logs: Path = Path("output/logs")  # where an engine writes its own
    cpus: int = 1  # cores, and threads, of a run
    gpus: float | None = None  # a share of one, or a number of them
    retries: int = RETRIES  # of a job whose node or process dies
    address: str = ""  # of a Ray cluster; "": one is started here
    bring_back: bool = False  # run folders from nodes that do not share OUTPUT
    partition: str = ""
    minutes: int = 24 * 60  # after which Slurm ends a job
    memory: str = ""  # as sbatch takes it
    sbatch: tuple[tuple[str, str], ...] = ()  # further options of sbatch


def add_options(parser: argparse.ArgumentParser, jobs: str = "default: 1") -> None:
    """Add --jobs, --engine and what the engines take to a program's options. `jobs` says the default of --jobs."""
    parser.add_argument("--jobs", help=f"runs side by side ({jobs}; on Ray and Slurm as many as there is room for)")
    parser.add_argument("--dry-run", action="store_true", help="print what would be started, and start nothing")
    group = parser.add_argument_group(
        "engines", "where runs are done; docs/benchmark.md says what a cluster's machines must share"
    )
    group.add_argument("--engine", choices=ENGINES, default="local", help="default: local, this machine alone")
    group.add_argument("--address", help="ray: cluster to join, as in HOST:6379 or auto (default: one is started here)")
    group.add_argument("--bring-back", action="store_true", help="ray: OUTPUT is not shared; fetch the run folders")
    group.add_argument("--cpus", help="ray, slurm: cores of a run, and its threads (default: 1)")
    group.add_argument(
        "--gpus", help="ray, slurm: GPUs of a run, on Ray also a share such as 0.25 (default: ray 1 where there is one)"
    )
    group.add_argument(
        "--retries", help=f"ray, slurm: how often a run is begun again whose node or process died (default: {RETRIES})"
    )
    group.add_argument("--partition", help="slurm: partition")
    group.add_argument("--time", help="slurm: limit, in minutes or as [DAYS-]HH:MM:SS (default: 24:00:00)")
    group.add_argument("--mem", help="slurm: memory, as in 16G")
    group.add_argument(
        "--sbatch", action="append", metavar="KEY=VALUE", help="slurm: a further option of sbatch; may be repeated"
    )


def settings_of(args: argparse.Namespace, workers: int, backbone: str, output: Path) -> Settings:
    """The settings that the options ask for. `workers`: runs side by side on the local engine.

    Raises:
        UserError: a value that cannot be, or an option of another engine.
    """
    for name, engines in _OF_ENGINE.items():
        if getattr(args, name) not in (None, False) and args.engine not in engines:
            option = "--" + name.replace("_", "-")
            raise UserError(f"{option} is an option of --engine {' or '.join(engines)}, not of {args.engine}.")
    jobs = workers if args.engine == "local" else integer(args.jobs, "--jobs", 1) if args.jobs else None
    gpus = None if args.gpus is None else _share(args.gpus)
    if args.engine == "slurm" and gpus is not None and not gpus.is_integer():
        raise UserError(f"--gpus must be a whole number on Slurm, not {args.gpus}: it gives no shares of a GPU.")
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
    """A time limit in minutes, from what Slurm takes: MINUTES, MINUTES:SECONDS, HH:MM:SS, DAYS-HH, DAYS-HH:MM and
    DAYS-HH:MM:SS. Seconds round up.

    Raises:
        UserError: it is none of these, or nothing.
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
    """A number of GPUs: a share below 1, or a whole number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isfinite(value) and value >= 0 and (value <= 1 or value.is_integer()):
        return value
    raise UserError(f"--gpus must be a share from 0 to 1 or a whole number, not '{text}'.")


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.removeprefix("--").partition("=")
    if not key or not equals:
        raise UserError(f"--sbatch takes KEY=VALUE, as in account=lab, not '{text}'.")
    return key, value
