#!/usr/bin/env python3
"""Run several methods over several seeds on one data set and print a table for each protocol."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dassl.utils import UserError, run_program
from runs.protocols import PROTOCOLS, Places, ensure_generated, integer, locate, shots_of


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("dataset", help="one of configs/datasets/, a folder of your own images in DATA, or its path")
    p.add_argument("--protocol", nargs="+", choices=PROTOCOLS, default=PROTOCOLS)
    p.add_argument("--methods", nargs="+", help="default: all of them")
    p.add_argument("--seeds", nargs="+", default=["1", "2", "3"])
    p.add_argument("--shots", nargs="+", default=["16"], help="of the few-shot protocol; all: every image")
    p.add_argument("--metric", default="accuracy", help="what the tables show (default: accuracy)")
    p.add_argument("--seconds", action="store_true", help="add a column with the seconds that the runs took")
    p.add_argument("--jobs", type=int, help="runs side by side (default: 1; one per core, at most 4, for PhantomCLIP)")
    p.add_argument("--backbone", default="", help="default: BACKBONE, or the data set's own")
    p.add_argument(
        "pairs", nargs="*", metavar="KEY VALUE", help="changes of the configuration, after -- where options precede"
    )
    return p


def main(argv: Sequence[str] | None = None) -> None:
    args = parser().parse_intermixed_args(argv)
    from reports.collect import runs_in, warn
    from reports.metrics import find
    from reports.page import write
    from reports.render import document
    from reports.tables import TABLES
    from runs.engines.local import go_through
    from runs.plan import finished_folders, plan
    from runs.registry import benchmark_methods

    find(args.metric)
    places = Places(backbone=args.backbone) if args.backbone else Places()
    dataset, places = locate(args.dataset, places)
    seeds = [integer(seed, "--seeds", 0) for seed in args.seeds]
    shots = [shots_of(number, "--shots") for number in args.shots]
    methods = args.methods or benchmark_methods()
    started = time.perf_counter()
    jobs = {
        protocol: plan(protocol, [dataset], methods, seeds, shots, places, args.pairs) for protocol in args.protocol
    }
    ensure_generated(dataset, places.data)
    everything = [job for of_protocol in jobs.values() for job in of_protocol]
    # PhantomCLIP is too small for the threads of one run to gain much.
    small = places.backbone_for(dataset) == "PhantomCLIP"
    failures = go_through(everything, args.jobs or (min(4, os.cpu_count() or 1) if small else 1))
    for protocol, of_protocol in jobs.items():
        tables = TABLES[protocol](runs_in(finished_folders(of_protocol)), args.metric, args.seconds)
        print("\n" + document(tables))
        for note in tables[0].notes if tables else ():
            warn(note)
    print(f"\n{time.perf_counter() - started:.0f} s in all.")
    folders = finished_folders(everything)
    if folders:
        page = write(folders, places.output / f"{dataset.replace(':', '_')}.html", title=f"{dataset}: methods compared")
        print(f"Figures, intervals and mistakes: {page}")
    if failures:
        raise UserError(f"{len(failures)} of {len(everything)} runs failed, the first: {failures[0]}")


if __name__ == "__main__":
    sys.exit(run_program(main))
