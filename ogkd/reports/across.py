"""One table of methods by data sets, for LaTeX."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain

from ogkd.core.words import listed
from ogkd.evaluation.methods import order
from ogkd.reports.render import Row, Table
from ogkd.reports.tables import HM_OF_MEANS, MEAN_OF_HM, OF_BALANCED, led_by


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
        ranked=[*names, "average"], rows=[], footnotes=[], sample="", notes=[],
    )  # fmt: skip
    for part in parts:
        rows: dict[tuple[str, str], Row] = {}
        for name, table in zip(names, tables, strict=True):
            for row in table.rows if part in table.headers else ():
                whole = rows.setdefault(row.key, replace(row, cells={}, runs={}, paired=[]))
                whole.cells[name] = row.cells[part]
                whole.runs[name] = row.runs[part] if part in row.runs else [*chain(*row.runs.values())]
        for key, row in rows.items():
            if key in means:
                row.cells["average"] = means[key].cells.get(MEAN_OF_HM if part == "HM" else part)
            row.cells = {
                name: cell and replace(cell, std=0.0, seeds=1, interval=None) for name, cell in row.cells.items()
            }
        rows = {key: row for key, row in rows.items() if any(row.cells.values())}
        result.rows += [row for _, row in sorted(rows.items(), key=lambda of: (*order(of[0][0]), of[1].name))]
        result.parts |= {part: len(rows)} if rows else {}
    what = re.split(r"[,.]", tables[0].caption, maxsplit=1)[0]
    over = "all of them" if set(mean_table.datasets) == set(names) else ", ".join(mean_table.datasets)
    hm = f"; of HM it is the {MEAN_OF_HM}" if "HM" in parts else ""
    result.caption = f"{what}, means over seeds, on each data set. The average is over {over}{hm}."
    of_sets: dict[str, list[str]] = {}
    for name, table in zip(names, tables, strict=True):
        for sentence in table.footnotes:
            of_sets.setdefault(sentence, []).append(name)
    result.footnotes = [
        sentence if len(of) == len(tables) else f"{listed(of, len(of))}: {sentence}" for sentence, of in of_sets.items()
    ]
    result.footnotes += [note for note in mean_table.footnotes if note == OF_BALANCED]
    return result
