"""Published figures from published.json next to ours, only for the same data sets and definitions.

Two averages of HM are in use, which differ by one to two points: the HM of the mean base and novel accuracy ("HM of
means"), and the mean of the data sets' HM ("mean of HM"). Some tables mix them, so each definition has its own column.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import chain
from pathlib import Path
from typing import cast

from ogkd import evaluation
from ogkd.core import UserError, did_you_mean
from ogkd.core.words import counted, listed
from ogkd.evaluation.methods import named
from ogkd.reports.cells import Cell, harmonic_mean, mean
from ogkd.reports.render import Row, Table
from ogkd.reports.tables import HM_OF_MEANS, MEAN_OF_HM, average
from ogkd.reports.variants import shots_name

FILE = Path(evaluation.__file__).with_name("published.json")
DEFINITIONS = {"HM of the means": HM_OF_MEANS, "mean of the sets' HM": MEAN_OF_HM}  # as the file calls them
PROTOCOLS = {"base2new": ("base", "novel"), "few_shot": ("accuracy",)}

Figures = dict[str, dict[str, float]]  # {method: {column: percent}}


@dataclass(frozen=True)
class Source:
    """Where figures were published.

    sets: the data sets of each protocol's averages; None if unknown.
    """

    name: str
    title: str
    repository: str
    commit: str
    backbone: str
    seeds: int
    sets: Mapping[str, Sequence[str] | None]
    note: str

    @property
    def words(self) -> str:
        """The source as a sentence."""
        note = f" Note: {self.note}." if self.note else ""
        return f"Published: {self.title}, {self.repository} at {self.commit[:7]}, {self.seeds} seeds.{note}"


@cache
def _content() -> dict:
    return json.loads(FILE.read_text(encoding="utf-8"))


@cache
def sources() -> dict[str, Source]:
    """All sources by name, in the file's order."""
    return {
        name: Source(
            name,
            **{key: facts[key] for key in ("title", "repository", "commit", "backbone", "seeds")},
            sets={protocol: facts.get(f"{protocol}_sets") for protocol in PROTOCOLS},
            note=facts.get("note", ""),
        )
        for name, facts in _content()["sources"].items()
    }


def find_source(name: str, backbone: str) -> Source:
    """The source with a name. Raises UserError if there is none, or it has another backbone."""
    source = sources().get(name)
    if source is None:
        guess, known = did_you_mean(name, list(sources())), ", ".join(sources())
        raise UserError(f"There is no published source {name!r}{guess}; there are {known}.")
    if source.backbone != backbone:
        raise UserError(f"The figures of {name} are for {source.backbone}, not for {backbone}.")
    return source


def fitting_source(backbone: str, protocol: str, datasets: Sequence[str]) -> Source:
    """The source of averages that fits the runs: the largest whose data sets were all run, else the one with the most
    data sets run. Raises UserError if there is none for the backbone."""
    of_backbone = [one for one in sources().values() if one.backbone == backbone and one.sets[protocol]]
    with_averages = [one for one in of_backbone if averages(one, protocol)]
    fitting = [one for one in with_averages if not by_dataset(one, protocol)] or with_averages
    if not fitting:
        known = ", ".join(dict.fromkeys(source.backbone for source in sources().values()))
        raise UserError(f"No published averages for {backbone} are known; there are some for {known}.")

    def fit(source: Source) -> tuple[bool, int]:
        sets = set(source.sets[protocol] or ())
        return set(datasets) >= sets, len(sets.intersection(datasets))

    return max(fitting, key=fit)


def averages(source: Source, protocol: str, datasets: Collection[str] = ()) -> Figures:
    """A source's averages over its data sets, by method and column; computed from its figures per data set if it has
    these, over those of `datasets`, by default all."""
    figures: Figures = {}
    for entry in _content()["averages"]:
        if (entry["source"], entry["protocol"]) == (source.name, protocol):
            if protocol == "few_shot":
                columns = dict(zip(map(shots_name, entry["shots"]), entry["accuracy"], strict=True))
            else:
                columns = {"base": entry["base"], "novel": entry["novel"], DEFINITIONS[entry["hm_is"]]: entry["hm"]}
            figures[named(entry["method"])] = columns
    of_sets = (
        [] if figures else [of for name, of in by_dataset(source, protocol).items() if name in datasets or not datasets]
    )
    for method in {method for of_set in of_sets for method in of_set}:
        figures[method] = columns = _means(of_set[method] for of_set in of_sets)
        if "HM" in columns:
            columns[MEAN_OF_HM] = columns.pop("HM")
            columns[HM_OF_MEANS] = harmonic_mean(columns["base"], columns["novel"])
    return figures


def by_dataset(source: Source, protocol: str) -> dict[str, Figures]:
    """A source's figures per data set, as means over its seeds; {} if it has none. HM is the HM of the means."""
    seeds: dict[str, dict[str, list[dict[str, float]]]] = {}
    for (dataset, method, _), columns in single_runs(source, protocol).items():
        seeds.setdefault(dataset, {}).setdefault(method, []).append(columns)
    figures = {name: {method: _means(of) for method, of in methods.items()} for name, methods in seeds.items()}
    for columns in (columns for of_set in figures.values() for columns in of_set.values()):
        if protocol == "base2new":
            columns["HM"] = harmonic_mean(columns["base"], columns["novel"])
    return figures


def single_runs(source: Source, protocol: str) -> dict[tuple[str, str, int], dict[str, float]]:
    """A source's figures of single runs, {(data set, method, seed): {column: percent}}; {} if it has none."""
    content, runs = _content()["released_checkpoints"], dict[tuple[str, str, int], dict[str, float]]()
    for row in content["rows"] if content["source"] == source.name else ():
        facts = dict(zip(content["columns"][row[0]], row, strict=True))
        if facts["protocol"] == protocol:
            columns = runs.setdefault((facts["dataset"], content["method"], facts["seed"]), {})
            for part in PROTOCOLS[protocol]:
                columns[shots_name(facts["shots"]) if protocol == "few_shot" else part] = facts[part]
    return runs


def _means(of_all: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each column over those that have it."""
    values: dict[str, list[float]] = {}
    for columns in of_all:
        for column, value in columns.items():
            values.setdefault(column, []).append(value)
    return {column: mean(*of_column) for column, of_column in values.items()}


def with_published(
    tables: Sequence[Table], backbone: str, protocol: str, name: str = "", each: bool = False
) -> tuple[list[Table], list[str]]:
    """Accuracy tables per data set and their average, with published figures next to ours.

    Args:
        tables: the protocol's tables per data set. backbone: that of their runs.
        name: the source; by default the one that fits the runs, and for single data sets one that has them.
        each: whether to include a source's figures per data set and seed; those of a named source are always included.

    Returns the tables, and sentences on what the average leaves out or cannot be compared with.

    Raises:
        UserError: there is no such source, or none for the backbone.
    """
    datasets = [name for table in tables for name in table.datasets]
    source = find_source(name, backbone) if name else fitting_source(backbone, protocol, datasets)
    with_sets = (one for one in sources().values() if one.backbone == backbone and by_dataset(one, protocol))
    per_set = source if name else next(with_sets, None) if each else None
    figures = by_dataset(per_set, protocol) if per_set else {}
    result = []
    for table in tables:
        (dataset,) = table.datasets
        result.append(beside(table, figures[dataset], cast(Source, per_set)) if dataset in figures else table)
        seeds = seeds_beside(table, per_set, protocol) if each and per_set else None
        result += [seeds] if seeds else []
    sets = source.sets[protocol]
    notes = [
        f"{table.title} is not in the average, as {source.name} does not include it."
        for table in tables
        if sets and not set(table.datasets) <= set(sets)
    ]
    shared = [table for table in tables if not sets or set(table.datasets) <= set(sets)]
    if shared:
        mean_table, left_out = average(shared, protocol)
        mean_table, different = average_beside(mean_table, source, protocol)
        result += [mean_table] if mean_table.rows else []
        notes += left_out + different
    return result, notes


def beside(table: Table, figures: Figures, source: Source, *, comparable: bool = True) -> Table:
    """The table with published figures and differences (ours minus published) next to the columns that have any.

    comparable: whether both are for the same data sets; if not, there are no differences.
    """
    known = {column for row in table.rows if not row.variant for column in figures.get(row.method, {})}
    if not known:
        return table
    added = ["published", *(["difference"] if comparable else [])]
    headers = [[name, *(f"{name} {what}" for what in added if name in known)] for name in table.headers]
    result = replace(table, headers=list(chain.from_iterable(headers)), rows=[])
    for row in table.rows:
        theirs = {} if row.variant else figures.get(row.method, {})
        cells = row.cells | {f"{name} published": Cell(value) for name, value in theirs.items()}
        for name, value in theirs.items():
            own = row.cells.get(name)
            cells[f"{name} difference"] = Cell(own.mean - value) if own else None
        result.rows.append(replace(row, cells=cells))
    banks = {bank: None for row in table.rows if row.method in figures and (bank := row.conditions.get("bank"))}
    ours = (
        f" Teacher sentences: {listed(banks, len(banks))} here, those of the papers in published runs." if banks else ""
    )
    result.caption = f"{table.caption} {source.words}{ours}".strip()
    return result


def average_beside(table: Table, source: Source, protocol: str) -> tuple[Table, list[str]]:
    """The average accuracy table with a source's averages, and a sentence if the two are for different data sets.

    Figures per data set are averaged over the data sets that both have.
    """
    sets, ours = source.sets[protocol], set(table.datasets)
    notes, shared = [], sorted(ours.intersection(sets or ()))
    if shared and by_dataset(source, protocol) and ours <= set(sets or ()):
        sentence = f" Published figures are of the same {counted(len(shared), 'data set')}."
        table = replace(table, caption=table.caption + sentence)
        return beside(table, averages(source, protocol, shared), source), []
    if sets is None:
        notes.append(f"{source.name} does not say which data sets it averages, so no differences are shown.")
    elif ours != set(sets):
        lacking = ", ".join(name for name in sets if name not in ours)
        notes.append(
            f"{source.name} averages over {len(sets)} data sets, of which ours lacks {lacking}: no differences "
            "are shown."
        )
    return beside(table, averages(source, protocol), source, comparable=not notes), notes


def seeds_beside(table: Table, source: Source, protocol: str) -> Table | None:
    """The accuracies of single runs of methods as configured in a data set's table next to a source's; None if it has
    none for these runs."""
    (dataset,), published = table.datasets, single_runs(source, protocol)
    rows: dict[str, dict[str, Cell]] = {}
    theirs: Figures = {}
    for row in (row for row in table.rows if not row.variant):
        for column, run in ((column, run) for column, runs in row.runs.items() for run in runs if not run.diverged):
            figures = published.get((dataset, row.method, run.seed), {})
            if column in figures:
                name = f"{row.name}, seed {run.seed}"
                rows.setdefault(name, {})[column] = Cell(run.results["accuracy"])
                theirs[name] = figures
    columns = [header for header in table.headers[1:] if any(header in cells for cells in rows.values())]
    if not rows:
        return None
    title = f"{dataset} {protocol.replace('_', '-')}, by seed"
    result = Table(title, ["method", *columns], caption="Accuracy in % of single runs.")
    result.rows = [Row(name, {**cells}, method=name) for name, cells in sorted(rows.items())]
    return beside(result, theirs, source)
