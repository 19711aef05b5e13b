#!/usr/bin/env python3
"""Run a paper's whole table: all methods, data sets and seeds (and shots), and print it.

What is complete is skipped, what is not is continued; a data set that is not there is named and left out.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("protocol", choices=["base2new", "few_shot"])
    p.add_argument("--dry-run", action="store_true", help="list what would run")
    p.add_argument("--datasets", nargs="+", help="default: the eleven sets of the benchmark")
    p.add_argument("--methods", nargs="+", help="default: all of them")
    p.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    p.add_argument("--shots", nargs="+", type=int, default=[1, 2, 4, 8, 16], help="of the few-shot protocol")
    return p


def main() -> None:
    args = parser().parse_args()
    from dassl.utils import UserError
    from datasets.catalogue import load
    from runs.plan import go_through, steps
    from runs.protocols import Place, backbone_folder, benchmark_methods
    from tables import average_table

    place = Place()
    datasets = args.datasets or [facts.config for facts in load().datasets.values()]
    methods = args.methods or benchmark_methods()
    todo = steps(args.protocol, datasets, methods, args.seeds, args.shots, place)
    waiting = [step for step in todo if not step.finished()]
    if args.dry_run:
        for step in waiting:
            print(step)
        print(f"{len(waiting)} of {len(todo)} runs to do, {len(todo) - len(waiting)} complete")
        return
    failures = go_through(waiting)
    if len(failures) < len(todo):
        print("\n" + average_table(place.output, args.protocol, backbone_folder(place.backbone_for(datasets[0]))))
    if failures:
        raise UserError(f"{len(failures)} of {len(todo)} runs could not be done, the first: {failures[0]}")


if __name__ == "__main__":
    from train import command_line

    sys.exit(command_line(main))
