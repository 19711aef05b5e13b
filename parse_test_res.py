#!/usr/bin/env python3
"""Tables over finished runs.

    python parse_test_res.py OUTPUT --table base2new|few_shot [--metric NAME] [--format FORMAT] [-o FILE]

prints a table for each data set below OUTPUT and their average. A cell is the mean over the seeds of one configuration,
on the same data with the same weights; other configurations have rows of their own. Without --table it does what CoOp's
script of this name does: OUTPUT is a folder of seed folders (or, with --multi-exp, of such folders), whose metrics are
averaged.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dassl.utils import UserError, atomic_path
from reports.collect import collect, command_names, select, unfinished, warn
from reports.metrics import METRICS, find
from reports.render import FORMATS, Table, document, write_xlsx
from reports.seeds import seeds_report
from reports.tables import PUBLISHED_BACKBONE, TABLES, average, with_published


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("directory", metavar="OUTPUT", type=Path, help="folder with results, at any depth")
    p.add_argument("--table", choices=list(TABLES))
    p.add_argument("--format", choices=FORMATS, default="markdown")
    p.add_argument("--metric", default="accuracy", metavar="NAME", help=f"one of {', '.join(METRICS)}")
    p.add_argument("--dataset", nargs="+", help="only these")
    p.add_argument("--method", nargs="+", help="only these")
    p.add_argument("--backbone", help="only this one (needed where there are several)")
    p.add_argument("--published", action="store_true", help="published averages beside ours, and the differences")
    p.add_argument("--seconds", action="store_true", help="a column with the mean seconds of a run")
    p.add_argument("-o", "--output", type=Path, help="write to a file (xlsx needs one)")
    p.add_argument("--test-log", action="store_true", help="as in CoOp: the logs are of test-only runs")
    p.add_argument("--multi-exp", action="store_true", help="as in CoOp: OUTPUT holds several experiments")
    p.add_argument("--keyword", default="accuracy", help="as in CoOp: the metric that experiments are averaged over")
    p.add_argument("--ci95", action="store_true", help="as in CoOp: 95 %% confidence interval, not the deviation")
    return p


def main(argv: Sequence[str] | None = None) -> None:
    args = parser().parse_args(argv)
    if args.table is None:
        print(seeds_report(args.directory, args.multi_exp, args.keyword, args.ci95, args.test_log))
        return
    find(args.metric)
    if args.format == "xlsx" and args.output is None:
        raise UserError("A spreadsheet needs a file: -o FILE.xlsx.")
    if args.published and args.metric != "accuracy":
        raise UserError(f"The published averages are accuracies: leave out --published or --metric {args.metric}.")
    datasets = args.dataset and [command_names().get(name, name) for name in args.dataset]
    runs = select(collect(args.directory), args.method, None, args.backbone, datasets)
    backbones = sorted({run.backbone for run in runs})
    if len(backbones) > 1:
        raise UserError(f"There are runs with several backbones: name one of {', '.join(backbones)} with --backbone.")
    tables = TABLES[args.table](runs, args.metric, args.seconds)
    if not tables:
        raise UserError(f"No finished {args.table} run below {args.directory} is of what was asked for.")
    for note in tables[0].notes:
        warn(note)
    if len(tables) > 1 or args.published:
        if args.published and backbones != [PUBLISHED_BACKBONE]:
            raise UserError(f"The published averages are of {PUBLISHED_BACKBONE}, not of {', '.join(backbones)}.")
        mean, left_out = average(tables, args.table)
        if mean.rows:
            tables.append(with_published(mean, args.table) if args.published else mean)
        for note in left_out:
            print(f"note: {note}", file=sys.stderr)
    for folder, epoch in unfinished(args.directory):
        print(f"unfinished: {folder}, after epoch {epoch}", file=sys.stderr)
    write(tables, args.format, args.output)


def write(tables: Sequence[Table], fmt: str, path: Path | None) -> None:
    """Print the tables, or write them to a file and print its name."""
    if path is None:
        print(document(tables, fmt))
        return
    if fmt == "xlsx":
        write_xlsx(tables, path)
    else:
        with atomic_path(path) as temporary:
            temporary.write_text(document(tables, fmt) + "\n", encoding="utf-8")
    print(path)


if __name__ == "__main__":
    from dassl.utils import run_program

    sys.exit(run_program(main))
