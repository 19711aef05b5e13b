"""Run several methods over several seeds on one data set and print a table for each protocol.

With several --settings there is a table for each: published are the papers' own, universal one configuration of a
method for all data sets, and search the best of the same number of random trials for each method (see tune).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace

from ogkd.cli import many, tune
from ogkd.core import UserError
from ogkd.core.words import underscored
from ogkd.runs.protocols import PROTOCOLS, locate
from ogkd.runs.spec import PRESETS, SEARCH


def main(argv: Sequence[str] | None = None) -> None:
    p = many.grid_parser(__doc__, several_settings=True)
    p.add_argument("dataset", help="one of configs/datasets/, a folder of your own images in DATA, or its path")
    p.add_argument("--protocol", nargs="+", type=underscored, choices=PROTOCOLS, default=PROTOCOLS)
    p.add_argument("--seconds", action="store_true", help="add a column with the seconds per run")
    many.add_bank(p)
    tune.add_options(p)
    p.add_argument("--backbone", default="", help="default: BACKBONE, or the data set's own")
    p.add_argument("pairs", nargs="*", metavar="KEY VALUE", help="changes of the configuration")
    args = many.parse(p, _repeated(sys.argv[1:] if argv is None else argv))
    from ogkd.evaluation.metrics import find

    find(args.metric)
    dataset, places = locate(args.dataset, many.places_of(args))
    many.import_ahead(args, places, dataset)
    from ogkd.reports.page import write
    from ogkd.reports.tables import TABLES
    from ogkd.runs.plan import plan, report_folders, runs_of

    methods = tune.methods_of(args)
    settings = args.settings or [places.settings]
    if args.trials and SEARCH not in settings:
        raise UserError("--trials searches for settings: add --settings search.")
    if args.bank and SEARCH in settings:
        raise UserError("--bank is not searched with: give TRAINER.<METHOD>.PROMPT_BANK NAME at the end instead.")
    own = {} if args.bank else many.without_sentences(args, methods, dataset, places)
    banks = many.banks_of(args.bank, methods, [dataset])
    started = time.perf_counter()
    if args.trials and not tune.search(args, args.protocol, dataset, replace(places, settings=""), own):
        print("note: the runs with the best settings follow once the search is done.", file=sys.stderr)
        settings = [name for name in settings if name != SEARCH]
    jobs = {
        (protocol, name): plan(
            protocol, [dataset], methods, args.seeds, args.shots, replace(places, settings=name), args.pairs,
            banks, own,
        )
        for protocol in args.protocol
        for name in settings
    }  # fmt: skip
    everything = [job for of_table in jobs.values() for job in of_table]
    report = many.execute(everything, args, places, [dataset]) if everything else None
    if report is None:
        return
    for (protocol, name), of_table in jobs.items():
        tables = TABLES[protocol](runs_of(of_table), args.metric, args.seconds)
        for table in tables if name else ():
            table.title = f"{table.title}, {name} settings"
        many.show(tables, tables[0].notes if tables else ())
    print(f"\n{time.perf_counter() - started:.0f} s in all.")
    if folders := report_folders(everything):
        page = write(folders, places.output / f"{dataset.replace(':', '_')}.html", title=f"{dataset}: methods compared")
        print(f"Figures, intervals and mistakes: {page}")
    report.conclude()


def _repeated(words: Sequence[str]) -> list[str]:
    """`--settings a b` as `--settings a --settings b`, so that words after these are no settings."""
    result: list[str] = []
    for word in words:
        result += ["--settings", word] if word in PRESETS and result[-2:-1] == ["--settings"] else [word]
    return result
