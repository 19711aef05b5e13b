"""Split a folder of images by patient: `python scripts/split.py FOLDER --patients TABLE_OR_REGEX [--labels TABLE]`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from ogkd.core import UserError, write_json
from ogkd.core.places import command
from ogkd.core.words import listed
from ogkd.data import labels
from ogkd.data.findings import sentences
from ogkd.data.patients import (
    Patients,
    across_parts,
    one_each,
)
from ogkd.data.splits import part_of_image, split_file, write_split
from ogkd.data.splitting import divide, table


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog=command("split"),
        description="Write split_<folder>.json for FOLDER/<class>/**/<image>, or for images with labels in a table, so "
        "that no patient is in two parts: about 50 % of each class's images for training, 20 % for validation and "
        "30 % for testing, or as the table says. Also write patients_<folder>.json, so that intervals can be computed "
        "by patient, and groups_<folder>.json, so that results are also given by group.",
    )
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the folder with one folder per class")
    labels.add_patient_options(parser)
    parser.add_argument("--by-image", action="store_true", help="split image by image, ignoring patients")
    labels.add_options(parser)
    parser.add_argument("--seed", type=int, default=0, help="seed of the random split (default: 0)")
    parser.add_argument("--replace", action="store_true", help="replace an existing split")
    args = parser.parse_args(argv)
    if not args.folder.is_dir():
        raise UserError(f"There is no folder {args.folder}.")
    if args.seed < 0:
        raise UserError(f"--seed must be at least 0, not {args.seed}.")
    if args.by_image and args.patients:
        raise UserError("--by-image ignores patients: leave out --patients or --by-image.")
    file = split_file(args.folder)
    if file.exists() and not args.replace:
        raise UserError(f"{file} exists already, and finished runs may have used it: add --replace for a new split.")
    labelled = labels.labels_of(args.folder, args) if args.labels else labels.class_folders(args.folder)
    images = [path for paths in labelled.classes.values() for path in paths]
    patients = Patients({}) if args.by_image else _patients(args, labelled, images)
    groups, about = labels.chosen_groups(args, labelled, images)
    for note in sentences([*labelled.notes, *patients.notes, *about]):
        print(f"note: {note}")
    owners = one_each(patients.of, images) if patients.of else {}
    split = divide(args.folder, labelled.classes, owners, labelled.parts, args.seed)
    write_split(split, file)
    print(table(split, owners))
    written = [file]
    for kind, record in (("groups", groups), ("patients", owners)):
        if record:
            written.append(split_file(args.folder, kind))
            write_json(record, written[-1])
    print(f"Wrote {listed(written, len(written))}.{_verdict(across_parts(part_of_image(split), owners), owners)}")


def _patients(args: argparse.Namespace, labelled: labels.Labels, images: Sequence[str]) -> Patients:
    """Find the patients as the options say, in the labels' table or in DICOM files."""
    known = labels.chosen_patients(args.folder, args, labelled, images)
    if args.patients or labelled.patient_column:
        return known
    if not known.of and not args.labels:
        unknown = (
            "Nothing says which patient an image belongs to: give --patients with a table or an expression, or "
            "--by-image if there is one image per patient."
        )
        raise UserError(" ".join([*sentences(known.notes), unknown]))
    without = [image for image in images if image not in known.of]
    if known.of and without and not args.else_one_per_image:
        raise UserError(
            f"{len(without)} of {len(images)} images have no patient (the first is {without[0]}): give --patients, or "
            "--else-one-per-image to count each of them as a patient of its own."
        )
    return known


def _verdict(across: Sequence[str], owners: Mapping[str, str]) -> str:
    if not owners:
        return " The patients are not known: images of one patient may be in two parts."
    if across:
        return (
            f" Warning: patients in several parts of the given split: {len(across)} ({listed(across)}), so the results "
            "will be too good."
        )
    return " No patient is in two parts." if len(set(owners.values())) < len(owners) else ""
