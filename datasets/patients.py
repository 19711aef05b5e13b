"""Records which patient each image belongs to: patients_<name>.json beside a split file, {image's path: patient}.

The file stays with the data. If it exists, confidence intervals resample whole patients.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from pathlib import Path

from dassl.utils import UserError, read_json, write_json

COLUMNS = ("image", "patient")


def patients_file(folder: str | Path) -> Path:
    """Return the path of the patients file for a folder of images."""
    folder = Path(folder).absolute()
    return folder / f"patients_{folder.name}.json"


def read_patients(folder: str | Path) -> dict[str, str]:
    """Read image -> patient for a folder of images; empty if nothing is known. Raises UserError for a corrupt file."""
    path = patients_file(folder)
    if not path.is_file():
        return {}
    found = read_json(path)
    if not isinstance(found, dict) or not all(isinstance(patient, str) for patient in found.values()):
        raise UserError(f"{path} is corrupt: make it again with `python scripts/split.py`.")
    return found


def write_patients(patients: dict[str, str], folder: str | Path) -> Path:
    """Write image -> patient beside the split and return the file's path."""
    path = patients_file(folder)
    write_json(patients, path)
    return path


def patients_of(images: Iterable[str], given: str) -> dict[str, str]:
    """Find each image's patient with `given`: a CSV file with the columns image and patient (the image's path relative
    to the folder, or its file name), or a regular expression whose first group, or whole match, is the patient.

    Raises UserError if an image has no patient.
    """
    images = list(images)
    if given.lower().endswith(".csv") or Path(given).is_file():
        table = _read_table(Path(given))
        patients = {image: table.get(image, table.get(image.rpartition("/")[2], "")) for image in images}
        where = f"be in {given}"
    else:
        try:
            pattern = re.compile(given)
        except re.error as error:
            raise UserError(
                f"'{given}' is neither a CSV file nor a regular expression ({error}): give a file with the columns "
                f"{' and '.join(COLUMNS)}, or an expression such as '(P\\d+)_'."
            ) from None
        matches = {image: pattern.search(image) for image in images}
        patients = {
            image: (found[1] if pattern.groups else found[0]) or "" if found else "" for image, found in matches.items()
        }
        where = f"match '{given}'"
    without = [image for image, patient in patients.items() if not patient]
    if without:
        raise UserError(
            f"{len(without)} of {len(images)} images have no patient (the first is {without[0]}): all must {where}."
        )
    return patients


def _read_table(path: Path) -> dict[str, str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"The table {path} cannot be read ({error}): give a CSV file in UTF-8.") from None
    delimiter = ";" if ";" in text.partition("\n")[0] else ","
    rows = csv.DictReader(text.splitlines(), delimiter=delimiter)
    if not set(COLUMNS) <= set(rows.fieldnames or ()):
        raise UserError(f"The first line of {path} must name the columns {' and '.join(COLUMNS)}.")
    table: dict[str, str] = {}
    for row in rows:
        image, patient = ((row[column] or "").strip() for column in COLUMNS)
        image = image.replace("\\", "/").removeprefix("./")
        if table.setdefault(image, patient) != patient:
            raise UserError(f"{path} gives {image} two patients, {table[image]} and {patient}: correct it there.")
    return table
