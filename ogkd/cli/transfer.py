"""Train on one data set and test on another: all methods along the published routes. Prints tables.

The routes are those of Evi-Steer (arXiv 2605.26292), BUSI -> BUID, BUSBRA, UDIAT and BTMRI -> BTMRI-P, BTMRI-S, BRISC,
and those between synthetic data sets. Routes with missing images are reported and left out. Complete runs are skipped,
unfinished ones are resumed; a run that fails is reported and the rest continue.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ogkd.cli import many
from ogkd.core import UserError
from ogkd.data.catalogue import config_name


def main(argv: Sequence[str] | None = None) -> None:
    p = many.grid_parser(__doc__)
    p.add_argument("routes", nargs="*", metavar="SOURCE:TARGET", help="default: the routes of the catalogue")
    args = p.parse_args(argv)
    from ogkd.evaluation.collect import warn
    from ogkd.evaluation.metrics import find
    from ogkd.reports.transfer import transfer_report
    from ogkd.runs.plan import published_routes, report_folders, transfer_plan
    from ogkd.runs.registry import benchmark_methods

    find(args.metric)
    places = many.places_of(args)
    routes = [*map(route, args.routes)] or published_routes(places, args.dry_run)
    methods = args.methods or benchmark_methods()
    jobs, left_out = transfer_plan(routes, methods, args.seeds, args.shots, places)
    for sentence in left_out:
        print(f"note: {sentence}", file=sys.stderr)
    datasets = dict.fromkeys(name for pair in routes for name in pair)
    report = many.execute([job for job in jobs if args.rerun or job.waiting()], args, places, datasets)
    if report is None:
        return
    if report_folders(jobs):
        folders = [folder for job in jobs for folder in job.folders()]
        text, notes = transfer_report(folders, routes, places.data, args.metric)
        print("\n" + text)
        for note in notes:
            warn(note)
    report.conclude()


def route(text: str) -> tuple[str, str]:
    """A source and a target from the command line."""
    source, _, target = text.partition(":")
    if not source or not target or ":" in target:
        raise UserError(f"'{text}' is not a route: give SOURCE:TARGET, such as busi:buid.")
    return config_name(source), config_name(target)
