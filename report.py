#!/usr/bin/env python3
"""What finished runs say beyond the tables of parse_test_res.py.

    python report.py --recompute RUN [RUN ...]

computes the metrics in results.json again from the predictions that each run kept. Nothing is trained or tested.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from dassl.utils import run_program
from reports.recompute import recompute


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--recompute", nargs="+", type=Path, metavar="RUN", required=True, help="run folders")
    return p


def main(argv: Sequence[str] | None = None) -> None:
    for folder in parser().parse_args(argv).recompute:
        results = recompute(folder)
        print(f"{folder}: accuracy {results['accuracy']:.2f} %")


if __name__ == "__main__":
    sys.exit(run_program(main))
