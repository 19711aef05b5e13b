"""Rendering tables as Markdown, LaTeX, CSV or a spreadsheet, with the best of a column bold, the second underlined.

Names may come from other people's results, so they are escaped in every format.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ogkd.core import UserError, atomic_path
from ogkd.core.escape import markdown, no_formula, plain
from ogkd.reports.cells import Cell, Gap

FORMATS = ("markdown", "latex", "csv", "xlsx")
MARKS = {"markdown": ("**{}**", "<u>{}</u>"), "latex": (r"\textbf{{{}}}", r"\underline{{{}}}")}
LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "±": r"$\pm$", "…": r"\ldots{}",
}  # fmt: skip
SHEET_NAME = 31  # maximum number of characters


@dataclass
class Row:
    """A name and one cell per column. Rows of several tables are joined by method and variant ("": as configured)."""

    name: str
    cells: list[Cell | Gap | None]
    method: str = ""
    variant: str = ""

    @property
    def key(self) -> tuple[str, str]:
        return self.method, self.variant


@dataclass
class Table:
    """Rows under headers; the first header is for the row names.

    ranked: whether a column has a best cell: the highest, or with `lower` the lowest.
    decimals: digits after the decimal point, for display and ranking.
    caption: what the cells show. footnotes: important remarks on cells, printed below the caption.
    notes: remarks on the runs, printed separately from the table.
    datasets: the data sets of the cells.
    """

    title: str
    headers: list[str]
    rows: list[Row] = field(default_factory=list)
    ranked: Sequence[bool] = ()
    lower: bool = False
    decimals: int = 2
    caption: str = ""
    footnotes: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    datasets: tuple[str, ...] = ()

    def ranks(self) -> list[list[int | None]]:
        """For each row and column 0 (best), 1 (second) or None; equal values share a rank. Doubtful cells have none."""
        result: list[list[int | None]] = [[None] * len(self.headers[1:]) for _ in self.rows]
        for column, ranked in enumerate(self.ranked):
            if not ranked or len(self.rows) < 2:
                continue
            cells = [row.cells[column] for row in self.rows]
            shown = [
                round(cell.mean, _decimals(cell, self.decimals)) if cell and not cell.doubtful else None
                for cell in cells
            ]
            order = sorted({value for value in shown if value is not None}, reverse=not self.lower)
            for row, value in enumerate(shown):
                if value is not None and order.index(value) < 2:
                    result[row][column] = order.index(value)
        return result


def text(cell: Cell | Gap | None, decimals: int = 2) -> str:
    """A cell as text: the mean with its interval, or ± standard deviation if there are several seeds."""
    if not cell:
        return cell.text if isinstance(cell, Gap) else "–"
    digits = _decimals(cell, decimals)
    if cell.interval:
        low, high = number(cell.interval.low, digits), number(cell.interval.high, digits)
        return f"{number(cell.mean, digits)} [{low}, {high}]"
    mean = number(cell.mean, digits)
    return mean if cell.seeds < 2 else f"{mean} ± {number(cell.std, digits)}"


def number(value: float, digits: int, sign: str = "") -> str:
    """A number as text, without a minus for 0; `sign` "+" adds a plus to positive numbers."""
    return f"{round(value, digits) + 0.0:{sign}.{digits}f}"


def _decimals(cell: Cell, decimals: int) -> int:
    return decimals if cell.decimals is None else cell.decimals


def render(table: Table, fmt: str = "markdown") -> str:
    """One table, with its caption, as Markdown, LaTeX or CSV (the table alone).

    Raises:
        UserError: the format is unknown.
    """
    if fmt == "csv":
        return _csv([table])
    if fmt not in MARKS:
        raise UserError(f"There is no table format '{fmt}'; there are {', '.join(FORMATS)}.")
    from tabulate import tabulate

    escaped = markdown if fmt == "markdown" else _latex
    rows = []
    for row, ranks in zip(table.rows, table.ranks(), strict=True):
        shown = [escaped(text(cell, table.decimals)) for cell in row.cells]
        marked = [one if rank is None else MARKS[fmt][rank].format(one) for one, rank in zip(shown, ranks, strict=True)]
        rows.append([escaped(row.name), *marked])
    align = ["left", *["right"] * (len(table.headers) - 1)]
    style = "github" if fmt == "markdown" else "latex_raw"
    body = tabulate(rows, list(map(escaped, table.headers)), tablefmt=style, colalign=align, disable_numparse=True)
    if fmt == "markdown":
        return "\n\n".join([body, *map(escaped, filter(None, [table.caption, *table.footnotes]))])
    caption = escaped(" ".join(filter(None, [f"{table.title}.", table.caption, *table.footnotes])))
    return f"\\begin{{table}}\n\\centering\n\\caption{{{caption}}}\n{body}\n\\end{{table}}"


def document(tables: Sequence[Table], fmt: str = "markdown") -> str:
    """All tables under their titles; in CSV, one list whose first column is the table's title."""
    if fmt == "csv":
        return _csv(tables, titles=True).rstrip("\n")
    parts = [render(table, fmt) for table in tables]
    if fmt == "markdown":
        parts = [f"{markdown(table.title)}\n\n{part}" for table, part in zip(tables, parts, strict=True)]
    return "\n\n".join(parts)


def _latex(name: str) -> str:
    return "--" if name == "–" else "".join(LATEX.get(c, c) for c in plain(name))


def neutral(name: str) -> str:
    """A name that no spreadsheet interprets as a formula."""
    return no_formula(plain(name))


def _csv(tables: Sequence[Table], titles: bool = False) -> str:
    """One line per row. Each column becomes mean and population standard deviation, or mean and interval.

    Footnotes are not included; the caller must print them elsewhere.
    """
    columns = list(dict.fromkeys(header for table in tables for header in table.headers[1:]))
    lines = [
        (table, row, dict(zip(table.headers[1:], row.cells, strict=True))) for table in tables for row in table.rows
    ]
    measured = {name for *_, cells in lines for name, cell in cells.items() if cell and cell.interval}
    first = {table.headers[0] for table in tables}
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    parts = {name: ("mean", "low", "high") if name in measured else ("mean", "population std") for name in columns}
    names = [f"{neutral(name)} {part}" for name in columns for part in parts[name]]
    writer.writerow([*(["table"] if titles else []), first.pop() if len(first) == 1 else "row", *names])
    for table, row, cells in lines:
        line = [*([neutral(table.title)] if titles else []), neutral(row.name)]
        for name in columns:
            line += _numbers(cells.get(name), len(parts[name]), table.decimals)
        writer.writerow(line)
    return out.getvalue()


def _numbers(cell: Cell | Gap | None, number: int, decimals: int) -> list[str]:
    """A cell's numbers with two more digits than in text, blank if it has none; a gap's text comes first."""
    if not cell:
        return [cell.text if isinstance(cell, Gap) else "", *[""] * (number - 1)]
    bounds = (cell.interval.low, cell.interval.high) if cell.interval else (None, None)
    values = (cell.mean, cell.std) if number == 2 else (cell.mean, *bounds)
    digits = decimals + 2 if cell.decimals is None else cell.decimals and cell.decimals + 2
    return ["" if value is None else f"{value:.{digits}f}" for value in values]


def write_xlsx(tables: Sequence[Table], path: Path) -> None:
    """Write a workbook with one sheet per table; best values bold, second best underlined, the caption below."""
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
        for place, sentence in enumerate(filter(None, [table.caption, *table.footnotes]), sheet.max_row + 2):
            sheet.cell(place, 1, neutral(sentence))
    with atomic_path(path) as temporary:
        book.save(temporary)


def _sheet_name(title: str, number: int, taken: Sequence[str]) -> str:
    """The title as a valid sheet name, numbered if that name is taken."""
    name = re.sub(r"[\[\]:*?/\\']", "", plain(title))[: SHEET_NAME - 4].strip() or "table"
    return f"{name} {number}" if name.lower() in (other.lower() for other in taken) else name
