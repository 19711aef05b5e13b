"""Tables of results by group, such as sex or site: each method in each group, and the largest gap between groups."""

from __future__ import annotations

from collections.abc import Sequence

from ogkd.core import UserError
from ogkd.core.words import sentence
from ogkd.evaluation.collect import Run
from ogkd.evaluation.limits import meaningless
from ogkd.evaluation.metrics import find
from ogkd.evaluation.predictions import Predictions
from ogkd.evaluation.subgroups import MEASURED, OF_SEVERAL, GroupSet, group_sets
from ogkd.evaluation.tested import sampled
from ogkd.reports.cells import AnyCell, Cell
from ogkd.reports.footnotes import footnotes
from ogkd.reports.render import Table
from ogkd.reports.tables import INTERVALS, decimals, of_draw, of_kinds
from ogkd.reports.variants import column_of, variants

KINDS = ("train_base", "test_new", "few_shot", "transfer")


def group_tables(runs: Sequence[Run], metric: str = "") -> list[Table]:
    """A table per data set, column of its protocol's table and column of groups: a row for each method and group, then
    the largest gap between a method's groups. Runs whose predictions name no groups are left out.

    metric: the only one shown; default: `subgroups.MEASURED`.
    Raises UserError if there are several backbones or draws, or the metric is not measured by group.
    """
    metrics = (metric,) if metric else MEASURED
    tables: dict[str, Table] = {}
    notes: list[str] = []
    cells_of: dict[str, list[tuple[str, str, list[Run]]]] = {}  # by title, for footnotes
    of_rows, conflicts = variants(of_kinds(runs, *KINDS))
    for variant in of_rows:
        for place in dict.fromkeys(map(_place, variant.runs)):
            of_place = [run for run in variant.runs if _place(run) == place]
            used, of_columns = _sets(of_place, metrics, notes)
            for of in of_columns:
                title = f"{place}, by {of.column}"
                table = tables.setdefault(title, _empty(title, used, of, metrics))
                for name, cells in _cells(of, metrics):
                    table.add(f"{variant.name}, {name}", cells, variant.method, variant.key, {place: used})
                table.footnotes += [f"{variant.name}: {remark}" for remark in of.of_gaps() if remark != OF_SEVERAL]
                cells_of.setdefault(title, []).append((variant.name, column_of(used[0]), of_place))
    for title, table in tables.items():
        table.footnotes += footnotes(cells_of[title])
    result = list(tables.values())
    for table in result[:1]:
        table.notes += [*conflicts, *dict.fromkeys(notes)]
    return result


def set_table(of: GroupSet) -> Table:
    """The groups of a column and their largest gaps, of one method."""
    table = Table("", [of.column, *_headers(MEASURED)])
    for name, cells in _cells(of, MEASURED):
        table.add(name, cells)
    return table


def _place(run: Run) -> str:
    """Which test a run is, in words: "btmri few-shot, 16 shots"."""
    if run.kind == "transfer":
        words = [f"{run.source} -> {run.dataset}", column_of(run)]
    else:
        protocol = "few-shot" if run.kind == "few_shot" else "base2new"
        words = [f"{run.dataset} {protocol}", column_of(run)]
    return ", ".join([*words, *filter(None, [run.draw_title])])


def _sets(runs: Sequence[Run], metrics: Sequence[str], notes: list[str]) -> tuple[list[Run], list[GroupSet]]:
    """The runs that did not diverge and have the groups of the first of them, and their results by group."""
    used, seeds = list[Run](), list[Predictions]()
    for run in runs:
        if run.diverged:
            continue
        try:
            one = Predictions.load(run.path / "predictions.npz")
        except UserError as error:
            notes.append(f"{run.path} is in no table of groups: {str(error).rstrip('.')}.")
            continue
        if seeds and (one.images, one.subgroups) != (seeds[0].images, seeds[0].subgroups):
            notes.append(f"{run.path} has other images or groups than {used[0].path} and is in no table of groups.")
        else:
            used.append(run)
            seeds.append(one)
    return used, group_sets(seeds, metrics) if seeds else []


def _empty(title: str, runs: Sequence[Run], of: GroupSet, metrics: Sequence[str]) -> Table:
    percent = [find(name).title for name in metrics if find(name).unit]
    table = Table(title, ["method, group", *_headers(metrics)], datasets=(runs[0].dataset,))
    in_percent = f" In %: {', '.join(percent)}." if percent else ""
    table.caption = sentence(f"{INTERVALS} over {sampled(runs)} of the group") + in_percent + of_draw(runs)
    table.footnotes = [*of.of_groups(), *([OF_SEVERAL] if OF_SEVERAL in of.of_gaps() else []), *meaningless(runs)]
    return table


def _headers(metrics: Sequence[str]) -> list[str]:
    return ["images", "patients", *(find(name).title for name in metrics)]


def _cells(of: GroupSet, metrics: Sequence[str]) -> list[tuple[str, list[AnyCell]]]:
    """The rows of the groups and, if there is any, of the largest gaps, by name."""

    def counts(images: int, patients: int | None) -> list[AnyCell]:
        return [Cell(images, decimals=0), None if patients is None else Cell(patients, decimals=0)]

    rows = []
    for group in of.groups:
        cells = [Cell.of(group.values.get(name), decimals(find(name))) for name in metrics]
        rows.append((group.name, [*counts(group.images, group.patients), *cells]))
    gaps = [Cell.of(gap.interval, decimals(find(name))) if (gap := of.gaps.get(name)) else None for name in metrics]
    return [*rows, ("largest gap", [None, None, *gaps])] if any(gaps) else rows
