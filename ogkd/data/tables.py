"""Reads tables about images from any program (CSV, TSV, Excel) and finds the row of each image."""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ogkd.core import UserError
from ogkd.core.words import counted, listed, tally
from ogkd.data.findings import sentences
from ogkd.data.listing import without_suffix
from ogkd.data.names import MISSING

if TYPE_CHECKING:
    import pandas as pd

TABLES = (".csv", ".tsv", ".tab", ".txt", ".xlsx", ".xlsm", ".xls", ".ods")
DELIMITERS = ",;\t|"
IMAGE_COLUMNS = re.compile(
    r"(image|img|picture|photo|file|filename|path|filepath|slice|scan|isic)s?(id|ids|name|index|path|file|filename|filepath)?"
    r"|id|idcode|(dicom|sopinstance)u?id"
)


def squeezed(name: str) -> str:
    """Return a column's name in lower case without spaces and marks: "Patient ID" and "patient_id" are one."""
    return "".join(sign for sign in unicodedata.normalize("NFKC", name).casefold() if sign.isalnum())


@dataclass
class Rows:
    """The rows of a table for each image. `absent` are names in the table without an image, `unlisted` images without
    a row."""

    column: str
    of: dict[str, list[int]] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)
    unlisted: list[str] = field(default_factory=list)
    unclear: dict[str, list[str]] = field(default_factory=dict)  # a name in the table -> the several images it fits

    def without_image(self, table: Table) -> list[str]:
        """Return a phrase about rows whose image is not in the folder; [] if there are none."""
        return tally(f"rows of {table.path} whose image is not in the folder", self.absent)


@dataclass(frozen=True)
class Table:
    """A table of text. Cells have no spaces at their ends; what programs write for a missing value is ""."""

    path: Path
    cells: pd.DataFrame  # row labels 0 to N-1
    notes: tuple[str, ...] = ()

    @property
    def columns(self) -> list[str]:
        return list(self.cells.columns)

    def __getitem__(self, column: str) -> list[str]:
        return list(self.cells[column])

    def named(self, column: str, option: str) -> str:
        """Return the column that a person names, in any spelling. Raises UserError if there is none or several."""
        fits = [name for name in self.columns if name == column] or [
            name for name in self.columns if squeezed(name) == squeezed(column)
        ]
        if len(fits) == 1:
            return fits[0]
        what = f"has {len(fits)} columns" if fits else "has no column"
        names = ", ".join(filter(None, self.columns))
        raise UserError(f"{self.path} {what} '{column}': give {option} one of {names}.{self._doubts()}")

    def _doubts(self) -> str:
        """What may be why words of the table are not recognised."""
        return "".join(f" {sentence}" for sentence in sentences(self.notes))

    def choose(self, fits: Sequence[str], what: str, option: str) -> str:
        """Return the only one of the columns that fit, or of those with the same grouping of the rows the first.
        Raises UserError if they differ."""
        if any(not self._same_groups(fits[0], other) for other in fits[1:]):
            raise UserError(
                f"{self.path} has {len(fits)} columns that can be the {what}: choose one with {option} "
                f"({', '.join(fits)})."
            )
        return fits[0]

    def _same_groups(self, one: str, other: str) -> bool:
        pairs = self.cells[[one, other]].drop_duplicates()
        return len(pairs) == self.cells[one].nunique() == self.cells[other].nunique()

    def rows_of(self, images: Sequence[str], chosen: str = "") -> Rows:
        """Find each image's rows by its path, or by the end of it, with or without a suffix, in any case.

        The column is the chosen one, otherwise that of a usual name (image, file name, path, id ...) which fits most
        images, otherwise any that fits most of them. Raises UserError if no column fits, or several that say different.
        """
        index = _by_name(images)

        def matches(columns: Iterable[str]) -> list[Rows]:
            result = [_match(name, self[name], images, index) for name in columns]
            return [rows for rows in result if rows.of or rows.unclear]

        usual = [name for name in self.columns if IMAGE_COLUMNS.fullmatch(squeezed(name))]
        if chosen:
            usual = [self.named(chosen, "--image-column")]
        elif not usual and _match("", self.columns, images, index).of:
            raise UserError(f"{self.path} has no first line that names its columns: add one, such as image,patient.")
        others = [] if chosen else [name for name in self.columns if name and name not in usual]
        half = min(len(images), len(self.cells)) / 2
        result = matches(usual) or [rows for rows in matches(others) if len(rows.of) >= half]
        best = [rows for rows in result if len(rows.of) == max(len(other.of) for other in result)]
        if any(rows.of != best[0].of for rows in best):
            names = ", ".join(rows.column for rows in best)
            raise UserError(
                f"{self.path} has {len(best)} columns that name images: choose one with --image-column ({names})."
            )
        if best:
            return best[0]
        examples = listed(f"{name} {next(filter(None, self[name]), '-')}" for name in usual or self.columns)
        raise UserError(
            f"No column of {self.path} names the images: its first values are {examples}, but an image is {images[0]}. "
            "Write the images' paths or file names into a column, and give it with --image-column."
            f"{self._doubts()}"
        )

    def one_value(self, rows: Rows, column: str, values: Sequence[str] | None = None) -> dict[str, str]:
        """Return image -> its value in a column; "" if all its rows lack it. `values` replace the column's own.
        Raises UserError if rows contradict each other, or a name fits several images."""
        if rows.unclear:
            examples = listed(f"{name} fits {listed(fits, 2)}" for name, fits in rows.unclear.items())
            raise UserError(
                f"{self.path} has names that fit several images ({examples}): write the images' paths below the "
                "folder there."
            )
        values, wrong = self[column] if values is None else values, []
        result: dict[str, str] = {}
        for image, numbers in rows.of.items():
            different = list(dict.fromkeys(values[number] for number in numbers if values[number]))
            if len(different) > 1:
                wrong.append(f"{image}: {', '.join(different)}")
            result[image] = different[0] if different else ""
        if wrong:
            raise UserError(
                f"{self.path} contradicts itself in the column {column} about "
                f"{counted(len(wrong), 'image')} ({listed(wrong)}): correct it there."
            )
        return result


def is_table(given: str) -> bool:
    """Whether a word on the command line is a table, existing or not."""
    return given.lower().endswith(TABLES) or Path(given).is_file()


def read_table(path: str | Path) -> Table:
    """Read a table in UTF-8, UTF-16 or Windows-1252 with commas, semicolons, tabs or bars, or the only sheet of an
    Excel file. Every cell is text, so 007 stays 007.

    Raises UserError if it cannot be read.
    """
    path, notes = Path(path), []
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"The table {path} cannot be read ({error.strerror}): check the path.") from None
    if content.startswith((b"PK", b"\xd0\xcf\x11\xe0")):
        cells = _sheet(path, content)
    else:
        text, encoding = _decoded(path, content)
        if encoding == "cp1252":
            notes.append(
                f"the table {path} is not in UTF-8 and was read as Windows-1252 (Western European): if words look "
                "wrong, save it in UTF-8"
            )
        cells = _parsed(path, text)
    cells = cells.fillna("").map(_cell)
    cells = cells[(cells != "").any(axis=1)]
    if not len(cells):
        raise UserError(f"The table {path} is empty: give one whose first line names its columns.")
    cells.columns = [str(name) for name in cells.iloc[0]]
    rows = cells.iloc[1:].reset_index(drop=True)
    rows = rows.loc[:, [bool(name) or (rows.iloc[:, place] != "").any() for place, name in enumerate(cells.columns)]]
    twice = rows.columns[rows.columns.duplicated()]
    if len(twice):
        raise UserError(f"{path} has two columns named '{twice[0]}': rename one of them.")
    return Table(path, rows, tuple(notes))


def _cell(value: object) -> str:
    text = str(value).strip().strip("\ufeff")
    return "" if text in MISSING else text


def _decoded(path: Path, content: bytes) -> tuple[str, str]:
    head = content[:1000]
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        encodings = ["utf-16"]
    elif b"\0" in head:  # UTF-16 without its mark: the first sign is usually ASCII
        encodings = ["utf-16-be" if head[0] == 0 else "utf-16-le"]
    else:
        encodings = ["utf-8-sig", "cp1252"]
    for encoding in encodings:
        try:
            return content.decode(encoding), encoding
        except UnicodeDecodeError:
            continue
    raise UserError(f"The table {path} cannot be read as text: save it as CSV in UTF-8.")


def _parsed(path: Path, text: str) -> pd.DataFrame:
    import pandas as pd

    text = text.lstrip("\r\n")
    declared = re.match(r'"?sep=(.)"?\s*?\n', text)  # Excel's own way
    if declared:
        text = text[declared.end() :]
    delimiter = declared[1] if declared else _delimiter(text)
    try:
        return pd.read_csv(
            io.StringIO(text), sep=delimiter, header=None, dtype=str, keep_default_na=False, skipinitialspace=True
        )
    except pd.errors.EmptyDataError:
        return pd.DataFrame()
    except (pd.errors.ParserError, ValueError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise UserError(
            f"The table {path} cannot be read ({reason}): each line needs as many cells as the first, and a cell that "
            "holds the delimiter needs quotation marks."
        ) from None


def _delimiter(text: str) -> str:
    """Return the delimiter which gives the first lines equally many cells, and the first of them the most."""
    lines = text.splitlines()[:20]

    def fit(delimiter: str) -> tuple[bool, int]:
        widths = [len(cells) for cells in csv.reader(lines, delimiter=delimiter) if cells]
        return len(set(widths)) == 1 and widths[0] > 1, widths[0] if widths else 0

    return max(DELIMITERS, key=fit)


def _sheet(path: Path, content: bytes) -> pd.DataFrame:
    import pandas as pd

    try:
        sheets = pd.read_excel(io.BytesIO(content), sheet_name=None, header=None, dtype=str, keep_default_na=False)
    except Exception as error:  # a corrupt archive can make openpyxl raise anything
        raise UserError(f"The table {path} cannot be read ({error}): save it as .xlsx or CSV.") from None
    full = {name: sheet for name, sheet in sheets.items() if len(sheet)}
    if len(full) > 1:
        raise UserError(f"{path} has {len(full)} sheets ({', '.join(full)}): save the right one as CSV.")
    return next(iter(full.values()), pd.DataFrame())


def _key(path: str) -> str:
    return unicodedata.normalize("NFC", path).casefold()


def _ends(path: str) -> Iterable[str]:
    """Return a path, then without its first folder, and so on to the file's name."""
    parts = path.split("/")
    return ("/".join(parts[start:]) for start in range(len(parts)))


def _by_name(images: Iterable[str]) -> dict[str, set[str]]:
    """Return every name of each image, that is each end of its path with and without its suffix -> the images."""
    index: dict[str, set[str]] = defaultdict(set)
    for image in images:
        path = _key(image)
        for end in {*_ends(path), *_ends(without_suffix(path))}:
            index[end].add(image)
    return index


def _match(column: str, values: Sequence[str], images: Sequence[str], index: dict[str, set[str]]) -> Rows:
    """Find the images that the values of a column name. A row that fits an image by more of its path goes before one
    that fits by less."""
    result = Rows(column)
    depth: dict[str, int] = {}
    for number, value in enumerate(values):
        path = re.sub(r"/+", "/", value.replace("\\", "/"))
        fits, deep = _fits(_key(path), index)
        if len(fits) > 1:
            result.unclear[value] = sorted(fits)
        elif fits:
            (image,) = fits
            if deep > depth.get(image, 0):
                depth[image], result.of[image] = deep, []
            if deep == depth[image]:
                result.of[image].append(number)
    used = {number for numbers in result.of.values() for number in numbers}
    result.absent = [
        value for number, value in enumerate(values) if value and number not in used and value not in result.unclear
    ]
    result.unlisted = [image for image in images if image not in result.of]
    return result


def _fits(path: str, index: dict[str, set[str]]) -> tuple[set[str], int]:
    """Return the images that a path in a table names, and by how many of its parts."""
    for end in _ends(path):
        for name in (end, without_suffix(end)):
            if name in index:
                return index[name], end.count("/") + 1
    return set(), 0
