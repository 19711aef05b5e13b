"""Tables over finished runs.

    python parse_test_res.py OUTPUT --table base2new|few_shot [--metric NAME] [--format FORMAT] [-o FILE]

prints a table for each data set below OUTPUT and their average. Each cell is the mean over seeds of one configuration
with the same data and weights; other configurations get separate rows.

    python parse_test_res.py OUTPUT --table base2new|few_shot --against CoOp BiomedCoOp

prints the difference of each method from these methods, with intervals over test images and tests over data sets.

    python parse_test_res.py OUTPUT --table transfer

prints results on other data sets than those trained on, with intervals: of transfer runs and of evaluate.py.

    python parse_test_res.py OUTPUT --table groups

prints results by group of the images, such as sex or site, where groups_<folder>.json records them (ogkd split).

    python parse_test_res.py OUTPUT --table sets [--coverage 0.9] [--sets LAC APS RAPS] [--per-class]

prints how often sets of classes contain the true one, and how large they are (docs/metrics.md).

    python parse_test_res.py OUTPUT --table corruptions

prints errors and calibration on corrupted images, of runs that `ogkd corrupt` tested (docs/corruptions.md).

    python parse_test_res.py OUTPUT --claims OGKD [--against ...]

prints a method's differences in accuracy, novel classes, reliability and severity of mistakes, on both protocols.
Without any of these options it works like CoOp's script of this name: OUTPUT is a folder of seed folders (or, with
--multi-exp, of such folders), whose metrics are averaged.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ogkd.core import UserError, atomic_path, did_you_mean
from ogkd.core.places import command
from ogkd.core.words import ranges, underscored
from ogkd.data.catalogue import config_name
from ogkd.data.sampling import DRAWS
from ogkd.evaluation.collect import Run, collect, unfinished, warn
from ogkd.evaluation.methods import named_among
from ogkd.evaluation.metrics import METRICS, find
from ogkd.evaluation.sets import LAC, SCORES
from ogkd.models import model_named
from ogkd.reports.across import across_datasets
from ogkd.reports.against import against_tables, draw_diagrams
from ogkd.reports.claims import claim_tables
from ogkd.reports.corruptions import corruption_tables
from ogkd.reports.groups import group_tables
from ogkd.reports.published import sources, with_published
from ogkd.reports.render import FORMATS, Table, document, write_xlsx
from ogkd.reports.seeds import seeds_report
from ogkd.reports.sets import sets_tables
from ogkd.reports.tables import TABLES, average, of_kinds
from ogkd.reports.transfer import transfer_tables
from ogkd.runs.protocols import seeds_of, shots_of

TRANSFER = "transfer"  # the table of runs on another data set than they were trained on
GROUPS, SETS, CORRUPTIONS = "groups", "sets", "corruptions"
SINGLE = (TRANSFER, GROUPS, SETS, CORRUPTIONS)  # tables that are not averaged over data sets


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("directory", metavar="OUTPUT", type=Path, help="folder with results, at any depth")
    p.add_argument("--table", type=underscored, choices=[*TABLES, *SINGLE])
    p.add_argument("--format", choices=FORMATS, default="markdown")
    p.add_argument("--metric", default="accuracy", metavar="NAME", help=f"one of {', '.join(METRICS)}")
    p.add_argument("--intervals", action="store_true", help="95 %% intervals over test images instead of the deviation")
    p.add_argument(
        "--against", nargs="+", metavar="METHOD", help="paired differences of each method from these, with tests"
    )
    p.add_argument("--coverage", type=float, default=0.9, metavar="C", help="wanted of --table sets (0 to 1)")
    p.add_argument(
        "--sets", nargs="+", type=str.upper, choices=SCORES, default=[LAC],
        help="scores of --table sets (default: LAC)",
    )  # fmt: skip
    p.add_argument("--per-class", action="store_true", help="in --table sets the coverage is wanted for each class")
    p.add_argument("--diagram", type=Path, metavar="FILE", help="with --against: critical-difference diagrams (.svg)")
    p.add_argument("--claims", metavar="METHOD", help="what the runs show about this method, against --against or all")
    p.add_argument("--dataset", nargs="+", help="only these data sets")
    p.add_argument("--method", nargs="+", help="only these methods")
    p.add_argument("--shots", nargs="+", type=partial(shots_of, what="--shots"), help="only these numbers of shots")
    p.add_argument("--seeds", nargs="+", help="only these seeds, also as a range: 1-20")
    p.add_argument("--backbone", help="only this backbone (needed if there are several)")
    p.add_argument("--draw", choices=DRAWS, help="only this draw of training images (needed if there are several)")
    p.add_argument(
        "--published", nargs="?", const="", metavar="SOURCE",
        help="show published figures next to ours, and the differences. SOURCE is by default the one that fits the "
        f"runs, or {', '.join(sources())}. With --dataset also figures of single seeds, if known",
    )  # fmt: skip
    p.add_argument("--seconds", action="store_true", help="add a column with the mean seconds per run")
    p.add_argument("-o", "--output", type=Path, help="write to a file (required for xlsx)")
    p.add_argument("--test-log", action="store_true", help="as in CoOp: the logs are of test-only runs")
    p.add_argument("--multi-exp", action="store_true", help="as in CoOp: OUTPUT holds several experiments")
    p.add_argument("--keyword", default="accuracy", help="as in CoOp: the metric that experiments are averaged over")
    p.add_argument("--ci95", action="store_true", help="as in CoOp: 95 %% confidence interval instead of the deviation")
    return p


def main(argv: Sequence[str] | None = None) -> None:
    args = parser().parse_args(argv)
    _check(args)
    if args.table is None and args.claims is None:
        print(seeds_report(args.directory, args.multi_exp, args.keyword, args.ci95, args.test_log))
        return
    marks = bool(args.table and not args.against and not args.claims)  # tables mark runs that diverged
    runs = collect(args.directory, diverged=marks)
    _resolve(args, runs)
    methods = args.method and [*args.method, *(args.against or ()), *filter(None, [args.claims])]
    wanted = {"method": methods, "dataset": args.dataset, "shots": args.shots, "seed": args.seeds}
    wanted |= {"backbone": args.backbone and [args.backbone], "draw": args.draw and [args.draw]}
    runs = [run for run in runs if all(not names or getattr(run, name) in names for name, names in wanted.items())]
    runs = of_kinds(runs, *{run.kind for run in runs})
    backbones, draw_titles = {run.backbone for run in runs}, {run.draw_title for run in runs} - {""}
    if draw_titles and args.published is not None:
        raise UserError(
            f"Published figures are of balanced draws, not of a {draw_titles.pop()}: leave out --published."
        )
    if args.claims:
        tables, notes = claim_tables(runs, args.claims, args.against)
    elif args.against:
        tables, notes = against_tables(runs, args.table, args.against, args.metric)
        if args.diagram:
            draw_diagrams(runs, args.table, args.metric, args.diagram)
    else:
        if args.table == TRANSFER:
            tables = transfer_tables(runs, args.metric)
        elif args.table == GROUPS:
            tables = group_tables(runs, "" if args.metric == "accuracy" else args.metric)
            if not tables:
                raise UserError(
                    f"No run below {args.directory} knows groups of its test images: record them with "
                    f"`{command('split')} --group-column`, and add them to finished runs with "
                    f"`{command('report')} --recompute RUN`."
                )
        elif args.table == CORRUPTIONS:
            tables = corruption_tables(runs)
        elif args.table == SETS:
            tables = sets_tables(runs, args.coverage, args.sets, args.per_class, args.intervals)
        else:
            tables = TABLES[args.table](runs, args.metric, args.seconds, args.intervals)
        if not tables:
            hint = f"; `{command('corrupt', 'RUN')}` tests one on corrupted images" * (args.table == CORRUPTIONS)
            raise UserError(f"No finished {args.table} run below {args.directory} matches these options{hint}.")
        notes = list(tables[0].notes)
        if args.format == "csv":  # which has no room for them
            notes += [f"{table.title}: {sentence}" for table in tables for sentence in table.footnotes]
        if args.published is not None:
            tables, more = with_published(tables, backbones.pop(), args.table, args.published, each=bool(args.dataset))
            notes += more
        elif len(tables) > 1 and args.table in TABLES:
            mean, more = average(tables, args.table)
            if args.format == "latex" and mean.rows:
                tables = [across_datasets(tables, mean, args.table)]
            else:
                tables += [mean] if mean.rows else []
            notes += more
    _say(notes, args.directory)
    write(tables, args.format, args.output)


def _check(args: argparse.Namespace) -> None:
    """Raise UserError for options that do not go together."""
    find(args.metric)
    if args.format == "xlsx" and args.output is None:
        raise UserError("A spreadsheet needs a file: -o FILE.xlsx.")
    if args.claims and args.table:
        raise UserError("--claims has tables of both protocols: leave out --table.")
    if args.claims is None and args.table is None and (args.against or args.published is not None or args.intervals):
        raise UserError("--against, --published and --intervals need a table: add --table base2new or few_shot.")
    if args.table in SINGLE and (args.against or args.published is not None or args.seconds):
        raise UserError("--against, --published and --seconds are for --table base2new and few_shot: leave them out.")
    if args.published is not None and (args.against or args.claims):
        raise UserError("Published figures have no predictions to test: leave out --published or --against.")
    if args.published is not None and args.metric != "accuracy":
        raise UserError(f"The published averages are accuracies: leave out --published or --metric {args.metric}.")
    if args.diagram and not (args.against and args.table):
        raise UserError("--diagram goes with --table and --against.")


def _resolve(args: argparse.Namespace, runs: Sequence[Run]) -> None:
    """Replace the names of methods, data sets and the backbone by those of the runs. Raises UserError if there are no
    such runs."""
    there = {run.method for run in runs}
    args.method, args.against = (words and named_among(words, there) for words in (args.method, args.against))
    args.claims = args.claims and named_among([args.claims], there)[0]
    datasets, backbones = {run.dataset for run in runs}, {run.backbone for run in runs}
    args.dataset = args.dataset and [_one_of(config_name(name), datasets, "on the data set") for name in args.dataset]
    args.seeds = args.seeds and seeds_of(args.seeds)
    for name, of_runs in (("shots", {run.shots for run in runs}), ("seeds", {run.seed for run in runs})):
        if (given := getattr(args, name)) and not of_runs & set(given):
            raise UserError(f"No finished run has one of these {name}; there are {ranges(of_runs - {-1}) or 'all'}.")
    args.backbone = args.backbone and _one_of(model_named(args.backbone), backbones, "with the backbone")


def _one_of(name: str, there: set[str], what: str) -> str:
    if name not in there:
        raise UserError(f"There is no finished run {what} {name}{did_you_mean(name, sorted(there))}.")
    return name


def _say(notes: Sequence[str], directory: Path) -> None:
    """Print notes for the reader on stderr; stdout is only for tables."""
    for note in notes:
        warn(note)
    for folder, epoch in unfinished(directory):
        print(f"unfinished: {folder}, after epoch {epoch}", file=sys.stderr)


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
    from ogkd.core import run_program

    sys.exit(run_program(main))
