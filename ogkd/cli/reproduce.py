"""Execute all runs of a paper's table (all methods, data sets, seeds and shots) and print the table.

Complete runs are skipped, unfinished ones are resumed; a run that fails is reported and the rest continue. If
interrupted, run the same command again; it resumes and gives the same result.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from ogkd.runs.engines.options import add_options, settings_of
from ogkd.runs.protocols import PROTOCOLS, Places, ensure_generated, shots_of


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("protocol", choices=PROTOCOLS)
    p.add_argument("--datasets", nargs="+", help="default: the eleven data sets of the benchmark")
    p.add_argument("--methods", nargs="+", help="by class, title or script folder, in any case (default: all)")
    p.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    p.add_argument(
        "--shots", nargs="+", default=["1", "2", "4", "8", "16"], help="of the few-shot protocol; all: every image"
    )
    p.add_argument("--rerun", action="store_true", help="remove the runs' earlier files and start afresh")
    add_options(p)
    return p


def main(argv: Sequence[str] | None = None) -> None:
    args = parser().parse_args(argv)
    from ogkd.data.catalogue import config_name, load
    from ogkd.evaluation.collect import warn
    from ogkd.reports.page import write
    from ogkd.reports.render import document
    from ogkd.reports.tables import TABLES, average
    from ogkd.runs.engines import dry_run, go_through
    from ogkd.runs.engines.local import worker_count
    from ogkd.runs.plan import plan, report_folders, runs_of
    from ogkd.runs.ready import check_ready
    from ogkd.runs.registry import benchmark_methods

    places = Places()
    datasets = [config_name(name) for name in args.datasets or ()]
    datasets = datasets or [facts.config for facts in load().datasets.values() if facts.zip_name]
    backbone = places.backbone_for(datasets[0])
    settings = settings_of(args, worker_count(args.jobs or "1", backbone), backbone, places.output)
    shots = [shots_of(number, "--shots") for number in args.shots]
    jobs = plan(args.protocol, datasets, args.methods or benchmark_methods(), args.seeds, shots, places)
    jobs = [job.with_rerun(args.rerun) for job in jobs]
    if args.dry_run:
        dry_run(jobs, settings)
        return
    waiting = [job for job in jobs if job.waiting()]
    check_ready(spec for job in waiting for spec in job.waiting())
    for dataset in datasets:
        ensure_generated(dataset, places.data)
    report = go_through(waiting, settings)
    if folders := report_folders(jobs):
        tables = TABLES[args.protocol](runs_of(jobs))
        mean, left_out = average(tables, args.protocol)
        print("\n" + document([mean]))
        footnotes = [f"{table.title}: {sentence}" for table in tables for sentence in table.footnotes]
        for note in [*tables[0].notes, *left_out, *footnotes]:
            warn(note)
        page = write(folders, places.output / f"{args.protocol}.html")
        print(f"Figures, intervals and mistakes: {page}")
    report.conclude()
