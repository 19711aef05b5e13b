"""Tables of the two protocols: per data set, and averaged over data sets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain

from ogkd.core import UserError
from ogkd.data.sampling import BY_SHARE, MISSING
from ogkd.evaluation.collect import Run
from ogkd.evaluation.doubts import about_run, counts_of, imbalanced
from ogkd.evaluation.limits import MEANINGLESS, meaningless
from ogkd.evaluation.methods import order
from ogkd.evaluation.metrics import Metric, find
from ogkd.evaluation.tested import sampled, tested_on
from ogkd.reports.cells import Cell, Values, cell, combined, harmonic_mean, mean
from ogkd.reports.render import Row, Table
from ogkd.reports.variants import KINDS, Variant, by_shots, column_of, shots_name, variants

HM_OF_MEANS, MEAN_OF_HM = "HM of means", "mean of HM"  # the two averages of HM
DISPERSION = "mean ± population standard deviation over seeds"
INTERVALS = "mean over seeds with its 95 % interval"
BALANCED = "balanced, "  # begins the header of a column of balanced accuracy beside one of accuracy


def base2new_tables(
    runs: Sequence[Run], metric: str = "accuracy", seconds: bool = False, intervals: bool = False
) -> list[Table]:
    """One table per data set, one row per variant: base, novel and, for percentages where higher is better, their HM.

    All runs must have the same backbone; base and novel in a row have the same configuration, data and weights. Runs of
    other protocols are ignored. Runs that diverged are left out of means: a footnote lists them, and a cell without
    other runs says so. `intervals`: show intervals over test images (patients, where they are known) instead of the
    deviation over seeds. Where classes are imbalanced, columns of balanced accuracy lead a table of accuracies.

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
    return _tables("base2new", rows, notes, find(metric), seconds, intervals)


def few_shot_tables(
    runs: Sequence[Run], metric: str = "accuracy", seconds: bool = False, intervals: bool = False
) -> list[Table]:
    """One table per data set. One column per shot count, one row per variant; see `base2new_tables`."""
    of_rows, notes = variants(of_kinds(runs, "few_shot"))
    rows = []
    for variant in of_rows:
        numbers = {run.shots for other in of_rows if other.dataset == variant.dataset for run in other.runs}
        columns = [shots_name(number) for number in sorted(numbers, key=by_shots)]
        rows.append((variant, {column: variant.in_column(column) for column in columns}))
    return _tables("few-shot", rows, notes, find(metric), seconds, intervals)


TABLES = {"base2new": base2new_tables, "few_shot": few_shot_tables}


def _tables(
    protocol: str,
    rows: Sequence[tuple[Variant, dict[str, list[Run]]]],
    notes: list[str],
    metric: Metric,
    seconds: bool,
    intervals: bool,
) -> list[Table]:
    """The tables by data set; notes on all of them are attached to the first.

    rows: the runs of each column of a variant.
    """
    drawn = {run.drawn for _, columns in rows for runs in columns.values() for run in runs}
    title = ", ".join([protocol, *filter(None, drawn)])
    values, tables = Values(metric.name, intervals), dict[str, Table]()
    balanced = Values("balanced_accuracy", intervals)
    more = [*(["HM"] if protocol == "base2new" and has_hm(metric) else []), *(["seconds"] if seconds else [])]
    for variant, columns in rows:
        headers = ["method", *columns, *more]
        table = tables.setdefault(variant.dataset, Table(f"{variant.dataset} {title}", headers))
        cells = [values.cell(runs) for runs in columns.values()]
        if "HM" in more:
            cells.append(combined(harmonic_mean, *cells))
        if seconds:
            took = cell(_seconds(columns))
            cells.append(took and Cell(took.mean))
        table.rows.append(Row(variant.name, cells, variant.method, variant.key, columns))
        for header, runs in columns.items():  # the novel column marks what diverged on the base classes without a note
            table.footnotes += footnotes(
                variant.name, header, [run for run in runs if header != "novel" or run.kind == "test_new"]
            )
    for dataset, table in tables.items():
        several = any(cell and cell.seeds > 1 for row in table.rows for cell in row.cells)
        columns = {header: [run for row in table.rows for run in row.runs.get(header, ())] for header in table.headers}
        every = [run for runs in columns.values() for run in runs]
        over = f"{INTERVALS} over {sampled(every)}"
        spread = f", {over}" if intervals else f", {DISPERSION}" if several else ""
        table.caption, table.sample = f"{in_words(metric)}{spread}.{of_draw(every)}", tested_on(columns)
        table.footnotes += meaningless(every)
        table.ranked, table.datasets = [name != "seconds" for name in table.headers[1:]], (dataset,)
        table.lower, table.decimals = metric.lower_is_better, decimals(metric)
        if metric.name == "accuracy":
            if any(run.drawn or imbalanced(counts_of(run)[0]) for run in every):
                tables[dataset] = table = _led_by_balanced_accuracy(table, columns, balanced)
            table.footnotes += _below_the_commonest(table, columns)
    ordered = [tables[dataset] for dataset in sorted(tables)]
    for table in ordered[:1]:
        table.notes += notes + values.notes() + balanced.notes() + _uneven(rows)
    return ordered


def _led_by_balanced_accuracy(table: Table, columns: dict[str, list[Run]], values: Values) -> Table:
    """The table with a column of balanced accuracy, which decides what is best, before each column of accuracy."""
    for row in table.rows:
        cells = [values.cell(row.runs[header]) if header in row.runs else None for header in table.headers[1:]]
        if "HM" in table.headers:
            cells[2] = combined(harmonic_mean, *cells[:2])
        row.cells = list(chain.from_iterable(zip(cells, row.cells, strict=True)))
    headers = list(chain.from_iterable((f"{BALANCED}{header}", header) for header in table.headers[1:]))
    table = replace(
        table, balanced=True, headers=[table.headers[0], *headers], ranked=[True, False] * (len(headers) // 2)
    )
    if table.headers[-1] == "seconds":
        table = _without(table, [f"{BALANCED}seconds"])
    some = [run for runs in columns.values() for run in runs[:1]]
    shares = {text for run in some if (text := _commonest(run))}
    table.caption += (
        " Methods are ranked by balanced accuracy, the mean over classes of the share of their images that are "
        "predicted correctly"
    )
    table.caption += f", since classes are imbalanced: {'; '.join(sorted(shares))}." if shares else "."
    return table


def of_draw(runs: Sequence[Run]) -> str:
    """A sentence on training images that are not equally many of each class; "" if they are."""
    run = next((run for run in runs if run.drawn), None)
    if run is None:
        return ""
    least = "a class may have none" if run.draw == MISSING else "each class has one or more"
    return f" Training images are {BY_SHARE} ({run.drawn}): shots are images per class on average, and {least}."


def led_by(table: Table, balanced: bool) -> Table:
    """The table with its columns of balanced accuracy, under the headers of those of accuracy, or with the latter only.

    A table without columns of balanced accuracy is as it was.
    """
    if not table.balanced:
        return table
    led = [header for header in table.headers[1:] if header.startswith(BALANCED)]
    if not balanced:
        accuracy = _without(table, led)
        return replace(accuracy, ranked=[header != "seconds" for header in accuracy.headers[1:]], balanced=False)
    result = _without(table, [header for header in table.headers[1:] if header not in led])
    return replace(result, headers=[header.removeprefix(BALANCED) for header in result.headers], balanced=False)


def _without(table: Table, headers: Sequence[str]) -> Table:
    """The table without the columns with these headers."""
    places = [place for place, header in enumerate(table.headers[1:]) if header not in headers]
    return replace(
        table,
        headers=[table.headers[0], *(table.headers[1:][place] for place in places)],
        rows=[replace(row, cells=[row.cells[place] for place in places]) for row in table.rows],
        ranked=[table.ranked[place] for place in places],
    )


def _commonest(run: Run) -> str:
    """The commonest class of a run's test images: "98.0 % of the images are normal"."""
    counts, names = counts_of(run)
    images = [sum(row) for row in counts]
    if not sum(images):
        return ""
    return f"{100 * max(images) / sum(images):.1f} % of the images are “{names[images.index(max(images))]}”"


def _below_the_commonest(table: Table, columns: dict[str, list[Run]]) -> list[str]:
    """Sentences on columns whose best method is right less often than always naming the commonest class would be."""
    sentences = []
    leading, accuracies = led_by(table, True), led_by(table, False)
    for place, header in enumerate(accuracies.headers[1:]):
        counts, names = next((found for run in columns.get(header, ()) if (found := counts_of(run))[0]), ([], []))
        images = [sum(row) for row in counts]
        rows = zip(leading.rows, accuracies.rows, strict=True)
        cells = [(led.cells[place], row.cells[place], row.name) for led, row in rows]
        sound = [(led.mean, cell.mean, name) for led, cell, name in cells if led and cell and not led.doubtful]
        every = sound or [(cell.mean, cell.mean, name) for _, cell, name in cells if cell]
        _, value, name = max(every, default=(0.0, 0.0, ""))
        if not name or sum(map(bool, images)) < 2:
            continue
        share = 100 * max(images) / sum(images)
        if round(value, table.decimals) <= round(share, table.decimals):
            which = "the best" if sound else "no method is better than one answer for all images; the most accurate"
            sentences.append(
                f"{header}: {which}, {name}, has an accuracy of {value:.1f} %; always answering "
                f"“{names[images.index(max(images))]}” has {share:.1f} %."
            )
    return sentences


def in_words(metric: Metric, percent: str = "%") -> str:
    """The metric with its unit, to begin a sentence: "Accuracy in %"; `percent` is "points" for differences."""
    return f"{metric.title[:1].upper()}{metric.title[1:]}" + (f" in {percent}" if metric.unit else "")


def has_hm(metric: Metric) -> bool:
    """Whether base and novel values have an HM: percentages where higher is better."""
    return metric.unit == "%" and not metric.lower_is_better


def average(tables: Sequence[Table], protocol: str) -> tuple[Table, list[str]]:
    """Means over the data sets that all rows have, and a sentence for each data set or row that is left out.

    base and novel are arithmetic means. HM has two definitions with one column each: the HM of these means, and the
    mean of the data sets' HM. If a variant lacks a data set that all methods as configured have, the variant is left
    out, not the data set.

    Raises:
        UserError: there are no tables.
    """
    if not tables:
        raise UserError("There are no tables to average: no run of this protocol is finished.")
    tables = [led_by(table, False) for table in tables]
    rows = {row.key: row for table in tables for row in table.rows}
    needed = {key for key in rows if not key[1]} or set(rows)
    complete = [t for t in tables if {row.key for row in t.rows} >= needed and t.headers == tables[0].headers]
    by_key = [{row.key: row for row in table.rows} for table in complete]
    shared = [key for key in rows if by_key and all(key in of_table for of_table in by_key)]
    limits = list(dict.fromkeys(note for table in tables for note in table.footnotes if note == MEANINGLESS))
    of_rows = [run for row in tables[0].rows for runs in row.runs.values() for run in runs]
    title = ", ".join(["average " + protocol, *filter(None, {run.drawn for run in of_rows})])
    result = replace(tables[0], title=title, rows=[], sample="", footnotes=limits, notes=[])
    what = re.split(r"[,.]", tables[0].caption, maxsplit=1)[0]
    overs = dict.fromkeys(re.findall(rf"{INTERVALS} over ([\w ]+)", " ".join(table.caption for table in tables)))
    spread = f" with 95 % intervals over their {' or '.join(overs)}" if overs else ""
    sets = f"{len(complete)} data set{'s' if len(complete) != 1 else ''}"
    result.caption = f"{what}, means over {sets}{spread}.{of_draw(of_rows)}"
    result.datasets = tuple(name for table in complete for name in table.datasets)
    if "HM" in result.headers:
        place = result.headers.index("HM")
        result.headers = [*result.headers[:place], HM_OF_MEANS, MEAN_OF_HM, *result.headers[place + 1 :]]
        result.ranked = [*result.ranked[:place], *result.ranked[place - 1 :]]
    for key in sorted(shared, key=lambda key: (*order(key[0]), rows[key].name)):
        columns = [
            combined(mean, *column) for column in zip(*(of_table[key].cells for of_table in by_key), strict=True)
        ]
        if HM_OF_MEANS in result.headers:
            columns.insert(2, combined(harmonic_mean, *columns[:2]))
        result.rows.append(replace(rows[key], cells=columns))
    finished = "method" if protocol == "base2new" else "method and number of shots"
    left_out = [table.title for table in tables if table not in complete]
    notes = [f"{title} is not in the average, as not every {finished} is finished on it." for title in left_out]
    if complete:
        lacking = [row.name for key, row in rows.items() if key not in shared]
        notes += [f"{name} is not in the average, as it was not run on every data set there." for name in lacking]
    return result, notes


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


def footnotes(name: str, column: str, runs: Sequence[Run]) -> list[str]:
    """Problems with a cell's runs: that they diverged, or a doubt, recorded or about their answers."""
    reasons: dict[str, list[int]] = {}
    for run in runs:
        recorded = run.results.get("warnings") or []
        for doubt in ["diverged"] if run.diverged else dict.fromkeys([*recorded, *about_run(run)]):
            reasons.setdefault(doubt, []).append(run.seed)
    sentences = []
    for reason, seeds in reasons.items():
        which = f"{'seed' if len(seeds) == 1 else 'seeds'} {_listed(seeds)}"
        if reason == "diverged":
            reason = f"{len(seeds)} of {len(runs)} run{'s' if len(runs) > 1 else ''} diverged"
        sentences.append(f"{name}, {column}: {reason} ({which}).")
    return sentences


def _uneven(rows: Sequence[tuple[Variant, dict[str, list[Run]]]]) -> list[str]:
    """Sentences on cells that lack seeds that other cells have."""
    cells = [(variant, runs, {run.seed for run in runs}) for variant, columns in rows for runs in columns.values()]
    every = set().union(*(seeds for *_, seeds in cells))
    return [
        f"{_what(variant, runs)} has seeds {_listed(seeds)}, others have {_listed(every)}."
        for variant, runs, seeds in cells
        if runs and seeds != every
    ]


def _what(variant: Variant, runs: Sequence[Run]) -> str:
    """The cell that the runs belong to, in words."""
    protocol = "few-shot " if runs[0].kind == "few_shot" else ""
    return f"{variant.name} on {variant.dataset}, {protocol}{column_of(runs[0])},"


def _listed(seeds: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(seeds)))


def _seconds(columns: dict[str, list[Run]]) -> list[float]:
    """Seconds of each finished run; for base-to-novel those of a seed, its training and its novel test."""
    novel = columns.get("novel", [])
    return [
        run.results["seconds"] + sum(other.results["seconds"] for other in novel if other.seed == run.seed)
        for name, runs in columns.items()
        for run in runs
        if name != "novel" and not run.diverged
    ]
