"""Run several methods over several seeds on one data set and print a table for each protocol."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

from ogkd.runs.engines.options import add_options, settings_of
from ogkd.runs.protocols import PROTOCOLS, Places, ensure_generated, integer, locate, shots_of


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("dataset", help="one of configs/datasets/, a folder of your own images in DATA, or its path")
    p.add_argument("--protocol", nargs="+", choices=PROTOCOLS, default=PROTOCOLS)
    p.add_argument("--methods", nargs="+", help="by class, title or script folder, in any case (default: all)")
    p.add_argument("--seeds", nargs="+", default=["1", "2", "3"])
    p.add_argument("--shots", nargs="+", default=["16"], help="shots of the few-shot protocol; all: every image")
    p.add_argument("--metric", default="accuracy", help="what the tables show (default: accuracy)")
    p.add_argument("--seconds", action="store_true", help="add a column with the seconds per run")
    p.add_argument("--backbone", default="", help="default: BACKBONE, or the data set's own")
    p.add_argument("--rerun", action="store_true", help="remove the runs' earlier files and start afresh")
    add_options(p, "default: 1; one per core, at most 4, for PhantomCLIP")
    p.add_argument(
        "pairs", nargs="*", metavar="KEY VALUE", help="changes of the configuration, after -- if options precede"
    )
    return p


def main(argv: Sequence[str] | None = None) -> None:
    args = parser().parse_intermixed_args(argv)
    from ogkd.evaluation.collect import warn
    from ogkd.evaluation.metrics import find
    from ogkd.reports.page import write
    from ogkd.reports.render import document
    from ogkd.reports.tables import TABLES
    from ogkd.runs.engines import dry_run, go_through
    from ogkd.runs.engines.local import worker_count
    from ogkd.runs.plan import plan, report_folders, runs_of
    from ogkd.runs.ready import check_ready
    from ogkd.runs.registry import benchmark_methods

    find(args.metric)
    places = Places(backbone=args.backbone) if args.backbone else Places()
    dataset, places = locate(args.dataset, places)
    seeds = [integer(seed, "--seeds", 0) for seed in args.seeds]
    shots = [shots_of(number, "--shots") for number in args.shots]
    backbone = places.backbone_for(dataset)
    settings = settings_of(args, worker_count(args.jobs, backbone), backbone, places.output)
    methods = args.methods or benchmark_methods()
    started = time.perf_counter()
    jobs = {
        protocol: plan(protocol, [dataset], methods, seeds, shots, places, args.pairs) for protocol in args.protocol
    }
    everything = [job.with_rerun(args.rerun) for of_protocol in jobs.values() for job in of_protocol]
    if args.dry_run:
        dry_run(everything, settings)
        return
    ensure_generated(dataset, places.data)
    check_ready(spec for job in everything for spec in job.waiting())
    report = go_through(everything, settings)
    for protocol, of_protocol in jobs.items():
        tables = TABLES[protocol](runs_of(of_protocol), args.metric, args.seconds)
        print("\n" + document(tables))
        for note in tables[0].notes if tables else ():
            warn(note)
    print(f"\n{time.perf_counter() - started:.0f} s in all.")
    folders = report_folders(everything)
    if folders:
        page = write(folders, places.output / f"{dataset.replace(':', '_')}.html", title=f"{dataset}: methods compared")
        print(f"Figures, intervals and mistakes: {page}")
    report.conclude()
