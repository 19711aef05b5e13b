#!/usr/bin/env python3
"""Split a folder of images by patient: `python scripts/split.py FOLDER --patients CSV_OR_REGEX [--seed N]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from dassl.utils import UserError, run_program
from datasets.folders import find_images
from datasets.patient_split import split_by_patient, split_file, table
from datasets.patients import patients_of, write_patients
from datasets.splits import write_split


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python scripts/split.py",
        description="Write split_<folder>.json for FOLDER/<class>/**/<image> so that no patient is in two parts: "
        "about 50 %% of each class's images for training, 20 %% for validation and 30 %% for testing. "
        "Also write patients_<folder>.json, so that intervals can be computed by patient.",
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the folder with one folder per class")
    parser.add_argument(
        "--patients",
        required=True,
        metavar="CSV_OR_REGEX",
        help="a CSV file with the columns image and patient, or a regular expression that finds the patient in an "
        "image's path below FOLDER, such as '(P\\d+)_'",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the random split (default: 0)")
    parser.add_argument("--replace", action="store_true", help="replace an existing split")
    args = parser.parse_args(argv)
    if not args.folder.is_dir():
        raise UserError(f"There is no folder {args.folder}.")
    if args.seed < 0:
        raise UserError(f"--seed must be at least 0, not {args.seed}.")
    file = split_file(args.folder)
    if file.exists() and not args.replace:
        raise UserError(f"{file} exists already, and finished runs may have used it: add --replace for a new split.")
    images = find_images(args.folder)
    patients = patients_of([path for paths in images.values() for path in paths], args.patients)
    split = split_by_patient(images, patients, args.seed)
    write_split(split, file)
    print(table(split, patients))
    print(f"Wrote {file} and {write_patients(patients, args.folder)}. No patient is in two parts.")


if __name__ == "__main__":
    sys.exit(run_program(main))
