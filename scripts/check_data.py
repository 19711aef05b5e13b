#!/usr/bin/env python3
"""Say what is in a folder of images and what is wrong with it: `python scripts/check_data.py FOLDER`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dassl.utils import run_program
from datasets.inspection import inspect


def main(argv: Sequence[str] | None = None) -> int:
    """0 when nothing is wrong, 1 when something is, 2 (by UserError) when the folder could not be checked."""
    parser = argparse.ArgumentParser(
        prog="python scripts/check_data.py",
        description="Read every image of FOLDER/<class>/** and print images per class, sizes and modes; then every "
        "file that cannot be read and every image that is there twice, by its pixels. The exit status is 1 when "
        "something should be mended.",
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="a folder with one folder per class, or a data set")
    seen = inspect(parser.parse_args(argv).folder)
    print(seen.table())
    faults = seen.faults()
    for sentence in seen.remarks():
        print(f"note: {sentence}")
    for sentence in faults:
        print(f"FAULT: {sentence}")
    print(f"{len(faults)} faults." if faults else "Nothing is wrong with it.")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(run_program(main))
