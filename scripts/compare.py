#!/usr/bin/env python3
"""Run several methods over several seeds on one data set and print a table for each protocol."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("dataset", help="one of configs/datasets/ or a folder of your own images below DATA")
    p.add_argument("--protocol", nargs="+", choices=["base2new", "few_shot"], default=["base2new", "few_shot"])
    p.add_argument("--methods", nargs="+", help="default: all of them")
    p.add_argument("--seeds", nargs="+", default=["1", "2", "3"])
    p.add_argument("--shots", nargs="+", default=["16"], help="of the few-shot protocol")
    p.add_argument("--seconds", action="store_true", help="add a column with the seconds that the runs took")
    p.add_argument("--jobs", type=int, help="runs side by side (default: 1; for phantom a core each, at most 4)")
    p.add_argument("--backbone", default="", help="default: BACKBONE, or the data set's own")
    p.add_argument(
        "pairs", nargs="*", metavar="KEY VALUE", help="changes of the configuration, after -- where options precede"
    )
    return p


def main() -> None:
    args = parser().parse_intermixed_args()
    from dassl.utils import UserError
    from phantom.dataset import ensure_dataset
    from runs.plan import go_through, steps
    from runs.protocols import BASE2NEW_SHOTS, Place, backbone_folder, benchmark_methods, integer
    from tables import base2new_table, few_shot_table

    place = Place(backbone=args.backbone) if args.backbone else Place()
    if args.dataset == "phantom":
        ensure_dataset(place.data)
    seeds = [integer(seed, "--seeds", 0) for seed in args.seeds]
    shots = [integer(number, "--shots", 1) for number in args.shots]
    methods = args.methods or benchmark_methods()
    started = time.perf_counter()
    todo = [
        step
        for protocol in args.protocol
        for step in steps(protocol, [args.dataset], methods, seeds, shots, place, args.pairs)
    ]
    # PhantomCLIP is too small for the threads of one run to gain much.
    jobs = args.jobs or (min(4, os.cpu_count() or 1) if args.dataset == "phantom" else 1)
    failures = go_through(todo, jobs)
    backbone = backbone_folder(place.backbone_for(args.dataset))
    chosen = {"methods": methods, "seeds": seeds, "backbone": backbone, "seconds": args.seconds}
    if "base2new" in args.protocol:
        print(f"\n{args.dataset}, base-to-novel, {BASE2NEW_SHOTS} shots, seeds {' '.join(map(str, seeds))}\n")
        print(base2new_table(place.output, args.dataset, **chosen))
    if "few_shot" in args.protocol:
        print(f"\n{args.dataset}, few-shot accuracy, seeds {' '.join(map(str, seeds))}\n")
        print(few_shot_table(place.output, args.dataset, **chosen))
    print(f"\n{time.perf_counter() - started:.0f} s in all.")
    if failures:
        raise UserError(f"{len(failures)} of {len(todo)} runs could not be done, the first: {failures[0]}")


if __name__ == "__main__":
    from train import command_line

    sys.exit(command_line(main))
