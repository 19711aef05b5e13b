"""Describe a folder of images and report faults: `python scripts/check_data.py FOLDER [--labels TABLE]`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ogkd.core.places import command
from ogkd.core.words import counted
from ogkd.data.inspection import inspect
from ogkd.data.labels import add_options, labels_of
from ogkd.evaluation.shortcuts import shortcuts


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0 if there are no faults, else 1. Exits with 2 (by UserError) if the folder cannot be checked."""
    parser = argparse.ArgumentParser(
        prog=command("check-data"),
        description="Read every image of FOLDER/<class>/** and print images per class, sizes and modes; then what "
        "is not used, folders and names that cannot be classes, files that cannot be read, and images that have the "
        "same pixels as another or nearly the same; frames of videos; and sizes, modes, kinds of files, brightness or "
        "borders that predict the class. The exit status is 1 if there are faults to fix.",
    )
    parser.add_argument("folder", metavar="FOLDER", help="a folder with one folder per class, or a data set")
    add_options(parser)
    args = parser.parse_args(argv)
    seen = inspect(args.folder, labels_of(Path(args.folder), args) if args.labels else None)
    seen.warnings += shortcuts(seen.classes, seen.patients)
    print(seen.table(), *seen.lines(), sep="\n")
    print(f"{counted(len(seen.faults), 'fault')}." if seen.faults else "No faults.")
    return 1 if seen.faults else 0
