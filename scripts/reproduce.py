#!/usr/bin/env python3
"""Run a paper's whole table: all methods, data sets and seeds (and shots), and print it.

What is complete is skipped and what is not is resumed; a run that fails is named and the rest continue.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dassl.utils import UserError, run_program
from runs.protocols import PROTOCOLS, Places, shots_of


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("protocol", choices=PROTOCOLS)
    p.add_argument("--dry-run", action="store_true", help="print the commands of the runs that are left, and do none")
    p.add_argument("--datasets", nargs="+", help="default: the eleven sets of the benchmark")
    p.add_argument("--methods", nargs="+", help="default: all of them")
    p.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    p.add_argument("--shots", nargs="+", default=["1", "2", "4", "8", "16"], help="of the few-shot protocol; or all")
    return p


def main(argv: Sequence[str] | None = None) -> None:
    args = parser().parse_args(argv)
    from datasets.catalogue import load
    from reports.collect import runs_in, warn
    from reports.page import write
    from reports.render import document
    from reports.tables import TABLES, average
    from runs.engines.local import go_through
    from runs.plan import finished_folders, plan
    from runs.registry import benchmark_methods

    places = Places()
    datasets = args.datasets or [facts.config for facts in load().datasets.values() if facts.zip_name]
    shots = [shots_of(number, "--shots") for number in args.shots]
    jobs = plan(args.protocol, datasets, args.methods or benchmark_methods(), args.seeds, shots, places)
    if args.dry_run:
        specs = [spec for job in jobs for spec in job.specs]
        waiting = [spec for job in jobs for spec in job.waiting()]
        for spec in waiting:
            print(spec.command())
        print(f"{len(waiting)} of {len(specs)} runs to do, {len(specs) - len(waiting)} complete", file=sys.stderr)
        return
    failures = go_through([job for job in jobs if job.waiting()])
    if len(failures) < len(jobs):
        tables = TABLES[args.protocol](runs_in(finished_folders(jobs)))
        mean, left_out = average(tables, args.protocol)
        print("\n" + document([mean]))
        for note in [*tables[0].notes, *left_out]:
            warn(note)
        page = write(finished_folders(jobs), places.output / f"{args.protocol}.html")
        print(f"Figures, intervals and mistakes: {page}")
    if failures:
        raise UserError(f"{len(failures)} of {len(jobs)} jobs failed, the first: {failures[0]}")


if __name__ == "__main__":
    sys.exit(run_program(main))
