"""Published figures from published.json next to ours, only for the same data sets and definitions.

Two averages of HM are in use, which differ by one to two points: the HM of the mean base and novel accuracy ("HM of
means"), and the mean of the data sets' HM ("mean of HM"). Some tables mix them, so each definition has its own column.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import cast

from ogkd import evaluation
from ogkd.core import UserError, did_you_mean
from ogkd.evaluation.collect import Run
from ogkd.reports.cells import Cell, harmonic_mean, mean
from ogkd.reports.render import Row, Table
from ogkd.reports.tables import HM_OF_MEANS, MEAN_OF_HM, average
from ogkd.reports.variants import by_shots, shots_name, variants

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
    if name not in sources():
        guess, known = did_you_mean(name, list(sources())), ", ".join(sources())
        raise UserError(f"There is no published source {name!r}{guess}; there are {known}.")
    if sources()[name].backbone != backbone:
        raise UserError(f"The figures of {name} are for {sources()[name].backbone}, not for {backbone}.")
    return sources()[name]


def fitting_source(backbone: str, protocol: str, datasets: Sequence[str]) -> Source:
    """The source of averages that fits the runs: the largest whose data sets were all run, else the one with the most
    data sets run. Raises UserError if there is none for the backbone."""
    found = [s for s in sources().values() if s.backbone == backbone and s.sets[protocol] and averages(s, protocol)]
    found = [source for source in found if not by_dataset(source, protocol)] or found
    if not found:
        known = ", ".join(dict.fromkeys(source.backbone for source in sources().values()))
        raise UserError(f"No published averages for {backbone} are known; there are some for {known}.")
    run, sets = set(datasets), {source.name: set(source.sets[protocol] or ()) for source in found}
    return max(found, key=lambda source: (run >= sets[source.name], len(run & sets[source.name])))


def fitting_by_dataset(backbone: str, protocol: str) -> Source | None:
    """The source of figures per data set for a backbone; None if there is none."""
    found = [source for source in sources().values() if source.backbone == backbone and by_dataset(source, protocol)]
    return found[0] if found else None


def averages(source: Source, protocol: str) -> Figures:
    """A source's averages over its data sets, by method and column, computed from its figures per data set if any."""
    found: Figures = {}
    for entry in _content()["averages"]:
        if (entry["source"], entry["protocol"]) == (source.name, protocol):
            if protocol == "few_shot":
                columns = dict(zip(map(shots_name, entry["shots"]), entry["accuracy"], strict=True))
            else:
                columns = {"base": entry["base"], "novel": entry["novel"], DEFINITIONS[entry["hm_is"]]: entry["hm"]}
            found[entry["method"]] = columns
    of_sets = [] if found else list(by_dataset(source, protocol).values())
    for method in {method for figures in of_sets for method in figures}:
        found[method] = _averaged([figures[method] for figures in of_sets])
    return found


def _averaged(of_sets: Sequence[Mapping[str, float]]) -> dict[str, float]:
    result = {column: mean(*(figures[column] for figures in of_sets)) for column in of_sets[0]}
    if "HM" in result:
        result[MEAN_OF_HM] = result.pop("HM")
        result[HM_OF_MEANS] = harmonic_mean(result["base"], result["novel"])
    return result


def by_dataset(source: Source, protocol: str) -> dict[str, Figures]:
    """A source's figures per data set, as means over its seeds; {} if it has none. HM is the HM of the means."""
    found: dict[str, Figures] = {}
    for dataset, methods in by_seed(source, protocol).items():
        for method, of_seeds in methods.items():
            columns = {
                column: mean(*(figures[column] for figures in of_seeds.values() if column in figures))
                for column in dict.fromkeys(column for figures in of_seeds.values() for column in figures)
            }
            if protocol == "base2new":
                columns["HM"] = harmonic_mean(columns["base"], columns["novel"])
            found.setdefault(dataset, {})[method] = columns
    return found


def by_seed(source: Source, protocol: str) -> dict[str, dict[str, dict[int, dict[str, float]]]]:
    """A source's figures of single runs, {data set: {method: {seed: {column: percent}}}}; {} if it has none."""
    content = _content()["released_checkpoints"]
    found: dict = {}
    if content["source"] != source.name:
        return found
    for row in content["rows"]:
        facts = dict(zip(content["columns"][row[0]], row, strict=True))
        if facts["protocol"] != protocol:
            continue
        for part in PROTOCOLS[protocol]:
            column = shots_name(facts["shots"]) if protocol == "few_shot" else part
            of_method = found.setdefault(facts["dataset"], {}).setdefault(content["method"], {})
            of_method.setdefault(facts["seed"], {})[column] = facts[part]
    return found


def with_published(
    tables: Sequence[Table], runs: Sequence[Run], protocol: str, name: str = "", each: bool = False
) -> tuple[list[Table], list[str]]:
    """Accuracy tables per data set and their average, with published figures next to ours.

    Args:
        tables: the protocol's tables per data set. runs: their runs, all with one backbone.
        name: the source; by default the one that fits the runs, and for single data sets one that has them.
        each: whether to include a source's figures per data set and seed; those of a named source are always included.

    Returns the tables, and sentences on what the average leaves out or cannot be compared with.

    Raises:
        UserError: there is no such source, or none for the backbone.
    """
    backbone, datasets = runs[0].backbone, [name for table in tables for name in table.datasets]
    source = find_source(name, backbone) if name else fitting_source(backbone, protocol, datasets)
    per_set = source if name else fitting_by_dataset(backbone, protocol) if each else None
    figures = by_dataset(per_set, protocol) if per_set else {}
    result = []
    for table in tables:
        (dataset,) = table.datasets
        result.append(beside(table, figures[dataset], cast(Source, per_set)) if dataset in figures else table)
        seeds = seeds_beside(runs, per_set, protocol, dataset) if each and per_set else None
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
    result = replace(table, headers=table.headers[:1], rows=[replace(row, cells=[]) for row in table.rows], ranked=[])
    for place, name in enumerate(table.headers[1:]):
        added = [f"{name} published", *([f"{name} difference"] if comparable else [])] if name in known else []
        result.headers += [name, *added]
        result.ranked = [*result.ranked, table.ranked[place], *(False for _ in added)]
        for old, new in zip(table.rows, result.rows, strict=True):
            own, value = old.cells[place], None if old.variant else figures.get(old.method, {}).get(name)
            other = None if value is None else Cell(value)
            difference = Cell(own.mean - other.mean) if own and other else None
            new.cells += [own, other, difference][: 1 + len(added)]
    result.caption = f"{table.caption} {source.words}".strip()
    return result


def average_beside(table: Table, source: Source, protocol: str) -> tuple[Table, list[str]]:
    """The average accuracy table with a source's averages, and a sentence if the two are for different data sets."""
    sets, ours = source.sets[protocol], set(table.datasets)
    notes = []
    if sets is None:
        notes.append(f"{source.name} does not say which data sets it averages, so no differences are shown.")
    elif ours != set(sets):
        lacking = ", ".join(name for name in sets if name not in ours)
        notes.append(
            f"{source.name} averages over {len(sets)} data sets, of which ours lacks {lacking}: no differences "
            "are shown."
        )
    return beside(table, averages(source, protocol), source, comparable=not notes), notes


def seeds_beside(runs: Sequence[Run], source: Source, protocol: str, dataset: str) -> Table | None:
    """Our accuracies of single runs on one data set next to a source's; None if it has none for these runs.

    Only runs of methods as configured are shown.
    """
    parts = {"train_base": "base", "test_new": "novel"} if protocol == "base2new" else {"few_shot": None}
    figures = by_seed(source, protocol).get(dataset, {})
    rows: dict[str, dict[str, Cell]] = {}
    theirs: Figures = {}
    columns: dict[str, None] = {}
    for variant in variants([run for run in runs if run.dataset == dataset and run.kind in parts])[0]:
        if variant.label or variant.method not in figures:
            continue
        for run in sorted(variant.runs, key=lambda run: (by_shots(run.shots), run.kind == "test_new")):
            column = parts[run.kind] or shots_name(run.shots)
            published = figures[variant.method].get(run.seed, {})
            if column in published:
                name = f"{variant.title}, seed {run.seed}"
                rows.setdefault(name, {})[column] = Cell(run.results["accuracy"])
                theirs[name], columns[column] = published, None
    if not rows:
        return None
    title = f"{dataset} {protocol.replace('_', '-')}, by seed"
    table = Table(title, ["method", *columns], ranked=[False] * len(columns))
    table.caption = "Accuracy in % of single runs."
    table.rows = [
        Row(name, [cells.get(column) for column in columns], method=name) for name, cells in sorted(rows.items())
    ]
    return beside(table, theirs, source)
