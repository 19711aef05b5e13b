"""The two protocols' tables: per data set, and averaged over data sets."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from dassl.utils import UserError

from .cells import Cell, Values, cell, harmonic_mean, hm_cell
from .collect import Run
from .methods import order
from .metrics import Metric, find
from .render import Row, Table
from .variants import Variant, variants

PUBLISHED = json.loads(Path(__file__).with_name("published.json").read_text(encoding="utf-8"))
PUBLISHED_BACKBONE = "BiomedCLIP"
DISPERSION = "mean ± population standard deviation over seeds"


def base2new_tables(runs: Sequence[Run], metric: str = "accuracy", seconds: bool = False) -> list[Table]:
    """Per data set, a row per variant: base, novel and, of percentages that are better the higher, their HM.

    The runs are of one backbone; base and novel of a row are of one configuration, data and weights. Runs of other
    protocols are passed over.

    Raises:
        UserError: several backbones, or an unknown metric.
    """
    measured, values = find(metric), Values(metric)
    with_hm = measured.unit == "%" and not measured.lower_is_better
    headers = ["method", "base", "novel", *(["HM"] if with_hm else []), *(["seconds"] if seconds else [])]
    found, notes = _variants(runs, "train_base", "test_new")
    for run in runs:
        if run.kind == "train_new":
            notes.append(f"{run.path} was trained on the novel classes, so it is left out: they must be new to a run.")
    tables = {}
    for variant in found:
        base, novel = variant.of("train_base"), variant.of("test_new")
        if not base:
            notes.append(f"{_what(variant, novel)} is left out: the run on the base classes is missing.")
            continue
        cells = [values.cell(base), values.cell(novel)]
        cells += [hm_cell(*cells)] if with_hm else []
        cells += [Cell(float(np.mean([_seconds(run, novel) for run in base])))] if seconds else []
        table = tables.setdefault(variant.dataset, _table(f"{variant.dataset} base2new", headers, measured))
        table.rows.append(Row(variant.name, cells, variant.method, variant.key))
    groups = [(v, v.of(kind)) for v in found if v.of("train_base") for kind in ("train_base", "test_new")]
    return _finished(tables, measured, notes + values.notes() + _uneven(groups))


def few_shot_tables(runs: Sequence[Run], metric: str = "accuracy", seconds: bool = False) -> list[Table]:
    """Per data set, a row per variant and a column per number of shots; see `base2new_tables`."""
    measured, values = find(metric), Values(metric)
    found, notes = _variants(runs, "few_shot")
    shots = {}
    for variant in found:
        shots.setdefault(variant.dataset, set()).update(run.shots for run in variant.runs)
    tables, groups = {}, []
    for variant in found:
        numbers = sorted(shots[variant.dataset])
        of_shots = [variant.of("few_shot", number) for number in numbers]
        groups += [(variant, group) for group in of_shots]
        headers = ["method", *map(_shots, numbers), *(["seconds"] if seconds else [])]
        cells = [values.cell(group) for group in of_shots]
        if seconds:
            took = cell([run.results["seconds"] for run in variant.runs])
            cells.append(took and Cell(took.mean))
        table = tables.setdefault(variant.dataset, _table(f"{variant.dataset} few-shot", headers, measured))
        table.rows.append(Row(variant.name, cells, variant.method, variant.key))
    return _finished(tables, measured, notes + values.notes() + _uneven(groups))


TABLES = {"base2new": base2new_tables, "few_shot": few_shot_tables}


def average(tables: Sequence[Table], protocol: str) -> tuple[Table, list[str]]:
    """Means over the data sets that every row has, and a sentence on each data set and row that is left out.

    base and novel are arithmetic means; HM is that of these. A variant that is not on all data sets of the methods as
    configured is left out, rather than the data sets that it is not on.

    Raises:
        UserError: there is no table.
    """
    if not tables:
        raise UserError("There is no table to average: no run of this protocol is finished.")
    rows = {row.key: row for table in tables for row in table.rows}
    needed = {key for key in rows if not key[1]} or set(rows)
    complete = [t for t in tables if {row.key for row in t.rows} >= needed and t.headers == tables[0].headers]
    by_key = [{row.key: row for row in table.rows} for table in complete]
    shared = [key for key in rows if by_key and all(key in of_table for of_table in by_key)]
    result = replace(tables[0], title=f"average {protocol}", rows=[], notes=[])
    result.caption = f"{tables[0].caption.partition(',')[0].rstrip('.')}, means over {len(complete)} data sets."
    for key in sorted(shared, key=lambda key: (*order(key[0]), rows[key].name)):
        columns = [_mean(column) for column in zip(*(of_table[key].cells for of_table in by_key), strict=True)]
        if "HM" in result.headers and columns[0] and columns[1]:
            columns[2] = Cell(harmonic_mean(columns[0].mean, columns[1].mean))
        result.rows.append(replace(rows[key], cells=columns))
    finished = "method" if protocol == "base2new" else "method and number of shots"
    left_out = [table.title for table in tables if table not in complete]
    notes = [f"{title} is not in the average, as not every {finished} is finished on it." for title in left_out]
    if complete:
        lacking = [row.name for key, row in rows.items() if key not in shared]
        notes += [f"{name} is not in the average, as it is not on every data set there." for name in lacking]
    return result, notes


def with_published(table: Table, protocol: str) -> Table:
    """The average table of accuracy with the published averages and the differences, ours minus published."""
    published = PUBLISHED[protocol]
    known = published.get("columns") or [_shots(number) for number in published["shots"]]
    result = replace(table, headers=table.headers[:1], rows=[], ranked=[])
    columns = [name for name in table.headers[1:] if name in known]
    for name in columns:
        result.headers += [name, f"{name} published", f"{name} difference"]
        result.ranked += [True, False, False]
    for row in table.rows:
        theirs = None if row.variant else published.get(row.method)
        cells: list[Cell | None] = []
        for name in columns:
            own = row.cells[table.headers.index(name) - 1]
            other = Cell(theirs[known.index(name)]) if theirs else None
            cells += [own, other, Cell(own.mean - other.mean) if own and other else None]
        result.rows.append(replace(row, cells=cells))
    return result


def _variants(runs: Sequence[Run], *kinds: str) -> tuple[list[Variant], list[str]]:
    chosen = [run for run in runs if run.kind in kinds]
    backbones = sorted({run.backbone for run in chosen})
    if len(backbones) > 1:
        raise UserError(f"There are runs with several backbones: choose one of {', '.join(backbones)}.")
    return variants(chosen)


def _table(title: str, headers: list[str], metric: Metric) -> Table:
    ranked = [name != "seconds" for name in headers[1:]]
    return Table(title, headers, ranked=ranked, lower=metric.lower_is_better, decimals=2 if metric.unit else 3)


def _finished(tables: dict[str, Table], metric: Metric, notes: list[str]) -> list[Table]:
    """The tables by data set, with captions; the notes, which are on all of them, stand with the first."""
    ordered = [tables[dataset] for dataset in sorted(tables)]
    for table in ordered:
        several = any(cell and cell.seeds > 1 for row in table.rows for cell in row.cells)
        what = f"{metric.title[:1].upper()}{metric.title[1:]}" + (f" in {metric.unit}" if metric.unit else "")
        table.caption = f"{what}, {DISPERSION}." if several else f"{what}."
    for table in ordered[:1]:
        table.notes += notes
    return ordered


def _uneven(groups: Sequence[tuple[Variant, list[Run]]]) -> list[str]:
    """Cells without some of the seeds that others have."""
    every = {run.seed for _, runs in groups for run in runs}
    lacking = [(variant, runs) for variant, runs in groups if runs and {run.seed for run in runs} != every]
    return [
        f"{_what(variant, runs)} has seeds {_listed(run.seed for run in runs)}, others have {_listed(every)}."
        for variant, runs in lacking
    ]


def _what(variant: Variant, runs: Sequence[Run]) -> str:
    """Which cell the runs are."""
    classes = {"train_base": "base", "test_new": "novel", "few_shot": f"few-shot {_shots(runs[0].shots)}"}
    return f"{variant.name} on {variant.dataset}, {classes[runs[0].kind]},"


def _listed(seeds: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(seeds)))


def _seconds(base: Run, novel: Sequence[Run]) -> float:
    """Seconds of a seed: its training with the base test, and its novel test."""
    return base.results["seconds"] + sum(run.results["seconds"] for run in novel if run.seed == base.seed)


def _shots(number: int) -> str:
    return f"{number} shot{'s' if number > 1 else ''}"


def _mean(cells: Sequence[Cell | None]) -> Cell | None:
    if any(one is None for one in cells):
        return None
    return Cell(float(np.mean([one.mean for one in cells])))
