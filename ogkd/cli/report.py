"""One HTML page over finished runs, to read, print and send.

    python report.py OUTPUT [-o report.html] [--thumbnails] [--plots FOLDER]

shows what was run, tables with intervals, figures, mistakes and what is missing. The page is one self-contained file.
Images and file names may identify patients (marks burnt into an image, a name or number in a file name), so only those
of synthetic data are on the page. --thumbnails adds small copies of images with their names: for a page that stays in
the house, or for public data sets.

    python report.py --recompute RUN [RUN ...]

recomputes the metrics in results.json from the stored predictions of each run, and stores with them the groups of the
images that its folder records now. Nothing is trained or tested.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ogkd.core import UserError
from ogkd.core.places import command


def parser() -> argparse.ArgumentParser:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("output", nargs="*", metavar="OUTPUT", type=Path, help="folders with results, at any depth")
    p.add_argument(
        "-o", "--output", "--page", dest="page", type=Path, default=Path("report.html"), metavar="FILE",
        help="default: report.html",
    )  # fmt: skip
    p.add_argument("--title", help="heading of the page")
    p.add_argument("--methods", nargs="+", help="methods in detailed figures (default: the best, OGKD and zero-shot)")
    images = p.add_mutually_exclusive_group()
    images.add_argument(
        "--thumbnails",
        action=argparse.BooleanOptionalAction,
        help="show small copies of images and their names (default: only those of synthetic data)",
    )
    images.add_argument(
        "--no-images", dest="thumbnails", action="store_false", default=None, help="the same as --no-thumbnails"
    )
    p.add_argument("--plots", type=Path, metavar="FOLDER", help="also write each figure as PNG and PDF")
    p.add_argument("--recompute", nargs="+", type=Path, metavar="RUN", help="run folders")
    return p


def main(argv: Sequence[str] | None = None) -> None:
    args = parser().parse_args(argv)
    if bool(args.output) == bool(args.recompute):
        raise UserError("Give a folder with results, or run folders with --recompute: " + command("report", "OUTPUT."))
    if args.recompute:
        from ogkd.reports.recompute import recompute

        for folder in args.recompute:
            results = recompute(folder)
            print(f"{folder}: accuracy {results['accuracy']:.2f} %")
        return
    from ogkd.reports.page import TITLE, write

    print(
        write(
            args.output,
            args.page,
            images=args.thumbnails,
            plots=args.plots,
            methods=args.methods,
            title=args.title or TITLE,
        )
    )
    if args.thumbnails:
        print("The page shows images and file names, which may identify patients: check it before you give it away.")
