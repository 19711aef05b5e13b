"""Tables of the two protocols: per data set, and averaged over data sets."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain

from ogkd.core import UserError
from ogkd.core.words import counted, listed
from ogkd.data.sampling import BY_SHARE, MISSING
from ogkd.evaluation.collect import Run
from ogkd.evaluation.doubts import counts_of, imbalanced
from ogkd.evaluation.limits import MEANINGLESS, meaningless
from ogkd.evaluation.methods import order
from ogkd.evaluation.metrics import OF_FEW_IMAGES, Metric, find
from ogkd.evaluation.tested import sampled, tested_on
from ogkd.reports.cells import AnyCell, Cell, Values, cell, combined, harmonic_mean, mean
from ogkd.reports.footnotes import footnotes, names_of, seeds_of
from ogkd.reports.render import Row, Table
from ogkd.reports.variants import KINDS, Variant, by_shots, column_of, shots_name, variants

Key = tuple[str, str]  # of a row
HM_OF_MEANS, MEAN_OF_HM = "HM of means", "mean of HM"  # the two averages of HM
OF_BALANCED = "Classes are imbalanced: --metric balanced_accuracy shows the averages of that."
DISPERSION = "mean ± population standard deviation over seeds"
INTERVALS = "mean over seeds with its 95 % interval"
BALANCED = "balanced, "  # begins the header of a column of balanced accuracy beside one of accuracy


def base2new_tables(
    runs: Sequence[Run], metric: str = "accuracy", seconds: bool = False, intervals: bool = False, draws: int = 0
) -> list[Table]:
    """One table per data set, one row per variant: base, novel and, for percentages where higher is better, their HM.

    All runs must have the same backbone; base and novel in a row have the same configuration, data and weights. Runs of
    other protocols are ignored. Runs that diverged are left out of means: a footnote lists them, and a cell without
    other runs says so. `intervals`: show intervals over test images (patients, where they are known) instead of the
    deviation over seeds; with `draws`, cells have both. Where classes are imbalanced, columns of balanced accuracy lead
    a table of accuracies.

    Raises:
        UserError: there are several backbones, or the metric is unknown.
    """
    of_rows, notes = variants(of_kinds(runs, *KINDS["base2new"]))
    notes += [
        f"{run.path} was trained on the novel classes, so it is left out: they must be new to a run."
        for run in runs
        if run.kind == "train_new"
    ]
    rows = []
    for variant in of_rows:
        base, novel = variant.in_column("base"), variant.in_column("novel")
        # A run that diverged on the base classes has no novel test; it records whether it would have had one.
        novel = [*novel, *(run for run in base if run.diverged and run.results.get("novel", True))]
        if base:
            rows.append((variant, {"base": base, "novel": novel}))
        else:
            notes.append(f"{_what(variant, novel)} is left out: the run on the base classes is missing.")
    return _tables("base2new", rows, notes, find(metric), seconds, intervals, draws)


def few_shot_tables(
    runs: Sequence[Run], metric: str = "accuracy", seconds: bool = False, intervals: bool = False, draws: int = 0
) -> list[Table]:
    """One table per data set. One column per shot count, one row per variant; see `base2new_tables`."""
    of_rows, notes = variants(of_kinds(runs, "few_shot"))
    rows = []
    for variant in of_rows:
        numbers = {run.shots for other in of_rows if other.dataset == variant.dataset for run in other.runs}
        columns = [shots_name(number) for number in sorted(numbers, key=by_shots)]
        rows.append((variant, {column: variant.in_column(column) for column in columns}))
    return _tables("few-shot", rows, notes, find(metric), seconds, intervals, draws)


TABLES = {"base2new": base2new_tables, "few_shot": few_shot_tables}


def _tables(
    protocol: str,
    rows: Sequence[tuple[Variant, dict[str, list[Run]]]],
    notes: list[str],
    metric: Metric,
    seconds: bool,
    intervals: bool,
    draws: int,
) -> list[Table]:
    """The tables by data set; notes on all of them are attached to the first.

    rows: the runs of each column of a variant.
    """
    draw_titles = {run.draw_title for _, columns in rows for runs in columns.values() for run in runs}
    title = ", ".join([protocol, *filter(None, draw_titles)])
    values, tables = Values(metric.name, intervals, draws), dict[str, Table]()
    balanced = Values("balanced_accuracy", intervals, draws)
    more = [*(["HM"] if protocol == "base2new" and has_hm(metric) else []), *(["seconds"] if seconds else [])]
    for variant, columns in rows:
        table = tables.setdefault(variant.dataset, Table(f"{variant.dataset} {title}", ["method", *columns, *more]))
        cells = {header: values.cell(runs) for header, runs in columns.items()}
        row = Row(variant.name, cells, variant.method, variant.key, columns)
        if "HM" in more:
            row.paired = values.paired(*columns.values())
            row.cells["HM"] = combined(harmonic_mean, *row.paired)
        if seconds:
            took = cell(_seconds(columns))
            row.cells["seconds"] = took and Cell(took.mean)
        table.rows.append(row)
    for dataset, table in tables.items():
        several = any(cell and cell.seeds > 1 for row in table.rows for cell in row.cells.values())
        columns = {header: [run for row in table.rows for run in row.runs.get(header, ())] for header in table.headers}
        every = [run for runs in columns.values() for run in runs]
        over = f"{INTERVALS} over {sampled(every)}"
        spread = f", {over}" if intervals else f", {DISPERSION}" if several else ""
        table.caption, table.sample = f"{in_words(metric)}{spread}.{of_draw(every)}", tested_on(columns)
        table.ranked, table.datasets = [name for name in table.headers[1:] if name != "seconds"], (dataset,)
        table.lower, table.decimals = metric.lower_is_better, decimals(metric)
        of_cells = [(row.name, header, runs) for row in table.rows for header, runs in row.runs.items()]
        one_answer: dict[str, list[str]] = {}
        if metric.name == "accuracy":
            if any(run.draw_title or imbalanced(counts_of(run)[0]) for run in every):
                _lead_by_balanced_accuracy(table, columns, balanced)
            one_answer = _below_the_commonest(table, columns)
        table.footnotes += footnotes(of_cells, set(chain.from_iterable(one_answer.values()))) + meaningless(every)
        table.footnotes += [OF_FEW_IMAGES] if metric.inflated else []
        table.footnotes += [*(_about_hm(table.rows) if "HM" in more else []), *one_answer]
    ordered = [tables[dataset] for dataset in sorted(tables)]
    for table in ordered[:1]:
        table.notes += notes + values.notes() + balanced.notes()
    return ordered


def _lead_by_balanced_accuracy(table: Table, columns: dict[str, list[Run]], values: Values) -> None:
    """Put a column of balanced accuracy, which decides what is best, before each column of accuracy."""
    for row in table.rows:
        cells = {header: values.cell(runs) for header, runs in row.runs.items()}
        if "HM" in table.headers:
            cells["HM"] = combined(harmonic_mean, *values.paired(*row.runs.values()))
        row.cells |= {f"{BALANCED}{header}": cell for header, cell in cells.items()}
    pairs = [[f"{BALANCED}{header}", header] if header in table.ranked else [header] for header in table.headers]
    table.headers, table.balanced = list(chain.from_iterable(pairs)), True
    table.ranked = [f"{BALANCED}{header}" for header in table.ranked]
    some = [run for runs in columns.values() for run in runs[:1]]
    shares = {text for run in some if (text := _commonest(run))}
    table.caption += (
        " Methods are ranked by balanced accuracy, the mean over classes of the share of their images that are "
        "predicted correctly"
    )
    table.caption += f", since classes are imbalanced: {'; '.join(sorted(shares))}." if shares else "."


def of_draw(runs: Sequence[Run]) -> str:
    """A sentence on training images that are not equally many of each class; "" if they are."""
    run = next((run for run in runs if run.draw_title), None)
    if run is None:
        return ""
    least = "a class may have none" if run.draw == MISSING else "each class has one or more"
    return f" Training images are {BY_SHARE} ({run.draw_title}): shots are images per class on average, and {least}."


def led_by(table: Table, balanced: bool) -> Table:
    """The table with its columns of balanced accuracy, under the headers of those of accuracy, or with the latter only.

    A table without columns of balanced accuracy is as it was.
    """
    if not table.balanced:
        return table
    measured = [header.removeprefix(BALANCED) for header in table.ranked]
    if not balanced:
        headers = [header for header in table.headers if header not in table.ranked]
        return replace(table, headers=headers, ranked=measured, balanced=False)
    rows = [replace(row, cells={header: row.cells[f"{BALANCED}{header}"] for header in measured}) for row in table.rows]
    return replace(table, headers=[table.headers[0], *measured], rows=rows, ranked=measured, balanced=False)


def _commonest(run: Run) -> str:
    """The commonest class of a run's test images: "98.0 % of the images are normal"."""
    counts, names = counts_of(run)
    images = [sum(row) for row in counts]
    if not sum(images):
        return ""
    return f"{100 * max(images) / sum(images):.1f} % of the images are “{names[images.index(max(images))]}”"


def _below_the_commonest(table: Table, columns: dict[str, list[Run]]) -> dict[str, list[str]]:
    """Sentences on columns whose best method is right less often than always naming the commonest class would be, with
    their columns."""
    where: dict[tuple[str, str], dict[str, str]] = {}  # {(the best, the commonest class): {column: accuracy}}
    leading, accuracies = led_by(table, True), led_by(table, False)
    for header in accuracies.ranked:
        counts, names = next((found for run in columns.get(header, ()) if (found := counts_of(run))[0]), ([], []))
        images = [sum(row) for row in counts]
        if sum(map(bool, images)) < 2:  # also HM, which is no column of runs
            continue
        rows = zip(leading.rows, accuracies.rows, strict=True)
        cells = [(led.cells[header], row.cells[header], row.name) for led, row in rows]
        sound = [(led.mean, cell.mean, name) for led, cell, name in cells if led and cell and not led.doubtful]
        every = sound or [(cell.mean, cell.mean, name) for _, cell, name in cells if cell]
        _, value, name = max(every, default=(0.0, 0.0, ""))
        if not name:
            continue
        share = 100 * max(images) / sum(images)
        if round(value, table.decimals) <= round(share, table.decimals):
            which = "the best" if sound else "no method is better than one answer for all images; the most accurate"
            always = f"always answering “{names[images.index(max(images))]}” has {share:.1f} %."
            where.setdefault((f"{which}, {name}", always), {})[header] = f"{value:.1f}"
    return {
        f"{listed(of, len(of))}: {best}, has an accuracy of {listed(of.values(), len(of))} %; {always}": list(of)
        for (best, always), of in where.items()
    }


def in_words(metric: Metric, percent: str = "%") -> str:
    """The metric with its unit, to begin a sentence: "Accuracy in %"; `percent` is "points" for differences."""
    return f"{metric.title[:1].upper()}{metric.title[1:]}" + (f" in {percent}" if metric.unit else "")


def has_hm(metric: Metric) -> bool:
    """Whether base and novel values have an HM: percentages where higher is better."""
    return metric.unit == "%" and not metric.lower_is_better


def average(tables: Sequence[Table], protocol: str) -> tuple[Table, list[str]]:
    """Means over the data sets that all methods as configured share, and a sentence for each data set, column or row
    that is left out.

    Every column is of the same data sets: of all choices of columns with the data sets that have them for every method,
    the one with the most numbers. base and novel are arithmetic means. HM has two definitions with one column each: the
    HM of these means, and the mean of the data sets' HM. If a variant lacks a data set that all methods as configured
    have, the variant is left out, not the data set.

    Raises:
        UserError: there are no tables.
    """
    if not tables:
        raise UserError("There are no tables to average: no run of this protocol is finished.")
    balanced = any(table.balanced for table in tables)
    tables = [led_by(table, False) for table in tables]
    rows = {row.key: row for table in tables for row in table.rows}
    cells = [{row.key: row.cells for row in table.rows} for table in tables]
    places, chosen, notes = _shared(tables, rows, cells)
    averaged = [tables[place] for place in sorted(places)]
    limits = list(dict.fromkeys(note for table in tables for note in table.footnotes if note == MEANINGLESS))
    limits += [OF_BALANCED] if balanced else []
    datasets = tuple(name for table in averaged for name in table.datasets)
    of_rows = [run for row in tables[0].rows for runs in row.runs.values() for run in runs]
    title = ", ".join(["average " + protocol, *filter(None, {run.draw_title for run in of_rows})])
    result = replace(
        tables[0], title=title, headers=["method", *chosen], rows=[], sample="", footnotes=limits,
        notes=[], datasets=datasets,
    )  # fmt: skip
    what = re.split(r"[,.]", tables[0].caption, maxsplit=1)[0]
    overs = dict.fromkeys(re.findall(rf"{INTERVALS} over ([\w ]+)", " ".join(table.caption for table in tables)))
    spread = f" with 95 % intervals over their {' or '.join(overs)}" if overs else ""
    result.caption = (
        f"{what}, means over {counted(len(datasets), 'data set')} ({', '.join(datasets)}){spread}.{of_draw(of_rows)}"
    )
    of_hm = "HM" in chosen
    if any(_about_hm(table.rows) for table in averaged if of_hm):
        result.footnotes.append("Each HM is of the seeds that base and novel both have on a data set.")
    if of_hm:
        at = result.headers.index("HM")
        result.headers[at : at + 1] = [HM_OF_MEANS, MEAN_OF_HM]
    result.ranked = [name for name in result.headers[1:] if name != "seconds"]
    for key in sorted(rows, key=lambda key: (*order(key[0]), rows[key].name)):
        of_key = [row for table in averaged for row in table.rows if row.key == key]
        if len(of_key) < len(averaged):
            notes.append(f"{rows[key].name} is not in the average, as it was not run on every data set there.")
            continue
        columns = {name: combined(mean, *(row.cells.get(name) for row in of_key)) for name in chosen}
        if of_hm:
            means = [combined(mean, *of) for of in zip(*(row.paired for row in of_key), strict=True)]
            columns |= {HM_OF_MEANS: combined(harmonic_mean, *means), MEAN_OF_HM: columns.pop("HM")}
        runs = {name: [run for row in of_key for run in row.runs.get(name, ())] for name in chosen}
        result.rows.append(replace(rows[key], cells=columns, runs=runs, paired=[]))
    return (result, notes) if averaged else (replace(result, rows=[]), notes[: len(tables)])


def _shared(
    tables: Sequence[Table], rows: Mapping[Key, Row], cells: Sequence[Mapping[Key, Mapping[str, AnyCell]]]
) -> tuple[set[int], list[str], list[str]]:
    """The places of the tables, and the columns, that `average` is over, and sentences on those that it leaves out.

    rows: one of each key. cells: those of each table by key and header.
    """
    shots = {header: run.shots for t in tables for row in t.rows for header, of in row.runs.items() for run in of}
    headers = list(dict.fromkeys(header for table in tables for header in table.headers[1:]))
    headers.sort(key=lambda name: by_shots(shots[name]) if name in shots else math.inf)  # base and novel have the same
    needed = {key for key in rows if not key[1]} or set(rows)
    having = {
        name: [key for key in needed if any(of.get(key, {}).get(name) is not None for of in cells)] for name in headers
    }

    def lacking(place: int, header: str) -> list[str]:
        """The methods that have a number in the column on other data sets only."""
        return [rows[key].name for key in having[header] if cells[place].get(key, {}).get(header) is None]

    complete = {
        header: {place for place in range(len(tables)) if having[header] and not lacking(place, header)}
        for header in headers
    }
    blocks = [(of, [name for name in headers if of <= complete[name]]) for of in complete.values() if of]
    places, chosen = max(blocks, key=lambda block: len(block[0]) * len(block[1]), default=(set[int](), list[str]()))
    absent = {
        table.title: {name for header in chosen or headers for name in lacking(place, header)}
        for place, table in enumerate(tables)
        if place not in places
    }
    notes = [
        f"{title} is not in the average, as it lacks {names_of(sorted(of))}." for title, of in absent.items() if of
    ]
    notes += [
        f"{header} is not in the average, as fewer data sets have it for all methods."
        for header in headers
        if chosen and header not in chosen
    ]
    return places, chosen, notes


def of_kinds(runs: Sequence[Run], *kinds: str) -> list[Run]:
    """The runs of these kinds. Raises UserError if they have several backbones or draws of training images."""
    chosen = [run for run in runs if run.kind in kinds]
    for what in ("backbone", "draw"):
        several = sorted({getattr(run, what) for run in chosen})
        if len(several) > 1:
            raise UserError(f"There are runs with several {what}s: choose one of {', '.join(several)} with --{what}.")
    return chosen


def decimals(metric: Metric) -> int:
    """Digits after the decimal point for a metric."""
    return 2 if metric.unit else 3


def _about_hm(rows: Sequence[Row]) -> list[str]:
    """Sentences on rows whose base and novel classes were not tested with the same seeds."""
    of_rows: dict[str, list[str]] = {}
    for row in rows:
        base, novel = ({run.seed for run in runs if not run.diverged} for runs in row.runs.values())
        if base and novel and base != novel:
            both = (
                f"of {seeds_of(base & novel)}, which base and novel both have"
                if base & novel
                else "missing, as base and novel have no seed in common"
            )
            of_rows.setdefault(both, []).append(row.name)
    return [f"The HM of {names_of(names)} is {both}." for both, names in of_rows.items()]


def _what(variant: Variant, runs: Sequence[Run]) -> str:
    """The cell that the runs belong to, in words."""
    protocol = "few-shot " if runs[0].kind == "few_shot" else ""
    return f"{variant.name} on {variant.dataset}, {protocol}{column_of(runs[0])},"


def _seconds(columns: dict[str, list[Run]]) -> list[float]:
    """Seconds of each finished run; for base-to-novel those of a seed, its training and its novel test."""
    novel = columns.get("novel", [])
    return [
        run.results["seconds"] + sum(other.results["seconds"] for other in novel if other.seed == run.seed)
        for name, runs in columns.items()
        for run in runs
        if name != "novel" and not run.diverged
    ]
