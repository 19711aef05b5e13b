"""The command line of `python scripts/check_prompts.py`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from tabulate import tabulate

from ogkd.core import UserError
from ogkd.core.places import command
from ogkd.data import catalogue
from ogkd.data.splits import class_names, read_split
from ogkd.phantom.dataset import DATASETS as EMBEDDED
from ogkd.prompts.bank import PROMPTS_A_CLASS, bank_file, bank_folders, read_bank
from ogkd.prompts.check import FEWEST_WORDS, MOST_WORDS, NEAR_DUPLICATE, Report, check_bank
from ogkd.prompts.token_counts import TextTower, default_towers, tower_of

EPILOG = f"""
Checked per class: the number of prompts; no duplicates; no near-duplicates (likeness below {NEAR_DUPLICATE}, as defined
in ogkd/prompts/check.py); none shared with another class; {FEWEST_WORDS} to {MOST_WORDS} words; the class name in each;
no more tokens than each text tower reads. Checked per data set: the classes and their order.
Exit status: 0 no faults, 1 faults, 2 could not check.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table per data set and a line per fault; return the exit status described in EPILOG. Raises UserError."""
    parser = argparse.ArgumentParser(
        prog=command("check-prompts"),
        description="Check banks of teacher prompts.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "datasets", nargs="*", metavar="DATASET", help="data sets, or file names without .json (default: all there)"
    )
    parser.add_argument("--bank", default="", help="folder below prompts/ (default: the project's own prompts)")
    parser.add_argument("--folder", type=Path, help="use this folder instead of prompts/")
    parser.add_argument("--classes", type=Path, metavar="SPLIT_JSON", help="the split file whose classes are required")
    parser.add_argument(
        "--backbone", nargs="+", default=[], metavar="NAME_OR_FOLDER", help="also count the tokens of these models"
    )
    parser.add_argument("--count", type=int, default=PROMPTS_A_CLASS, help="prompts per class (default: %(default)s)")
    options = parser.parse_args(arguments)
    folders = bank_folders(options.bank, options.folder)
    there = sorted({path.stem for folder in folders for path in folder.glob("*.json")})
    names = [_file_name(word, there) for word in options.datasets] or there
    if not names:
        raise UserError(f"There are no prompts in {folders[0]}: name the folder with --folder or --bank.")
    if options.classes and len(names) != 1:
        raise UserError("--classes is one data set's split file: give only that data set.")
    banks = {name: read_bank(bank_file(name, options.bank, options.folder)) for name in names}
    towers = [*default_towers(), *map(tower_of, options.backbone)]
    faults = 0
    for name, bank in banks.items():
        classes = class_names(read_split(options.classes)) if options.classes else known_classes(name)
        report = check_bank(bank, classes, towers, options.count)
        faults += len(report.faults)
        _print(name, report, towers, classes is not None)
    if not options.datasets:
        lacking = {*catalogue.load().datasets, *(made.folder for made in EMBEDDED.values())} - banks.keys()
        faults += len(lacking)
        for name in sorted(lacking):
            print(f"FAULT {name}: there is no {folders[0] / f'{name}.json'}")
    print(f"{faults} fault{'' if faults == 1 else 's'} found." if faults else "No faults.")
    return 1 if faults else 0


def _file_name(word: str, there: Sequence[str]) -> str:
    """The file that is meant by the name of a data set, on the command line or in the paper, in any case."""
    facts = catalogue.load().find(word)
    return facts.name if word not in there and facts and facts.name in there else word


def known_classes(dataset: str) -> list[str] | None:
    """Return the classes of a published or embedded data set in label order; None for others."""
    for made in EMBEDDED.values():
        if made.folder == dataset:
            return list(made.classes)
    facts = catalogue.load().datasets.get(dataset)
    return list(facts.classes) if facts else None


def _print(name: str, report: Report, towers: Sequence[TextTower], classes_known: bool) -> None:
    headers = ["class", "prompts", "words"]
    headers += [
        f"{tower.name} tokens\n{'of' if tower.exact else '(bound) of'} {tower.context_length}" for tower in towers
    ]
    rows = []
    for row in report.rows:
        words, pair = f"{row.fewest_words}-{row.most_words}", " and ".join(map(str, row.closest_pair or ()))
        rows.append((row.classname, row.prompts, words, *row.tokens, row.closest, pair))
    print(f"{name}: {len(rows)} classes, greatest likeness {report.closest:.2f} (fault from {NEAR_DUPLICATE})")
    print(tabulate(rows, headers=[*headers, "likeness", "of prompts"], floatfmt=".2f"))
    if not classes_known:
        print("Class names were not compared with a split: give one with --classes SPLIT_JSON.")
    for fault in report.faults:
        print(f"FAULT {name}: {fault}")
    print()
