"""The engine and the resources of each run, from the command line."""

from __future__ import annotations

import argparse
import importlib
import math
import os
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from ogkd.core import UserError
from ogkd.core.places import install_command
from ogkd.core.schema import Rule, number
from ogkd.runs.engines import ENGINES
from ogkd.runs.protocols import integer
from ogkd.runs.typed import typed

# The options of each engine. Slurm takes any other as an option of sbatch, such as partition, mem or account.
OPTIONS: dict[str, tuple[str, ...]] = {
    "local": (),
    "ray": ("cpus", "gpus", "retries", "address", "bring_back"),
    "slurm": ("cpus", "gpus", "retries", "time"),
}
SHARE = Rule(lambda gpus: gpus >= 0 and (gpus <= 1 or gpus == int(gpus)), "a fraction from 0 to 1 or a whole number")
# A value of each option's type, and its range.
NUMBERS: dict[str, tuple[float, Rule]] = {"cpus": (1, number(1)), "gpus": (0.0, SHARE), "retries": (0, number(0))}
FORMER = ("address", "cpus", "gpus", "retries", "partition", "time", "mem")  # flags of version 0.2, hidden in the help


@dataclass(frozen=True)
class Settings:
    """How jobs are executed."""

    engine: str = "local"
    jobs: int | None = None  # in parallel; None: one on the local engine, as many as fit on a cluster
    logs: Path = Path("output/logs")  # for the engine's own logs
    cpus: int = 1  # cores and threads per run
    gpus: float | None = None  # per run, on Ray also a fraction; None: left to the engine
    retries: int = 3  # for a job whose node or process dies
    further: dict[str, str] = field(default_factory=dict)  # the engine's other options


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add --jobs, --dry-run, --engine and --engine-options to a parser."""
    parser.add_argument(
        "--jobs", type=partial(integer, what="--jobs", least=1),
        help="parallel runs (default: 1; one per core, at most 4, for PhantomCLIP; on Ray and Slurm as many as fit)",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="print what would be started, and start nothing")
    parser.add_argument("--engine", choices=ENGINES, default="local", help="where runs are executed (default: local)")
    parser.add_argument(
        "--engine-options", nargs="+", action="extend", default=[], metavar="KEY=VALUE",
        help="ray: cpus, gpus (a fraction, too), retries, address=HOST:6379, bring_back=yes; slurm: cpus, gpus, "
        "retries, time, and any option of sbatch, such as partition=gpu (docs/benchmark.md)",
    )  # fmt: skip
    hidden: dict[str, Any] = {"dest": "engine_options", "default": [], "help": argparse.SUPPRESS}
    for key in FORMER:
        parser.add_argument(f"--{key}", action="append", type=f"{key}={{}}".format, **hidden)
    parser.add_argument("--sbatch", action="append", **hidden)
    parser.add_argument("--bring-back", action="append_const", const="bring_back=yes", **hidden)


def settings_of(args: argparse.Namespace, backbone: str, output: Path) -> Settings:
    """The settings from the command line.

    Raises:
        UserError: a value is invalid, or an option belongs to another engine.
    """
    known, jobs = OPTIONS[args.engine], args.jobs
    further: dict[str, str] = {}
    numbers: dict[str, Any] = {}
    for text in args.engine_options:
        key, equals, value = text.removeprefix("--").partition("=")
        key = key.replace("-", "_")
        if not key or not equals:
            raise UserError(f"--engine-options are KEY=VALUE, such as cpus=4, not '{text}'.")
        if key not in known and (args.engine != "slurm" or key in OPTIONS["ray"]):
            raise UserError(f"{key} is no option of --engine {args.engine}, which has {', '.join(known) or 'none'}.")
        further[key] = value
    for key in NUMBERS.keys() & further.keys():
        example, allowed = NUMBERS[key]
        numbers[key] = typed(further.pop(key), example, key, "--engine-options")
        allowed.check(key, numbers[key])
    if args.engine == "slurm":
        minutes(further.get("time", "1"))
        if numbers.get("gpus", 0) % 1:
            raise UserError(f"gpus must be a whole number on Slurm, not {numbers['gpus']:g}: it cannot share a GPU.")
    if args.engine == "local" and jobs is None and backbone == "PhantomCLIP":  # whose runs use one thread each
        jobs = min(4, os.cpu_count() or 1)
    return Settings(args.engine, jobs, output / "logs" / args.engine, further=further, **numbers)


def minutes(text: str) -> int:
    """A time limit in minutes, rounded up, from MINUTES[:SECONDS], HH:MM:SS or DAYS-HH[:MM[:SS]], as Slurm reads it.

    Raises:
        UserError: it has none of these formats, or is zero.
    """
    days, dash, clock = text.rpartition("-")
    parts = clock.split(":")
    units = (3600, 60, 1) if dash or len(parts) == 3 else (60, 1)
    if len(parts) <= len(units) and all(map(str.isdecimal, [*parts, *([days] if dash else [])])):
        seconds = int(days or 0) * 86400 + sum(int(n) * unit for n, unit in zip(parts, units, strict=False))
        if seconds:
            return math.ceil(seconds / 60)
    raise UserError(f"time must be minutes or [DAYS-]HH:MM:SS, not '{text}'.")


def needed(engine: str, package: str) -> ModuleType:
    """An engine's package.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError:
        raise UserError(f"--engine {engine} needs {package}: {install_command('cluster')}") from None
