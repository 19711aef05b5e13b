"""Run several methods over several seeds on one data set and print a table for each protocol."""

from __future__ import annotations

import time
from collections.abc import Sequence

from ogkd.cli import many
from ogkd.runs.protocols import PROTOCOLS, locate


def main(argv: Sequence[str] | None = None) -> None:
    p = many.grid_parser(__doc__)
    p.add_argument("dataset", help="one of configs/datasets/, a folder of your own images in DATA, or its path")
    p.add_argument("--protocol", nargs="+", choices=PROTOCOLS, default=PROTOCOLS)
    p.add_argument("--seconds", action="store_true", help="add a column with the seconds per run")
    p.add_argument("--backbone", default="", help="default: BACKBONE, or the data set's own")
    p.add_argument(
        "pairs", nargs="*", metavar="KEY VALUE", help="changes of the configuration, after -- if options precede"
    )
    args = p.parse_intermixed_args(argv)
    from ogkd.evaluation.metrics import find

    find(args.metric)
    dataset, places = locate(args.dataset, many.places_of(args))
    many.import_ahead(args, places, dataset)
    from ogkd.reports.page import write
    from ogkd.reports.tables import TABLES
    from ogkd.runs.plan import plan, report_folders, runs_of
    from ogkd.runs.registry import benchmark_methods

    methods = args.methods or benchmark_methods()
    started = time.perf_counter()
    jobs = {
        protocol: plan(protocol, [dataset], methods, args.seeds, args.shots, places, args.pairs)
        for protocol in args.protocol
    }
    everything = [job for of_protocol in jobs.values() for job in of_protocol]
    report = many.execute(everything, args, places, [dataset])
    if report is None:
        return
    for protocol, of_protocol in jobs.items():
        tables = TABLES[protocol](runs_of(of_protocol), args.metric, args.seconds)
        many.show(tables, tables[0].notes if tables else ())
    print(f"\n{time.perf_counter() - started:.0f} s in all.")
    if folders := report_folders(everything):
        page = write(folders, places.output / f"{dataset.replace(':', '_')}.html", title=f"{dataset}: methods compared")
        print(f"Figures, intervals and mistakes: {page}")
    report.conclude()
