"""A table of cells as Markdown, LaTeX, CSV or a spreadsheet: the best of a column bold, the second underlined.

Names come from results that others may have written, so that they are escaped in every format.
"""

from __future__ import annotations

import csv
import io
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dassl.utils import UserError, atomic_path

from .cells import Cell

FORMATS = ("markdown", "latex", "csv", "xlsx")
MARKS = {"markdown": ("**{}**", "<u>{}</u>"), "latex": (r"\textbf{{{}}}", r"\underline{{{}}}")}
LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "±": r"$\pm$", "…": r"\ldots{}",
}  # fmt: skip
FORMULA = ("=", "+", "-", "@")
SHEET_NAME = 31  # characters, at most


@dataclass
class Row:
    """A name and a cell per column; rows of several tables are joined by method and variant ("": as configured)."""

    name: str
    cells: list[Cell | None]
    method: str = ""
    variant: str = ""

    @property
    def key(self) -> tuple[str, str]:
        return self.method, self.variant


@dataclass
class Table:
    """Rows under headers, the first of which is that of the names.

    ranked: whether a column has a best cell: the highest, or with `lower` the least.
    decimals: digits after the point that are shown, and that rank.
    caption: what the cells are. notes: what a reader should know of the runs behind them.
    """

    title: str
    headers: list[str]
    rows: list[Row] = field(default_factory=list)
    ranked: Sequence[bool] = ()
    lower: bool = False
    decimals: int = 2
    caption: str = ""
    notes: list[str] = field(default_factory=list)

    def ranks(self) -> list[list[int | None]]:
        """For each row and column 0 (best), 1 (second) or None; equal values share a rank."""
        result: list[list[int | None]] = [[None] * len(self.headers[1:]) for _ in self.rows]
        for column, ranked in enumerate(self.ranked):
            if not ranked or len(self.rows) < 2:
                continue
            shown = [None if c is None else round(c.mean, self.decimals) for c in (r.cells[column] for r in self.rows)]
            order = sorted({value for value in shown if value is not None}, reverse=not self.lower)
            for row, value in enumerate(shown):
                if value is not None and order.index(value) < 2:
                    result[row][column] = order.index(value)
        return result


def text(cell: Cell | None, decimals: int = 2) -> str:
    """A cell in print: mean, and ± standard deviation where there are several seeds."""
    if cell is None:
        return "–"
    mean = f"{cell.mean:.{decimals}f}"
    return mean if cell.seeds < 2 else f"{mean} ± {cell.std:.{decimals}f}"


def render(table: Table, fmt: str = "markdown") -> str:
    """One table, with its caption, as Markdown, LaTeX or CSV (the table alone).

    Raises:
        UserError: another format.
    """
    if fmt == "csv":
        return _csv([table])
    if fmt not in MARKS:
        raise UserError(f"There is no table format '{fmt}'; there are {', '.join(FORMATS)}.")
    from tabulate import tabulate

    escaped = _markdown if fmt == "markdown" else _latex
    rows = []
    for row, ranks in zip(table.rows, table.ranks(), strict=True):
        shown = [escaped(text(cell, table.decimals)) for cell in row.cells]
        marked = [one if rank is None else MARKS[fmt][rank].format(one) for one, rank in zip(shown, ranks, strict=True)]
        rows.append([escaped(row.name), *marked])
    align = ["left", *["right"] * (len(table.headers) - 1)]
    style = "github" if fmt == "markdown" else "latex_raw"
    body = tabulate(rows, list(map(escaped, table.headers)), tablefmt=style, colalign=align, disable_numparse=True)
    if fmt == "markdown":
        return f"{body}\n\n{escaped(table.caption)}" if table.caption else body
    caption = escaped(f"{table.title}. {table.caption}".strip())
    return f"\\begin{{table}}\n\\centering\n\\caption{{{caption}}}\n{body}\n\\end{{table}}"


def document(tables: Sequence[Table], fmt: str = "markdown") -> str:
    """All tables under their titles; as CSV one list, whose first column is the table's title."""
    if fmt == "csv":
        return _csv(tables, titles=True).rstrip("\n")
    parts = [render(table, fmt) for table in tables]
    if fmt == "markdown":
        parts = [f"{_markdown(table.title)}\n\n{part}" for table, part in zip(tables, parts, strict=True)]
    return "\n\n".join(parts)


def plain(name: str) -> str:
    """A name on one line, without control characters."""
    kept = (" " if c.isspace() else c for c in name if c.isspace() or unicodedata.category(c)[0] != "C")
    return " ".join("".join(kept).split())


def _markdown(name: str) -> str:
    return plain(name).replace("|", r"\|").replace("<", "&lt;")


def _latex(name: str) -> str:
    return "--" if name == "–" else "".join(LATEX.get(c, c) for c in plain(name))


def neutral(name: str) -> str:
    """A name that no spreadsheet takes for a formula."""
    name = plain(name)
    return f"'{name}" if name.startswith(FORMULA) else name


def _csv(tables: Sequence[Table], titles: bool = False) -> str:
    """A line per row, with mean and population standard deviation of every column that any of the tables has."""
    columns = list(dict.fromkeys(header for table in tables for header in table.headers[1:]))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    parts = [f"{neutral(name)} {part}" for name in columns for part in ("mean", "population std")]
    writer.writerow([*(["table"] if titles else []), "method", *parts])
    for table in tables:
        for row in table.rows:
            cells = dict(zip(table.headers[1:], row.cells, strict=True))
            line = [*([neutral(table.title)] if titles else []), neutral(row.name)]
            for cell in map(cells.get, columns):
                line += [f"{value:.{table.decimals + 2}f}" for value in (cell.mean, cell.std)] if cell else ["", ""]
            writer.writerow(line)
    return out.getvalue()


def write_xlsx(tables: Sequence[Table], path: Path) -> None:
    """A workbook with a sheet per table; best values bold, second ones underlined, the caption below."""
    from openpyxl import Workbook
    from openpyxl.styles import Font

    book = Workbook()
    book.remove(book.active)
    for number, table in enumerate(tables, 1):
        sheet = book.create_sheet(_sheet_name(table.title, number, book.sheetnames))
        sheet.append(list(map(neutral, table.headers)))
        for cell in sheet[1]:
            cell.font = Font(bold=True)
        for row, ranks in zip(table.rows, table.ranks(), strict=True):
            sheet.append([neutral(row.name), *(text(cell, table.decimals) for cell in row.cells)])
            for cell, rank in zip(sheet[sheet.max_row][1:], ranks, strict=True):
                if rank is not None:
                    cell.font = Font(bold=rank == 0, underline="single" if rank == 1 else None)
        for column in sheet.columns:
            sheet.column_dimensions[column[0].column_letter].width = max(len(str(c.value or "")) for c in column) + 2
        if table.caption:
            sheet.cell(sheet.max_row + 2, 1, neutral(table.caption))
    with atomic_path(path) as temporary:
        book.save(temporary)


def _sheet_name(title: str, number: int, taken: Sequence[str]) -> str:
    """The title as a sheet may be called; numbered where that name is taken."""
    name = re.sub(r"[\[\]:*?/\\']", "", plain(title))[: SHEET_NAME - 4].strip() or "table"
    return f"{name} {number}" if name.lower() in (other.lower() for other in taken) else name
