"""A table of cells as Markdown, LaTeX, CSV or a spreadsheet: the best of a column bold, the second underlined."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tabulate import tabulate

from dassl.utils import UserError, atomic_path

from .statistics import Cell

FORMATS = ("markdown", "latex", "csv", "xlsx")
MARKS = {"markdown": ("**{}**", "<u>{}</u>"), "latex": (r"\textbf{{{}}}", r"\underline{{{}}}")}


@dataclass
class Table:
    """Rows of a name and cells. `ranked` says which columns have a best one: the highest, or with `lower` the least."""

    title: str
    headers: list[str]
    rows: list[tuple[str, list[Cell | None]]] = field(default_factory=list)
    ranked: Sequence[bool] = ()
    lower: bool = False

    def ranks(self) -> list[list[int | None]]:
        """For each row and column 0 (best), 1 (second) or None; equal values share a rank."""
        result: list[list[int | None]] = [[None] * len(self.headers[1:]) for _ in self.rows]
        for column, ranked in enumerate(self.ranked):
            values = {round(cells[column].mean, 2) for _, cells in self.rows if cells[column] is not None}
            order = sorted(values, reverse=not self.lower)
            if not ranked or len(self.rows) < 2:
                continue
            for row, (_, cells) in enumerate(self.rows):
                if cells[column] is not None:
                    place = order.index(round(cells[column].mean, 2))
                    result[row][column] = place if place < 2 else None
        return result


def text(cell: Cell | None, fmt: str = "markdown") -> str:
    """A cell in print: mean, and ± std where there are several seeds."""
    if cell is None:
        return "–" if fmt == "markdown" else "--"
    if cell.seeds < 2:
        return f"{cell.mean:.2f}"
    return f"{cell.mean:.2f} ± {cell.std:.2f}" if fmt == "markdown" else rf"{cell.mean:.2f} $\pm$ {cell.std:.2f}"


def render(table: Table, fmt: str = "markdown") -> str:
    """The table as text in Markdown, LaTeX or CSV.

    Raises:
        UserError: another format.
    """
    if fmt == "csv":
        return _csv(table)
    if fmt not in MARKS:
        raise UserError(f"There is no table format '{fmt}'; there are {', '.join(FORMATS)}.")
    rows = []
    for (name, cells), ranks in zip(table.rows, table.ranks(), strict=True):
        row = [name if fmt == "markdown" else _latex_escaped(name)]
        for cell, rank in zip(cells, ranks, strict=True):
            shown = text(cell, fmt)
            row.append(shown if rank is None else MARKS[fmt][rank].format(shown))
        rows.append(row)
    align = ["left", *["right"] * (len(table.headers) - 1)]
    style = "github" if fmt == "markdown" else "latex_raw"
    return tabulate(rows, table.headers, tablefmt=style, colalign=align, disable_numparse=True)


def _latex_escaped(name: str) -> str:
    return name.replace("_", r"\_").replace("&", r"\&").replace("%", r"\%")


def _csv(table: Table) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([table.headers[0], *(f"{name} {part}" for name in table.headers[1:] for part in ("mean", "std"))])
    for name, cells in table.rows:
        values = [(f"{cell.mean:.4f}", f"{cell.std:.4f}") if cell else ("", "") for cell in cells]
        writer.writerow([name, *(value for pair in values for value in pair)])
    return out.getvalue()


def write_xlsx(tables: Sequence[Table], path: Path) -> None:
    """A workbook with a sheet a table; best values bold, second ones underlined."""
    from openpyxl import Workbook
    from openpyxl.styles import Font

    book = Workbook()
    book.remove(book.active)
    for number, table in enumerate(tables, 1):
        title = "".join(c for c in table.title if c not in r"[]:*?/\ "[:7])[:28] or "table"
        sheet = book.create_sheet(title if title not in book.sheetnames else f"{title} {number}")
        sheet.append(table.headers)
        for cell in sheet[1]:
            cell.font = Font(bold=True)
        for (name, cells), ranks in zip(table.rows, table.ranks(), strict=True):
            sheet.append([name, *(text(cell) for cell in cells)])
            for cell, rank in zip(sheet[sheet.max_row][1:], ranks, strict=True):
                if rank is not None:
                    cell.font = Font(bold=rank == 0, underline="single" if rank == 1 else None)
        for column in sheet.columns:
            sheet.column_dimensions[column[0].column_letter].width = max(len(str(c.value or "")) for c in column) + 2
    with atomic_path(path) as temporary:
        book.save(temporary)
