"""Rendering tables as Markdown, LaTeX, CSV or a spreadsheet, with the best of a column bold, the second underlined.

Names may come from other people's results, so they are escaped in every format.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ogkd.core import UserError, atomic_path
from ogkd.core.escape import markdown, no_formula, plain
from ogkd.evaluation.budget import UNKNOWN
from ogkd.evaluation.collect import Run
from ogkd.evaluation.tested import on_validation
from ogkd.reports.cells import AnyCell, Cell, Text
from ogkd.reports.conditions import COLUMNS, columns, common, conditions

if TYPE_CHECKING:
    import pandas as pd

FORMATS = ("markdown", "latex", "csv", "xlsx")
MARKS = {"markdown": ("**{}**", "<u>{}</u>"), "latex": (r"\textbf{{{}}}", r"\underline{{{}}}")}
LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "%": r"\%", "_": r"\_",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "±": r"$\pm$", "×": r"$\times$", "…": r"\ldots{}",
}  # fmt: skip
FIT = 7  # columns beside the first; wider LaTeX tables are scaled to the line
SHEET_NAME = 31  # maximum number of characters


@dataclass
class Row:
    """A name and a cell by header. Rows of several tables are joined by method and variant ("": as configured).

    runs: those of each column that is measured, also those that diverged.
    paired: the base and novel cells over the seeds that both have, which HMs are computed from.
    """

    name: str
    cells: dict[str, AnyCell] = field(default_factory=dict)
    method: str = ""
    variant: str = ""
    runs: dict[str, list[Run]] = field(default_factory=dict)
    paired: list[AnyCell] = field(default_factory=list)

    @property
    def key(self) -> tuple[str, str]:
        return self.method, self.variant

    @property
    def conditions(self) -> dict[str, str]:
        return conditions(run for runs in self.runs.values() for run in runs)

    @property
    def on_validation(self) -> bool:
        """Whether the row is of validation images."""
        return any(on_validation(run.results) for runs in self.runs.values() for run in runs)


@dataclass
class Table:
    """Rows under headers; the first header is for the row names.

    ranked: the headers of columns with a best cell: the highest, or with `lower`, for all or for these, the lowest.
    decimals: digits after the decimal point, for display and ranking.
    caption: what the cells show. sample: on how many images of how many patients, as a sentence. footnotes: important
        remarks on cells, printed below the caption.
    balanced: whether columns of balanced accuracy lead, one before each column of accuracy (see `led_by`).
    notes: remarks on the runs, printed separately from the table.
    datasets: the data sets of the cells.
    parts: the number of rows under each heading, for a table with headings in LaTeX; ranks are within a part.
    """

    title: str
    headers: list[str]
    rows: list[Row] = field(default_factory=list)
    ranked: Collection[str] = ()
    lower: bool | Collection[str] = False
    decimals: int = 2
    caption: str = ""
    sample: str = ""
    balanced: bool = False
    footnotes: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    datasets: tuple[str, ...] = ()
    parts: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, cells: Iterable[AnyCell], *about: Any) -> None:
        """Add a row with these cells, in the order of the headers; `about`: its method, variant and runs."""
        self.rows.append(Row(name, dict(zip(self.headers[1:], cells, strict=True)), *about))

    def line(self, row: Row) -> dict[str, AnyCell]:
        """The cells of a row that the table shows, in the order of the headers."""
        return {header: row.cells.get(header) for header in self.headers[1:]}

    def ranks(self) -> list[dict[str, int]]:
        """For each row 0 (best) or 1 (second) by header; equal values share a rank.

        Doubtful cells have none, and rows of validation images have none beside rows of test images.
        """
        if self.parts:
            rows = iter(self.rows)
            of_parts = [replace(self, rows=list(islice(rows, size)), parts={}) for size in self.parts.values()]
            return [ranks for part in of_parts for ranks in part.ranks()]
        result: list[dict[str, int]] = [{} for _ in self.rows]
        validation = [row.on_validation for row in self.rows]
        judged = [place for place, one in enumerate(validation) if one == all(validation)]
        for header in self.ranked if len(judged) > 1 else ():
            cells = {place: cell for place in judged if (cell := self.rows[place].cells.get(header))}
            shown = {
                place: round(cell.mean, digits_of(cell, self.decimals))
                for place, cell in cells.items()
                if not cell.doubtful
            }
            lower = self.lower if isinstance(self.lower, bool) else header in self.lower
            best = sorted({*shown.values()}, reverse=not lower)[:2]
            for place, value in shown.items():
                if value in best:
                    result[place][header] = best.index(value)
        return result

    def remarks(self) -> list[str]:
        """The caption, what all rows have in common, the sample and the footnotes."""
        return [self.caption, *self.below()] if self.caption else self.below()

    def below(self) -> list[str]:
        """The remarks without the caption."""
        about = [common([row.conditions for row in self.rows]), self.sample, *self.footnotes]
        return [sentence for sentence in about if sentence]

    def printed(self) -> Table:
        """The table with a column for each condition that differs between rows."""
        of_rows = [row.conditions for row in self.rows]
        names = [name for name in columns(of_rows) if name not in self.headers]
        rows = [
            replace(row, cells=row.cells | {name: Text(of.get(name) or "–") for name in names})
            for row, of in zip(self.rows, of_rows, strict=True)
        ]
        return replace(self, headers=[*self.headers, *names], rows=rows) if names else self


def text(cell: AnyCell, decimals: int = 2) -> str:
    """A cell as text: the mean with its interval, or ± standard deviation if there are several seeds."""
    if not cell:
        return cell.text if isinstance(cell, Text) else "–"
    digits = digits_of(cell, decimals)
    mean = _number(cell.mean, digits)
    if cell.interval:
        return f"{mean} [{_number(cell.interval.low, digits)}, {_number(cell.interval.high, digits)}]"
    return mean if cell.seeds < 2 else f"{mean} ± {_number(cell.std, digits)}"


def _number(value: float, digits: int) -> str:
    return f"{round(value, digits) + 0.0:.{digits}f}"  # without a minus for 0


def digits_of(cell: Cell, decimals: int) -> int:
    """Digits after the decimal point: the cell's own, else the table's."""
    return decimals if cell.decimals is None else cell.decimals


def render(table: Table, fmt: str = "markdown") -> str:
    """One table, with its caption, as Markdown or LaTeX (with booktabs' rules)."""
    import pandas as pd

    table, escaped = table.printed(), markdown if fmt == "markdown" else _latex
    rows = []
    for row, ranks in zip(table.rows, table.ranks(), strict=True):
        cells = {header: escaped(text(cell, table.decimals)) for header, cell in table.line(row).items()}
        marked = [MARKS[fmt][ranks[header]].format(one) if header in ranks else one for header, one in cells.items()]
        rows.append([escaped(row.name), *marked])
    frame, numbers = pd.DataFrame(rows, columns=list(map(escaped, table.headers))), len(table.headers) - 1
    if fmt == "markdown":
        align = ["left", *["right"] * numbers]
        body = frame.to_markdown(index=False, tablefmt="github", colalign=align, disable_numparse=True)
        return "\n\n".join([body, *map(escaped, table.remarks())])
    latex = frame.style.hide(axis="index").to_latex(
        hrules=True, column_format=f"l{'r' * numbers}", position_float="centering",
        caption=escaped(f"{table.title}. {table.caption}".strip()), label=f"tab:{_slug(table.title)}",
    )  # fmt: skip
    lines = latex.rstrip("\n").splitlines()
    first = lines.index(r"\midrule") + 1  # of the rows, each on a line
    headings = dict(zip(accumulate([0, *table.parts.values()]), table.parts, strict=False))
    for place, heading in sorted(headings.items(), reverse=True):
        line = rf"\multicolumn{{{numbers + 1}}}{{l}}{{\textit{{{escaped(heading)}}}}} \\"
        lines[first + place : first + place] = [*([r"\midrule"] if place else []), line]
    if numbers > FIT:
        lines.insert(lines.index(rf"\begin{{tabular}}{{l{'r' * numbers}}}"), r"\resizebox{\linewidth}{!}{%")
        lines.insert(lines.index(r"\end{tabular}") + 1, "}")
    if notes := table.below():
        paragraph = [r"\par\smallskip", r"\parbox{\linewidth}{\footnotesize", escaped(" ".join(notes)), "}"]
        lines[-1:-1] = paragraph  # before \end{table}
    return "\n".join(lines)


def _slug(title: str) -> str:
    """A title as the label of a LaTeX table."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def document(tables: Sequence[Table], fmt: str = "markdown") -> str:
    """All tables under their titles; in CSV, one list whose first column is the table's title."""
    if fmt == "csv":
        return _csv(tables).rstrip("\n")
    parts = [render(table, fmt) for table in tables]
    if fmt == "markdown":
        parts = [f"{markdown(table.title)}\n\n{part}" for table, part in zip(tables, parts, strict=True)]
    return "\n\n".join(parts)


def _latex(name: str) -> str:
    escaped = "".join(LATEX.get(c, c) for c in plain(name))
    return "--" if name == "–" else re.sub("-(?=-)", "-{}", escaped)  # two would become a dash


def neutral(name: str) -> str:
    """A name on one line that no spreadsheet interprets as a formula."""
    return no_formula(plain(name))


def _csv(tables: Sequence[Table]) -> str:
    """One line per row, with two more digits than in text. Each column becomes mean and population standard deviation,
    or mean and interval.

    Footnotes are not included; the caller must print them elsewhere.
    """
    import pandas as pd

    cells: dict[str, list[AnyCell]] = {}
    for table in tables:
        for header in table.headers[1:]:
            cells.setdefault(header, []).extend(row.cells.get(header) for row in table.rows)
    parts = {header: (" mean", *(_spread(of_column) or (" population std",))) for header, of_column in cells.items()}
    first = {table.headers[0] for table in tables}
    frames = []
    for table in tables:
        frame = _numbers(table, parts, as_text=True)
        frame.columns = [first.copy().pop() if len(first) == 1 else "row", *frame.columns[1:]]
        frame.insert(0, "table", neutral(table.title))
        frames.append(pd.concat([frame, _conditions(table)], axis=1))
    whole = pd.concat(frames)
    last = [name for name in COLUMNS if name in whole]
    return whole[[*whole.columns.drop(last), *last]].to_csv(index=False, lineterminator="\n")


def _spread(cells: Iterable[AnyCell]) -> tuple[str, ...]:
    """What a column has beside the means."""
    known = [cell for cell in cells if cell]
    if any(cell.interval for cell in known):
        return " low", " high"
    return (" population std",) if any(cell.seeds > 1 for cell in known) else ()


def _conditions(table: Table) -> pd.DataFrame:
    """A column for each condition that any row has; whole numbers are numbers."""
    import pandas as pd

    of_rows = [row.conditions for row in table.rows]
    names = [name for name in COLUMNS if any(of.get(name, UNKNOWN) not in ("", UNKNOWN) for of in of_rows)]
    values = [[neutral(value) for value in (of.get(name, "") for name in names)] for of in of_rows]
    return pd.DataFrame([[int(v) if v.isdecimal() else v for v in row] for row in values], columns=names)


def _numbers(table: Table, parts: Mapping[str, tuple[str, ...]], as_text: bool = False) -> pd.DataFrame:
    """The row names and numbers of a table, blank where there are none; `parts` ends the names of a header's columns.

    as_text: with a fixed number of digits, two more than in a table.
    """
    import pandas as pd

    lines = []
    for row in table.rows:
        line: list[object] = [neutral(row.name)]
        for header, cell in table.line(row).items():
            values: list[object] = [cell.text if isinstance(cell, Text) else ""]
            if cell:
                digits = digits_of(cell, table.decimals)
                digits += 2 if digits or cell.decimals is None else 0
                spread = (cell.interval.low, cell.interval.high) if cell.interval else (cell.std,) * (cell.seeds > 1)
                numbers = [cell.mean, *(spread if len(spread) == len(parts[header]) - 1 else ())]
                values = [f"{value:.{digits}f}" if as_text else value for value in numbers]
            line += [*values, *[""] * (len(parts[header]) - len(values))]
        lines.append(line)
    names = [f"{neutral(header)}{part}" for header in table.headers[1:] for part in parts[header]]
    return pd.DataFrame(lines, columns=[table.headers[0], *names])


def write_xlsx(tables: Sequence[Table], path: Path) -> None:
    """Write a workbook with one sheet per table; best values bold, second best underlined, the caption below.

    Numbers are numbers, shown with the table's digits. Deviations, the bounds of intervals and the conditions of each
    row have their own columns.

    Raises:
        UserError: openpyxl is not installed.
    """
    import pandas as pd

    try:
        from openpyxl.styles import Font
    except ImportError:
        raise UserError("A spreadsheet needs openpyxl: `pip install openpyxl`, or choose --format csv.") from None

    fonts = Font(bold=True), Font(underline="single")
    with atomic_path(path) as temporary, temporary.open("wb") as file, pd.ExcelWriter(file, "openpyxl") as writer:
        for number, table in enumerate(tables, 1):
            name = _sheet_name(table.title, number, list(writer.sheets))
            of_header = {header: [row.cells.get(header) for row in table.rows] for header in table.headers[1:]}
            parts = {header: ("", *_spread(cells)) for header, cells in of_header.items()}
            frame = pd.concat([_numbers(table, parts), _conditions(table)], axis=1)
            frame.to_excel(writer, sheet_name=name, index=False)
            sheet = writer.sheets[name]
            for title in sheet[1]:
                title.font = fonts[0]
            for line, (row, ranks) in enumerate(zip(table.rows, table.ranks(), strict=True), 2):
                places = iter(sheet[line][1:])
                for header, cell in table.line(row).items():
                    digits = digits_of(cell, table.decimals) if cell else 0
                    own = list(islice(places, len(parts[header])))
                    for one in own:
                        one.number_format = f"0{'.' if digits else ''}{'0' * digits}"
                    if header in ranks:
                        own[0].font = fonts[ranks[header]]
            for column in sheet.columns:
                width = max(len(cell.value) for cell in column if isinstance(cell.value, str))
                sheet.column_dimensions[column[0].column_letter].width = max(width, 8) + 2
            for place, sentence in enumerate(table.remarks(), sheet.max_row + 2):
                sheet.cell(place, 1, neutral(sentence))


def _sheet_name(title: str, number: int, taken: Sequence[str]) -> str:
    """The title as a valid sheet name, numbered if that name is taken."""
    name = re.sub(r"[\[\]:*?/\\']", "", plain(title))[: SHEET_NAME - 4].strip() or "table"
    return f"{name} {number}" if name.lower() in (other.lower() for other in taken) else name
