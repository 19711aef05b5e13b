"""Reads the classes of images from a table: one column of names, or ISIC's columns of 0 and 1."""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ogkd.core import UserError
from ogkd.core.words import counted, listed, tally
from ogkd.data.beside import beside_by_name
from ogkd.data.catalogue import PARTS
from ogkd.data.findings import sentences
from ogkd.data.groups import Groups
from ogkd.data.layout import by_folder, read_layout
from ogkd.data.listing import images_below
from ogkd.data.names import class_words, folded, is_number, name_faults, only_numbers
from ogkd.data.parts import parts_of, roles
from ogkd.data.patients import Patients, alike, known_patients, patient_column, patients_in, patients_of
from ogkd.data.splits import Split
from ogkd.data.tables import Rows, Table, is_table, read_table, squeezed

LABEL_COLUMNS = re.compile(
    r"((class|category|target|label|disease|finding|diagnosis|diagnostic|pathology|condition|grade|level)"
    r"(name|names|label|labels|id|ids)?)|labels|classes|findings|finding(s)?labels|dx|groundtruth|gt"
)
SPLIT_COLUMNS = re.compile(r"(data)?(split|set|subset|part|partition|phase)")
SEVERAL = " | "  # between the labels of an image that has several
ADVICE = (
    "an image has one class here, and several labels per image are not supported; choose one finding, whose column of "
    "0 and 1 gives the classes, for one model each"
)
MOST_GROUPS = 20  # different values of a column that is recorded as a group of the images


@dataclass
class Labels:
    """What a table says about the images of a folder."""

    classes: dict[str, list[str]]  # class name -> sorted images, in the order of labels
    parts: dict[str, str] = field(default_factory=dict)  # image -> part, if the table has them
    groups: dict[str, dict[str, str]] = field(default_factory=dict)  # image -> column -> value, such as sex or site
    patient_column: str = ""
    notes: list[str] = field(default_factory=list)  # phrases about what is missing, doubled or left out
    table: Table | None = None
    rows: Rows | None = None

    def disagree(self, split: Split) -> list[str]:
        """Return a phrase about images that have another class in a split; [] if there are none."""
        of = {image: name for name, images in self.classes.items() for image in images}
        items = [item for part in PARTS for item in split[part]]
        wrong = [
            f"{item.path}: {of[item.path]}, {item.classname} in the split"
            for item in items
            if item.path in of and folded(of[item.path]) != folded(item.classname)
        ]
        return tally("images with another class in the split, so make it again with --replace", wrong)


def labels_in(
    table: Table,
    images: Sequence[str],
    label_columns: Sequence[str] = (),
    image_column: str = "",
    split_column: str = "",
    patient_column: str = "",
    names: Mapping[str, str] | None = None,
    whole: bool = False,
) -> Labels:
    """Read the images' classes from a table, in its order: that of columns of 0 and 1, of numbers in another column, or
    of first appearance.

    Args:
        images: paths relative to the folder.
        label_columns: one column of class names, or several of 0 and 1 named as the classes; empty: by their usual
            names, otherwise all columns of 0 and 1.
        image_column, split_column: the column that names the image, and the one that names the part.
        patient_column: the column that names the patient, if there is one.
        names: class names to use for those in the table; two that get the same name become one class.
        whole: the images are tested as a whole, so that one class is enough and parts do not matter.

    Raises UserError if columns are ambiguous, rows contradict each other, or a name fits several images.
    """
    rows = table.rows_of(images, image_column)
    split = "" if whole else _split_column(table, split_column)
    free = [name for name in table.columns if name and name not in {rows.column, split, patient_column}]
    chosen = [table.named(name, "--label-column") for name in label_columns] or _label_columns(table, free)
    values, order = _values(table, chosen, free)
    label_of = table.one_value(rows, ", ".join(chosen), values)
    several, unlabelled = [], []
    classes: dict[str, list[str]] = {name: [] for name in order}
    for image in sorted(rows.of):
        label = label_of[image]
        if not label:
            unlabelled.append(image)
        elif label not in classes:
            several.append(f"{image}: {label}")
        else:
            classes[label].append(image)
    doubled = [image for image, numbers in rows.of.items() if len(numbers) > 1]
    empty = [name for name, of_class in classes.items() if not of_class]
    notes = [
        *table.notes,
        *rows.without_image(table),
        *tally(f"images without a row in {table.path}, which are left out", rows.unlisted),
        *tally(f"images with several rows in {table.path}, which agree", doubled),
        *(
            f"{phrase}: {ADVICE}"
            for phrase in tally(
                "images with several labels, which are left out as each image has one class here", several
            )
        ),
        *tally("images without a label, which are left out", unlabelled),
        *tally("classes without an image, which are left out", empty),
    ]
    classes = _renamed({name: of_class for name, of_class in classes.items() if of_class}, names)
    if numbers := only_numbers(classes):
        notes.append(f"{numbers}: give --class-names")
    _check_names(classes, table, notes, least=1 if whole else 2)
    labelled = [image for of_class in classes.values() for image in of_class]
    return Labels(
        classes,
        _parts(table, rows, split, labelled, notes) if split else {},
        _groups(table, rows, [name for name in free if name not in chosen], labelled),
        patient_column if patient_column != rows.column else "",
        notes,
        table,
        rows,
    )


def _split_column(table: Table, chosen: str) -> str:
    if chosen:
        return table.named(chosen, "--split-column")
    usual = [name for name in table.columns if SPLIT_COLUMNS.fullmatch(squeezed(name))]
    fits = [name for name in usual if _parts_in(set(table[name]) - {""})]
    return table.choose(fits, "split", "--split-column") if fits else ""


def _parts_in(values: set[str]) -> dict[str, str]:
    """Return value -> part if all values are names of parts; {} otherwise."""
    result = parts_of(values)
    return result if len(result) == len(values) else {}


def _label_columns(table: Table, free: Sequence[str]) -> list[str]:
    """Return the column of class names, or all columns of 0 and 1 if their rows hold one 1 each, apart from a few."""
    usual = [name for name in free if LABEL_COLUMNS.fullmatch(squeezed(name))]
    words = [name for name in usual if not _are_numbers(table[name])]
    marks = {name: _marks(table[name]) for name in free if all(table[name]) and _marks(table[name])}
    ones = [sum(row) for row in zip(*marks.values(), strict=True)]
    single = ones.count(1)
    if not words and len(marks) > 1 and (single == len(ones) or (not usual and 2 * single > len(ones))):
        return [*marks]
    if usual:
        return [table.choose([*words, *(name for name in usual if name not in words)], "label", "--label-column")]
    if several := sum(number > 1 for number in ones):
        raise UserError(
            f"{several} of {len(ones)} rows of {table.path} have several labels ({listed(marks)}): {ADVICE}."
        )
    raise UserError(
        f"{table.path} has no column of a usual name for the label, and no columns of 0 and 1 with one 1 per row: "
        f"choose with --label-column among {', '.join(free)}."
    )


def _are_numbers(values: Sequence[str]) -> bool:
    return any(values) and all(is_number(value) for value in values if value)


def _marks(values: Sequence[str]) -> list[bool]:
    """Return which cells are 1; [] if others are neither 0 nor empty."""
    if not _are_numbers(values) or not {float(value) for value in values if value} <= {0, 1}:
        return []
    return [bool(value) and float(value) == 1 for value in values]


def _values(table: Table, chosen: Sequence[str], free: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return each row's class name ("" without one, several joined), and the class names in order."""
    if len(chosen) > 1:
        marks = [_marks(table[name]) for name in chosen]
        if [] in marks:
            wrong = chosen[marks.index([])]
            other = next(value for value in table[wrong] if value and not _marks([value]))
            raise UserError(
                f"The column {wrong} of {table.path} is not of 0 and 1 (it has {other}): correct it there, or give one "
                "--label-column, or others."
            )
        names = [class_words(name) for name in chosen]
        rows = zip(*marks, strict=True)
        return [SEVERAL.join(name for name, mark in zip(names, row, strict=True) if mark) for row in rows], names
    values = [class_words(value) for value in table[chosen[0]]]
    known = dict.fromkeys(values)
    single = [value for value in known if value and not _is_several(value, known)]
    if single and all(map(is_number, single)):
        return values, sorted(single, key=float)
    number = _numbers_of(table, chosen[0], free)
    return values, sorted(single, key=lambda name: number[name]) if set(single) <= number.keys() else single


def _is_several(value: str, known: Collection[str]) -> bool:
    """Whether a cell holds several labels: with bars, or with other marks between labels that also occur alone."""
    pieces = [piece.strip() for piece in re.split(r"[,;/&+]", value)]
    return "|" in value or (len(pieces) > 1 and all(piece in known for piece in pieces))


def _numbers_of(table: Table, column: str, free: Sequence[str]) -> Mapping[str, float]:
    """Return class name -> the number that another label column always has beside it; empty if there is none."""
    for name in free:
        if name == column or not LABEL_COLUMNS.fullmatch(squeezed(name)) or not _are_numbers(table[name]):
            continue
        rows = zip(table[column], table[name], strict=True)
        pairs = {(class_words(word), float(number)) for word, number in rows if word and number}
        if len(pairs) == len(dict(pairs)) == len({number for _, number in pairs}):
            return dict(pairs)
    return {}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options with which a program reads labels from a table."""
    add = parser.add_argument
    add("--labels", metavar="TABLE", help="a CSV, TSV or Excel table with the class of each image, for images that are "
        "not sorted into class folders")  # fmt: skip
    add("--label-column", nargs="+", default=[], metavar="NAME", help="its column of class names, or its columns of 0 "
        "and 1 named as the classes (default: by the usual names)")  # fmt: skip
    add("--image-column", default="", metavar="NAME", help="the table's column that names the image")
    add("--split-column", default="", metavar="NAME", help="its column that says train, val or test")
    add("--patient-column", default="", metavar="NAME", help="the table's column that names the patient")
    add("--class-names", nargs="+", default=[], metavar="OLD=NEW", help='names for its classes, such as mel=melanoma; '
        "two with the same name become one class")  # fmt: skip


def add_patient_options(parser: argparse.ArgumentParser) -> None:
    """Add the options with which a program finds each image's patient."""
    add = parser.add_argument
    add("--patients", metavar="TABLE_OR_REGEX", help="a CSV, TSV or Excel table with a column for the image and one "
        "for the patient, or a regular expression that finds it in an image's path below FOLDER, such as "
        "'(P\\d+)_' (default: the patient's column of the labels' table, patients_<folder>.json, or the PatientID of "
        "DICOM files)")  # fmt: skip
    add("--else-one-per-image", action="store_true", help="count each image whose patient is unknown as a patient of "
        "its own")  # fmt: skip
    add("--group-column", nargs="+", default=[], metavar="NAME", help="columns of the table of labels or patients by "
        "whose values results are given too, such as sex or site")  # fmt: skip


def labels_of(folder: str | Path, args: argparse.Namespace, whole: bool = False) -> Labels:
    """Read the table that the options name. Raises UserError as `labels_in` does."""
    table = read_table(args.labels)
    elsewhere = getattr(args, "patients", None) or getattr(args, "by_image", False)
    patient = "" if elsewhere else patient_column(table, args.patient_column)
    names = dict(word.partition("=")[::2] for word in args.class_names)
    if not all(old.strip() and new.strip() for old, new in names.items()):
        raise UserError(f"--class-names takes OLD=NEW, not {' '.join(args.class_names)}.")
    images = images_below(folder)
    beside = beside_by_name(Path(folder), images)
    images = sorted(set(images).difference(beside))
    if not images:
        raise UserError(f"The folder {folder} contains no images.")
    result = labels_in(table, images, args.label_column, args.image_column, args.split_column, patient, names, whole)
    parts = parts_of(by_folder(images))
    if len(set(parts.values())) > 1 and not result.parts and not whole:
        result.notes.append(
            f"the folders {listed(parts)} are parts, but the table does not say so in a column: the split is made of "
            "all images together"
        )
    result.notes += tally("files beside the images (masks, overlays, thumbnails), which are left out", beside)
    return result


def class_folders(folder: str | Path, whole: bool = False) -> Labels:
    """Read the classes from a folder per class. `whole`: as in `labels_in`. Raises UserError if these are not clear."""
    layout = read_layout(folder, whole)
    layout.check()
    return Labels(layout.classes, layout.parts, notes=[*layout.warnings, *layout.notes])


def chosen_patients(folder: str | Path, args: argparse.Namespace, labels: Labels, images: Sequence[str]) -> Patients:
    """Find each image's patient as the options say: by --patients, else by the column of the labels' table, else by
    what the folder records (`known_patients`). Raises UserError as `patients_of` does."""
    if args.patients:
        column, image_column = ("", "") if args.labels else (args.patient_column, args.image_column)
        return patients_of(images, args.patients, column, image_column, args.else_one_per_image)
    if labels.table and labels.rows and labels.patient_column:
        return patients_in(labels.table, labels.rows, images, args.patient_column, args.else_one_per_image)
    return known_patients(folder, images)


def chosen_groups(args: argparse.Namespace, labels: Labels, images: Sequence[str]) -> tuple[Groups, list[str]]:
    """The groups of images by the columns that --group-column names, in the labels' table or else that of the patients,
    and phrases about them; without the option those of the labels' table.

    Raises UserError if there is no such column, or if it has too many values or one.
    """
    if not args.group_column:
        return labels.groups, []
    tables = [(labels.table, labels.rows)] if labels.table and labels.rows else []
    if args.patients and is_table(args.patients):
        table = read_table(args.patients)
        tables.append((table, table.rows_of(images, "" if args.labels else args.image_column)))
    if not tables:
        raise UserError("--group-column names columns of a table: give one with --labels or --patients.")
    groups: dict[str, dict[str, str]] = {image: {} for image in images}
    notes = []
    for name in args.group_column:
        having = [one for one in tables if squeezed(name) in map(squeezed, one[0].columns)]
        table, rows = (having or tables)[0]
        column = table.named(name, "--group-column")
        values = table.one_value(rows, column)
        sizes = Counter(filter(None, (values.get(image) for image in images)))
        if not 1 < len(sizes) <= MOST_GROUPS:
            raise UserError(
                f"The column {column} of {table.path} has {counted(len(sizes), 'value')} for these images, not 2 to "
                f"{MOST_GROUPS}: join values there, such as ages to 0-39, 40-64 and 65 or more."
            )
        for image in images:
            groups[image][column] = values.get(image, "")
        of_groups = [f"{value} {number}" for value, number in sizes.most_common()]
        without = [f"not given {missing}"] if (missing := len(images) - sizes.total()) else []
        notes.append(f"images by {column}: {', '.join([*of_groups, *without])}")
        notes += tally(f"values in {column} that are written in several ways and count as different", alike(sizes))
    return groups, notes


def _check_names(classes: Mapping[str, list[str]], table: Table, notes: Sequence[str], least: int) -> None:
    if faults := name_faults(classes):
        raise UserError(f"In {table.path}, {'; '.join(faults)}: --class-names renames and merges classes.")
    if len(classes) < least:
        raise UserError(
            f"{table.path} gives the images {counted(len(classes), 'class', 'classes')} ({', '.join(classes)}): choose "
            f"a column with two or more by --label-column. {' '.join(sentences(notes))}".rstrip()
        )


def _renamed(classes: Mapping[str, list[str]], names: Mapping[str, str] | None) -> dict[str, list[str]]:
    names = {class_words(old): class_words(new) for old, new in (names or {}).items()}
    if unknown := names.keys() - classes.keys():
        raise UserError(f"--class-names has {listed(sorted(unknown))}, but the classes are {', '.join(classes)}.")
    result: dict[str, list[str]] = {}
    for name, of_class in classes.items():
        result.setdefault(names.get(name, name), []).extend(of_class)
    return {name: sorted(of_class) for name, of_class in result.items()}


def _parts(table: Table, rows: Rows, column: str, images: Sequence[str], notes: list[str]) -> dict[str, str]:
    kind = "fold " if squeezed(column) == "fold" else ""  # a column fold holds numbers
    value_of = {image: kind + value for image, value in table.one_value(rows, column).items() if value}
    values = {value_of[image] for image in images if image in value_of}
    parts = _parts_in(values)
    if not parts:
        raise UserError(
            f"The column {column} of {table.path} holds {listed(sorted(values))}, which are no parts: write train, val "
            "and test there, or choose another with --split-column."
        )
    role, clause = roles(parts)
    result = {image: role[parts[value_of[image]]] for image in images if image in value_of}
    counts = Counter(result.values())
    notes.append(f"the column {column} is the split ({', '.join(f'{part} {counts[part]}' for part in PARTS)}){clause}")
    without = [image for image in images if image not in result]
    notes += tally(f"images without a part in the column {column}, which are left out", without)
    return result


def _groups(table: Table, rows: Rows, columns: Sequence[str], images: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return the values of columns that divide the images into a few groups, such as sex or site."""
    cells = table.cells.loc[[rows.of[image][0] for image in images], [*columns]]
    few = cells.loc[:, [1 < cells[column].nunique() <= MOST_GROUPS for column in columns]]
    return dict(zip(images, few.to_dict("records"), strict=True)) if few.columns.size else {}
