"""Execute all runs of a paper's table (all methods, data sets, seeds and shots) and print the table.

Complete runs are skipped, unfinished ones are resumed; a run that fails is reported and the rest continue. If
interrupted, run the same command again; it resumes and gives the same result.
"""

from __future__ import annotations

from collections.abc import Sequence

from ogkd.cli import many
from ogkd.core.words import underscored
from ogkd.runs.protocols import PROTOCOLS


def main(argv: Sequence[str] | None = None) -> None:
    p = many.grid_parser(__doc__, shots=(1, 2, 4, 8, 16))
    p.add_argument("protocol", type=underscored, choices=PROTOCOLS)
    p.add_argument("--datasets", nargs="+", help="default: the eleven data sets of the benchmark")
    many.add_bank(p)
    p.add_argument("pairs", nargs="*", metavar="KEY VALUE", help="changes of the configuration")
    args = many.parse(p, argv)
    from ogkd.data.catalogue import config_name, load
    from ogkd.evaluation.methods import expanded
    from ogkd.evaluation.metrics import find
    from ogkd.reports.page import write
    from ogkd.reports.tables import TABLES, average
    from ogkd.runs.plan import plan, report_folders, runs_of
    from ogkd.runs.registry import benchmark_methods

    find(args.metric)
    places = many.places_of(args)
    datasets = [config_name(name) for name in args.datasets or ()]
    datasets = datasets or [facts.config for facts in load().datasets.values() if facts.zip_name]
    methods = expanded(args.methods or benchmark_methods())
    jobs = plan(
        args.protocol, datasets, methods, args.seeds, args.shots, places, args.pairs,
        many.banks_of(args.bank, methods, datasets),
    )  # fmt: skip
    report = many.execute([job for job in jobs if args.rerun or job.waiting()], args, places, datasets)
    if report is None:
        return
    if folders := report_folders(jobs):
        tables = TABLES[args.protocol](runs_of(jobs), args.metric)
        mean, left_out = average(tables, args.protocol)
        footnotes = [f"{table.title}: {sentence}" for table in tables for sentence in table.footnotes]
        many.show([mean], [*tables[0].notes, *left_out, *footnotes])
        page = write(folders, places.output / f"{args.protocol}.html")
        print(f"Figures, intervals and mistakes: {page}")
    report.conclude()
