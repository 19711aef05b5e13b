"""Train on one data set and test on another: all methods along the published routes. Prints tables.

The routes are those of Evi-Steer (arXiv 2605.26292), BUSI -> BUID, BUSBRA, UDIAT and BTMRI -> BTMRI-P, BTMRI-S, BRISC,
and those between synthetic data sets. Routes with missing images are reported and left out. Complete runs are skipped,
unfinished ones are resumed; a run that fails is reported and the rest continue.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from ogkd.core import UserError
from ogkd.core.words import counted
from ogkd.data.catalogue import config_name
from ogkd.runs.protocols import Places, ensure_generated, integer, shots_of


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("routes", nargs="*", metavar="SOURCE:TARGET", help="default: the routes of the catalogue")
    p.add_argument("--dry-run", action="store_true", help="print the commands of the remaining runs, start none")
    p.add_argument("--methods", nargs="+", help="by class, title or script folder, in any case (default: all)")
    p.add_argument("--seeds", nargs="+", default=["1", "2", "3"])
    p.add_argument("--shots", nargs="+", default=["16"])
    p.add_argument("--metric", default="accuracy", help="what the tables show (default: accuracy)")
    p.add_argument("--rerun", action="store_true", help="remove the runs' earlier files and start afresh")
    return p


def main(argv: Sequence[str] | None = None) -> None:
    args = parser().parse_args(argv)
    from ogkd.evaluation.collect import warn
    from ogkd.evaluation.metrics import find
    from ogkd.reports.transfer import transfer_report
    from ogkd.runs.engines.local import go_through
    from ogkd.runs.plan import published_routes, transfer_plan
    from ogkd.runs.registry import benchmark_methods

    find(args.metric)
    places = Places()
    seeds = [integer(seed, "--seeds", 0) for seed in args.seeds]
    shots = [shots_of(number, "--shots") for number in args.shots]
    routes = asked_for(args.routes) or published_routes(places, args.dry_run)
    jobs, left_out = transfer_plan(routes, args.methods or benchmark_methods(), seeds, shots, places)
    jobs = [job.with_rerun(args.rerun) for job in jobs]
    for sentence in left_out:
        print(f"note: {sentence}", file=sys.stderr)
    if args.dry_run:
        waiting = list(dict.fromkeys(spec for job in jobs for spec in job.waiting()))
        for spec in waiting:
            print(spec.command())
        print(counted(len(waiting), "run"), "to do", file=sys.stderr)
        return
    for dataset in dict.fromkeys(name for route in routes for name in route):
        ensure_generated(dataset, places.data)
    report = go_through([job for job in jobs if job.waiting()])
    folders = [folder for job in jobs for folder in job.folders()]
    if any((folder / "results.json").is_file() for folder in folders):
        text, notes = transfer_report(folders, routes, places.data, args.metric)
        print("\n" + text)
        for note in notes:
            warn(note)
    report.conclude()


def asked_for(routes: Sequence[str]) -> list[tuple[str, str]]:
    """The routes from the command line."""
    pairs = [tuple(route.split(":")) for route in routes]
    for route, pair in zip(routes, pairs, strict=True):
        if len(pair) != 2 or not all(pair):
            raise UserError(f"'{route}' is not a route: give SOURCE:TARGET, such as busi:buid.")
    return [(config_name(source), config_name(target)) for source, target in pairs]
