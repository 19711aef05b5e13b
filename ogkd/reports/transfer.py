"""Tables of the transfer protocol: trained on one data set, tested on another, always with intervals."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from ogkd.core import UserError
from ogkd.data.duplicates import overlap
from ogkd.evaluation.collect import Run, runs_in
from ogkd.evaluation.metrics import Metric, find
from ogkd.evaluation.predictions import Predictions
from ogkd.evaluation.statistics import LEVEL, Interval, bootstrap
from ogkd.reports.cells import Cell, Values
from ogkd.reports.render import Row, Table, document
from ogkd.reports.tables import DISPERSION, footnotes
from ogkd.reports.variants import Variant, shots_name, variants


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
    measured, values = find(metric), Values(metric)
    chosen = [run for run in runs if run.kind == "transfer"]
    backbones = sorted({run.backbone for run in chosen})
    if len(backbones) > 1:
        raise UserError(f"There are runs with several backbones: choose one of {', '.join(backbones)}.")
    tables, notes = [], []
    for source, target, shots in sorted({(run.source, run.dataset, run.shots) for run in chosen}):
        of_route = [r for r in chosen if (r.source, r.dataset, r.shots) == (source, target, shots)]
        found, conflicts = variants(of_route)
        notes += conflicts
        percent = f"{100 * LEVEL:.0f} %"
        table = Table(
            f"{source} -> {target}, {shots_name(shots)}",
            ["method", measured.title, f"{percent} from", f"{percent} to"],
            ranked=[True, False, False],
            lower=measured.lower_is_better,
            decimals=2 if measured.unit else 3,
        )
        images = set()
        for variant in found:
            seeds, lacking = _predictions(variant)
            notes += lacking
            images |= {len(one) for one in seeds}
            interval = _interval(metric, variant, seeds, notes)
            ends = [None, None] if interval is None else [Cell(interval.low), Cell(interval.high)]
            table.rows.append(Row(variant.name, [values.cell(variant.runs), *ends], variant.method, variant.key))
            table.footnotes += footnotes(variant.name, target, variant.runs)
        several = any(len(variant.runs) > 1 for variant in found)
        table.caption = _caption(measured, images, percent, several)
        tables.append(table)
    for table in tables[:1]:
        table.notes += notes + values.notes()
    return tables


def _predictions(variant: Variant) -> tuple[list[Predictions], list[str]]:
    """The predictions of a variant's runs; if one has none, [] and a sentence, as there is no interval."""
    try:
        return [Predictions.load(run.path / "predictions.npz") for run in variant.runs], []
    except UserError as error:
        return [], [f"{variant.name} on {variant.dataset} has no interval: {error}"]


def _interval(metric: str, variant: Variant, seeds: list[Predictions], notes: list[str]) -> Interval | None:
    """The interval of the mean over seeds; None, with a note, if it cannot be computed."""
    if not seeds:
        return None
    try:
        return bootstrap(metric, seeds)
    except UserError as error:
        notes.append(f"{variant.name} on {variant.dataset} has no interval: {error}")
        return None


def _caption(metric: Metric, images: set[int], percent: str, several: bool) -> str:
    what = f"{metric.title[:1].upper()}{metric.title[1:]}" + (f" in {metric.unit}" if metric.unit else "")
    on = f" on {images.pop()} test images" if len(images) == 1 else ""
    seeds = f", {DISPERSION}, with the mean's" if several else ", with its"
    return f"{what}{on}{seeds} {percent} bootstrap interval over images."
