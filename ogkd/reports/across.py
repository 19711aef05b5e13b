"""One table of methods by data sets, for LaTeX."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from ogkd.evaluation.methods import order
from ogkd.reports.render import Row, Table
from ogkd.reports.tables import HM_OF_MEANS, MEAN_OF_HM, led_by


def across_datasets(tables: Sequence[Table], mean_table: Table, protocol: str) -> Table:
    """One table of methods by data sets and their average, with a part for each column of the tables: base, novel and
    HM, or each number of shots. The average of HM is the mean of HM.

    tables: those of the protocol. mean_table: their `average`.
    """
    tables, means = [led_by(table, False) for table in tables], {row.key: row for row in mean_table.rows}
    names = [name for table in tables for name in table.datasets]
    parts = list(dict.fromkeys(header for table in [mean_table, *tables] for header in table.headers[1:]))
    parts = [part for part in parts if part not in (HM_OF_MEANS, MEAN_OF_HM)]
    result = replace(
        tables[0], title=protocol.replace("_", "-"), headers=["method", *names, "average"], datasets=tuple(names),
        ranked=[True] * (len(names) + 1), rows=[], footnotes=[], sample="", notes=[],
    )  # fmt: skip
    averaged = mean_table.headers[1:]
    for part in parts:
        rows: dict[tuple[str, str], Row] = {}
        in_mean = MEAN_OF_HM if part == "HM" else part
        for place, table in enumerate(tables):
            for row in table.rows if part in table.headers else ():
                whole = rows.setdefault(row.key, replace(row, cells=[None] * (len(names) + 1), runs={}, paired=[]))
                whole.cells[place] = row.cells[table.headers.index(part) - 1]
                whole.runs[names[place]] = [
                    run for header in ([part] if part in row.runs else row.runs) for run in row.runs[header]
                ]
        for key, row in rows.items():
            if key in means and in_mean in averaged:
                row.cells[-1] = means[key].cells[averaged.index(in_mean)]
            row.cells = [cell and replace(cell, std=0.0, seeds=1, interval=None) for cell in row.cells]
        rows = {key: row for key, row in rows.items() if any(row.cells)}
        result.rows += [row for _, row in sorted(rows.items(), key=lambda of: (*order(of[0][0]), of[1].name))]
        result.parts |= {part: len(rows)} if rows else {}
    what = re.split(r"[,.]", tables[0].caption, maxsplit=1)[0]
    over = "all of them" if set(mean_table.datasets) == set(names) else ", ".join(mean_table.datasets)
    hm = f"; of HM it is the {MEAN_OF_HM}" if "HM" in parts else ""
    result.caption = f"{what}, means over seeds, on each data set. The average is over {over}{hm}."
    result.footnotes = [f"{table.title}: {sentence}" for table in tables for sentence in table.footnotes]
    return result
