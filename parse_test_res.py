#!/usr/bin/env python3
"""Tables over finished runs.

    python parse_test_res.py OUTPUT --table base2new|few_shot [--format markdown|latex|csv|xlsx] [-o FILE]

prints a table for each data set below OUTPUT and their average. Without --table it does what CoOp's script of this name
does: OUTPUT is a folder of seed folders (or, with --multi-exp, of such folders), whose metrics are averaged.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dassl.utils import UserError
from tables.collect import collect, unfinished
from tables.protocols import (
    PUBLISHED_BACKBONE,
    Runs,
    average,
    cell_warnings,
    dataset_base2new,
    dataset_few_shot,
    with_published,
)
from tables.render import FORMATS, render, write_xlsx
from tables.seeds import seeds_report

METRICS = ("accuracy", "macro_f1", "expected_calibration_error")


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("directory", metavar="OUTPUT", help="folder with results, at any depth")
    p.add_argument("--table", choices=["base2new", "few_shot"])
    p.add_argument("--format", choices=FORMATS, default="markdown")
    p.add_argument("--metric", choices=METRICS, default="accuracy")
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


def main() -> None:
    args = parser().parse_args()
    if args.table is None:
        print(seeds_report(Path(args.directory), args.multi_exp, args.keyword, args.ci95))
        return
    runs = Runs(collect(Path(args.directory)), args.method, None, args.backbone, args.dataset)
    backbones = sorted({run.backbone for run in runs.runs})
    if len(backbones) > 1:
        raise UserError(f"There are runs with several backbones: name one of {', '.join(backbones)} with --backbone.")
    tables = dataset_tables(runs, args)
    if not tables:
        raise UserError(f"No finished {args.table} run below {args.directory} is of what was asked for.")
    if len(tables) > 1 or args.published:
        mean, left_out = average(tables, args.table)
        if args.published and backbones != [PUBLISHED_BACKBONE]:
            raise UserError(f"The published averages are of {PUBLISHED_BACKBONE}, not of {', '.join(backbones)}.")
        tables.append(with_published(mean, args.table) if args.published else mean)
        for title in left_out:
            print(f"note: {title} is not in the average, as not every method is finished on it.", file=sys.stderr)
    for warning in cell_warnings(runs):
        print(f"warning: {warning}", file=sys.stderr)
    for folder, epoch in unfinished(Path(args.directory)):
        print(f"unfinished: {folder}, after epoch {epoch}", file=sys.stderr)
    write(tables, args.format, args.output)


def dataset_tables(runs: Runs, args: argparse.Namespace) -> list:
    """A table for each data set."""
    kind, make = {
        "base2new": ("train_base", dataset_base2new), "few_shot": ("few_shot", dataset_few_shot)
    }[args.table]  # fmt: skip
    return [make(runs, dataset, args.metric, args.seconds) for dataset in runs.datasets(kind)]


def write(tables: list, fmt: str, path: Path | None) -> None:
    """Print the tables, or write them to a file."""
    if fmt == "xlsx":
        if path is None:
            raise UserError("A spreadsheet needs a file: -o FILE.xlsx.")
        write_xlsx(tables, path)
        print(path)
        return
    text = "\n\n".join(f"{table.title}\n\n{render(table, fmt)}" for table in tables)
    if path is None:
        print(text)
    else:
        path.write_text(text + "\n")
        print(path)


if __name__ == "__main__":
    from train import command_line

    sys.exit(command_line(main))
