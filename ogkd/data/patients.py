"""Finds which patient each image belongs to, and records it: patients_<name>.json beside a split, {image: patient}.

The file stays with the data. If it exists, confidence intervals resample whole patients.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from ogkd.core import UserError
from ogkd.core.places import command
from ogkd.core.schema import Rule, read_record
from ogkd.core.words import counted, tally
from ogkd.data.listing import SUFFIXES
from ogkd.data.splits import Split, part_of_image, split_file
from ogkd.data.tables import Rows, Table, is_table, read_table, squeezed

READERS = 4
# The usual names of a patient's column, best first, without spaces and marks; then of what a patient can have several.
PATIENT_COLUMNS = (
    re.compile(r"(anon(ymi[sz]ed)?|pseudo)?(patient(en)?|pat|pt|participant|subject|subj|person)(id|ids|no|nr|num|number|nummer|code|key)?|pid|mrn"),
    re.compile(r"(case|lesion|study|studyinstance|exam|examination|accession|session)(id|uid|no|nr|num|number|code)?"),
)  # fmt: skip

_RECORD = Rule(lambda of: all(isinstance(name, str) for name in [*of, *of.values()]), "an object of patients by image")


class Patients(NamedTuple):
    """The patient of each image, where known, and phrases about where that is from."""

    of: dict[str, str]
    notes: Sequence[str] = ()


def read_patients(folder: str | Path) -> dict[str, str]:
    """Read image -> patient for a folder of images; empty if nothing is known. Raises UserError for a corrupt file."""
    path = split_file(folder, "patients")
    return read_record(path, _RECORD, f"make it again with `{command('split')}`") if path.is_file() else {}


def patients_of(
    images: Iterable[str], given: str, column: str = "", image_column: str = "", one_per_image: bool = False
) -> Patients:
    """Find each image's patient with `given`: a table with a column that names the image (its path relative to the
    folder, its file name, or that without suffix) and one that names the patient; or a regular expression whose group,
    or whole match, is the patient.

    Args:
        images: paths relative to the folder.
        given: the table's path, or the expression.
        column, image_column: the table's columns, if they have other names than usual.
        one_per_image: an image without a patient counts as a patient of its own.

    Raises UserError if an image has no patient, a name fits several images or several columns, or rows contradict each
    other.
    """
    images = list(images)
    if is_table(given):
        table = read_table(given)
        rows = table.rows_of(images, image_column)
        patients = patients_in(table, rows, images, column, one_per_image)
        return Patients(patients.of, [*table.notes, *patients.notes, *rows.without_image(table)])
    if column or image_column:
        raise UserError(f"--patient-column and --image-column are for a table, but '{given}' is an expression.")
    pattern = _pattern(given)
    group = "patient" if "patient" in pattern.groupindex else min(pattern.groups, 1)
    result = {image: (match[group] or "") if (match := pattern.search(image)) else "" for image in images}
    return _complete(result, images, one_per_image, f"match '{given}'", f"the expression '{given}'")


def patients_in(
    table: Table, rows: Rows, images: Sequence[str], column: str = "", one_per_image: bool = False
) -> Patients:
    """Find each image's patient in a table whose rows of the images are known, as `patients_of` does."""
    chosen, column = column, patient_column(table, column)
    if not column:
        raise UserError(
            f"{table.path} has no column of patients, such as patient_id ({', '.join(table.columns)}): choose one with "
            "--patient-column."
        )
    if column == rows.column:
        raise UserError(
            f"The column {column} of {table.path} names the images: choose others with --image-column and "
            "--patient-column."
        )
    result = table.one_value(rows, column)
    source = f"the column {column} of {table.path}"
    patients = _complete(result, images, one_per_image, f"have one in {source}", source)
    if chosen or not PATIENT_COLUMNS[1].fullmatch(squeezed(column)):
        return patients
    less = f"the column {column} may be less than a patient: if one can have several, choose with --patient-column"
    return Patients(patients.of, [*patients.notes, less])


def patient_column(table: Table, chosen: str = "") -> str:
    """Return the table's column of patients, the chosen one or else by its usual names; "" without one.

    Raises UserError if several with usual names differ.
    """
    if chosen:
        return table.named(chosen, "--patient-column")
    for names in PATIENT_COLUMNS:
        if fits := [name for name in table.columns if names.fullmatch(squeezed(name))]:
            return table.choose(fits, "patient", "--patient-column")
    return ""


def dicom_patients(folder: str | Path, images: Iterable[str]) -> Patients:
    """Read the PatientID of the DICOM files among the images. One that all files share says nothing and is ignored."""
    other = tuple(suffix for suffix in SUFFIXES if suffix != ".dcm")
    files = [image for image in images if not image.lower().endswith(other)]
    with ThreadPoolExecutor(READERS) as pool:
        patients = [*pool.map(lambda image: _patient_id(Path(folder, image)), files)]
    known = {image: patient for image, patient in zip(files, patients, strict=True) if patient}
    if not known:
        return Patients({}, [f"none of the {len(files)} DICOM files has a PatientID"] if files else [])
    if len(set(known.values())) == 1 and len(known) > 1:
        return Patients({}, ["all DICOM files have the same PatientID, which does not tell patients apart"])
    without = [image for image in files if image not in known]
    return Patients(
        known,
        [summary(known, "the PatientID of the DICOM files"), *tally("DICOM files without a PatientID", without)],
    )


def known_patients(folder: str | Path, images: Iterable[str], image_folder: str | Path = "") -> Patients:
    """Return the patients that are recorded in a folder or, for other images, in their DICOM files, which are below
    `image_folder` (default: the folder). The notes name no file and no patient."""
    recorded = read_patients(folder)
    images = list(images)
    of = {image: recorded[image] for image in images if image in recorded}
    notes = [summary(of, split_file(folder, "patients").name)] if of else []
    dicom = dicom_patients(image_folder or folder, [image for image in images if image not in of])
    several = len(set(dicom.of.values())) < len(dicom.of)  # a few files beside those recorded say nothing
    return Patients(of | dicom.of, [*notes, *(dicom.notes if several or not of else [])])


def one_each(patients: Mapping[str, str], images: Iterable[str]) -> dict[str, str]:
    """Return the patients with each image that has none as a patient of its own."""
    return {image: patients.get(image) or image for image in images}


def across_parts(parts: Mapping[str, str], patients: Mapping[str, str]) -> list[str]:
    """Return the patients with images in several parts, sorted; `parts` is image -> part."""
    result: dict[str, set[str]] = defaultdict(set)
    for image in parts.keys() & patients.keys():
        result[patients[image]].add(parts[image])
    return sorted(patient for patient, parts_of in result.items() if len(parts_of) > 1)


def patient_warnings(split: Split, patients: Mapping[str, str]) -> list[str]:
    """Return a phrase about patients with images in several parts of a split; [] if there are none."""
    number = len(across_parts(part_of_image(split), patients))
    what = f"patients with images in several parts of the split: {number} of {len(set(patients.values()))}"
    return [f"{what}, which makes the test too easy ({command('split')} splits by patient)"] if number else []


def summary(patients: Mapping[str, str], source: str) -> str:
    """Return a phrase on how many patients there are, which says if there are as many as images."""
    images, people = len(patients), len(set(patients.values()))
    if people == images:
        return (
            f"there are as many patients as images ({images}) by {source}: each image is its own patient. If patients "
            "have several images, this is not what tells them apart"
        )
    return f"{images} images of {counted(people, 'patient')} by {source}"


def _complete(known: Mapping[str, str], images: Sequence[str], one_per_image: bool, must: str, source: str) -> Patients:
    without = [image for image in images if not known.get(image)]
    if without and not one_per_image:
        raise UserError(
            f"{len(without)} of {len(images)} images have no patient (the first is {without[0]}): all must {must}, or "
            "add --else-one-per-image to count each of the others as a patient of its own."
        )
    if len(without) == len(images):
        raise UserError(f"None of the {len(images)} images has a patient by {source}: correct it.")
    patients = one_each(known, images)
    notes = [
        summary(patients, source),
        *tally("images without a patient, which count as one each", without),
        *tally("patients that are written in several ways and count as different", alike(patients.values())),
    ]
    return Patients(patients, notes)


def alike(patients: Iterable[str]) -> list[str]:
    """Return names, of patients or groups, that differ only in case, spaces, leading zeros or a decimal: "P1 = p01"."""
    spelled: dict[str, list[str]] = defaultdict(list)
    for patient in sorted(set(patients)):
        name = re.sub(r"\.0+$", "", "".join(patient.casefold().split()))
        spelled[re.sub(r"(?<!\d)0+(?=\d)", "", name)].append(patient)
    return [" = ".join(names) for names in spelled.values() if len(names) > 1]


def _pattern(given: str) -> re.Pattern[str]:
    try:
        pattern = re.compile(given)
    except re.error as error:
        raise UserError(
            f"'{given}' is neither a table nor a regular expression ({error}): give a CSV file with the columns image "
            "and patient, or an expression such as '(P\\d+)_'."
        ) from None
    if pattern.groups > 1 and "patient" not in pattern.groupindex:
        raise UserError(
            f"'{given}' has {pattern.groups} groups: write (?P<patient>...) for the one that is the patient, or "
            "(?:...) for the others."
        )
    return pattern


def _patient_id(file: Path) -> str:
    """Return a DICOM file's PatientID; "" if there is none or the file cannot be read, which is reported elsewhere."""
    import pydicom

    try:
        data = pydicom.dcmread(file, stop_before_pixels=True, force=True, specific_tags=["PatientID"])
        return str(data.get("PatientID") or "").strip(" \0")
    except Exception:
        return ""
