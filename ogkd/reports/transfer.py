"""Tables of the transfer protocol: trained on one data set, tested on another, always with intervals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from ogkd.data.duplicates import overlap
from ogkd.evaluation.collect import Run, runs_in
from ogkd.evaluation.limits import meaningless
from ogkd.evaluation.metrics import find
from ogkd.evaluation.statistics import LEVEL
from ogkd.evaluation.tested import sampled, tested_on
from ogkd.reports.cells import Cell, Values
from ogkd.reports.footnotes import footnotes
from ogkd.reports.render import Table, document
from ogkd.reports.tables import DISPERSION, decimals, in_words, of_draw, of_kinds
from ogkd.reports.variants import shots_name, variants


def transfer_report(
    folders: Iterable[Path], routes: Sequence[tuple[str, str]], data: Path, metric: str = "accuracy"
) -> tuple[str, list[str]]:
    """The tables for the finished runs in these folders with, for each (source, target), the number of images that both
    share in the data folder; and notes on the runs for the reader."""
    tables = transfer_tables(runs_in(folders), metric)
    lines = []
    for source, target in routes:
        shared, tested = overlap(source, target, data)
        lines.append(
            f"{source} -> {target}: {shared} of the {tested} test images of {target} are byte-identical to training "
            f"images of {source}."
        )
    return document(tables) + "\n\n" + "\n".join(lines), tables[0].notes if tables else []


def transfer_tables(runs: Sequence[Run], metric: str = "accuracy") -> list[Table]:
    """One table per source, target and shot count, one row per variant with its interval over test images.

    All runs must have the same backbone; runs of other protocols are ignored. The interval is that of the mean over
    seeds (`bootstrap`); it shows what other target images would have given with these prompts.

    Raises:
        UserError: there are several backbones, or the metric is unknown.
    """
    measured, percent = find(metric), f"{100 * LEVEL:.0f} %"
    means, intervals = Values(metric), Values(metric, intervals=True)
    chosen, tables, notes = of_kinds(runs, "transfer"), list[Table](), list[str]()
    for route in sorted({(run.source, run.dataset, run.shots) for run in chosen}):
        source, target, shots = route
        table = Table(
            ", ".join([f"{source} -> {target}", shots_name(shots), *filter(None, {run.draw_title for run in chosen})]),
            ["method", measured.title, f"{percent} from", f"{percent} to"],
            ranked=[measured.title], lower=measured.lower_is_better, decimals=decimals(measured),
        )  # fmt: skip
        of_rows, conflicts = variants([run for run in chosen if (run.source, run.dataset, run.shots) == route])
        notes += conflicts
        for variant in of_rows:
            whole = intervals.cell(variant.runs)
            interval = whole.interval if whole and whole.seeds == len(variant.runs) else None
            ends = [Cell(interval.low), Cell(interval.high)] if interval else [None, None]
            cells = [means.cell(variant.runs), *ends]
            table.add(variant.name, cells, variant.method, variant.key, {measured.title: list(variant.runs)})
        several = any(len(variant.runs) > 1 for variant in of_rows)
        seeds = f", {DISPERSION}, with the mean's" if several else ", with its"
        of_route = [run for variant in of_rows for run in variant.runs]
        table.caption = f"{in_words(measured)}{seeds} {percent} interval over {sampled(of_route)}.{of_draw(of_route)}"
        table.sample = tested_on({target: of_route})
        table.footnotes += footnotes([(one.name, target, one.runs) for one in of_rows]) + meaningless(of_route)
        tables.append(table)
    for table in tables[:1]:
        table.notes += notes + list(dict.fromkeys(means.notes() + intervals.notes()))
    return tables
