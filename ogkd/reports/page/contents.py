"""The content of the page, section by section; the template only lays it out."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ogkd.core import progress
from ogkd.evaluation.collect import Run
from ogkd.evaluation.methods import known_methods, order
from ogkd.evaluation.metrics import METRICS
from ogkd.reports.page.canvas import Drawing
from ogkd.reports.page.gather import Material
from ogkd.reports.page.grids import Grid, GridCell
from ogkd.reports.page.protocol import Protocol
from ogkd.reports.page.study import Study, anchor_of, study
from ogkd.reports.variants import by_shots

PROTOCOLS = ("base2new", "few_shot")
KINDS = {
    "train_base": "base classes", "test_new": "novel classes", "few_shot": "all classes",
    "train_new": "novel classes, trained on them",
}  # fmt: skip


@dataclass
class Contents:
    """Everything on the page, as text, tables and figures."""

    title: str
    made: str
    private: bool
    facts: list[tuple[str, str]]
    glance: Grid
    ran: Grid
    averages: list[tuple[str, Grid]]
    studies: list[Study]
    draws: int
    waiting: list[tuple[str, int]]
    diverged: list[str]
    without: list[str]
    unread: list[str]
    remarks: list[str]
    methods: list[tuple[str, str]]
    metrics: list[tuple[str, str]]

    @property
    def backbones(self) -> int:
        """The number of backbones."""
        return len({one.backbone for one in self.studies})

    @property
    def drawings(self) -> list[Drawing]:
        """Every figure."""
        return [drawing for one in self.studies for drawing in one.drawings]


def contents(material: Material, title: str, methods: Sequence[str] | None) -> Contents:
    """Compute and draw everything. methods: classes in detailed figures; None: the best, OGKD and zero-shot."""
    notes, runs = material.notes, material.runs
    draws = []
    everything: list[tuple[str, Protocol]] = []
    places: list[tuple[str, list[Protocol]]] = []
    backbones = sorted({run.backbone for run in runs})
    for backbone in backbones:
        of_backbone = [run for run in runs if run.backbone == backbone]
        broken = [run for run in material.diverged if run.backbone == backbone]
        protocols = [Protocol(name, of_backbone, notes, material.shown, broken) for name in PROTOCOLS]
        everything += [(backbone, protocol) for protocol in protocols]
        draws += [protocol.draws for protocol in protocols if protocol.has_predictions]
        for dataset in sorted({name for protocol in protocols for name in protocol.tables}):
            places.append((dataset, [protocol for protocol in protocols if dataset in protocol.tables]))
    studies = [
        study(anchor_of(dataset, number), dataset, protocols, methods, material)
        for number, (dataset, protocols) in enumerate(progress(places, "report", unit="data set"), 1)
    ]
    # After the data sets, when their intervals are known.
    averages = [
        (f"{protocol.title}, {backbone}" if len(backbones) > 1 else protocol.title, mean)
        for backbone, protocol in everything
        if (mean := protocol.average(notes))
    ]
    return Contents(
        title,
        _day(datetime.datetime.now()),
        notes.private,
        _facts(runs),
        _glance(studies),
        _ran(runs),
        averages,
        studies,
        min(draws, default=0),
        [(material.shown(path), epoch) for path, epoch in material.waiting],
        [material.shown(run.path) for run in material.diverged],
        [material.shown(run.path) for run in runs if not (run.path / "predictions.npz").is_file()],
        list(notes.unread),
        [note.replace(f"{material.root}/", "") for note in notes.remarks],
        _methods(runs),
        [(one.title, (one.function.__doc__ or "").strip().partition("\n")[0]) for one in METRICS.values()],
    )


def _glance(studies: Sequence[Study]) -> Grid:
    grid = Grid(
        [
            "data set",
            "tested on",
            "best method",
            "its accuracy, %",
            "zero-shot, %",
            "gain over zero-shot",
            "most frequent class, %",
        ]
    )
    several = len({one.backbone for one in studies}) > 1
    for one in studies:
        for title, cells in (row for part in one.parts for row in part.glance):
            name = f"{one.dataset}, {one.backbone}" if several else one.dataset
            grid.rows.append((name, [GridCell(title), *cells]))
    return grid


def _ran(runs: Sequence[Run]) -> Grid:
    """One row per backbone, set of classes and what was run, with the data sets that share all of these."""
    grid = Grid(["data sets", "backbone", "tested on", "methods", "shots", "seeds", "runs", "test images"])
    by_set: dict[tuple[str, str, str], list[Run]] = {}
    for run in runs:
        by_set.setdefault((run.backbone, run.kind, run.dataset), []).append(run)
    rows: dict[tuple[str, ...], list[str]] = {}
    for (backbone, kind, dataset), group in by_set.items():
        alike = (
            backbone,
            kind,
            _titles(group),
            ", ".join(str(n) if n > 0 else "all" for n in sorted({run.shots for run in group}, key=by_shots)),
            _listed(run.seed for run in group),
        )
        rows.setdefault(alike, []).append(dataset)
    for (backbone, kind, *what), datasets in sorted(
        rows.items(), key=lambda row: (row[1], list(KINDS).index(row[0][1]))
    ):
        group = [run for dataset in datasets for run in by_set[backbone, kind, dataset]]
        images = {number for run in group if type(number := run.results.get("num_test")) is int}
        cells = [backbone, KINDS[kind], *what, str(len(group)), _range(images)]
        grid.rows.append((", ".join(sorted(datasets)), [GridCell(cell) for cell in cells]))
    return grid


def _titles(runs: Sequence[Run]) -> str:
    known = known_methods()
    methods = sorted({run.method for run in runs}, key=order)
    return ", ".join(known[method].title if method in known else method for method in methods)


def _range(numbers: set[int]) -> str:
    if not numbers:
        return "–"
    return str(min(numbers)) if len(numbers) == 1 else f"{min(numbers)} to {max(numbers)}"


def _facts(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Dates, computing time, versions and changed options."""
    times = [(run.path / "results.json").stat().st_mtime for run in runs]
    first, last = (_day(datetime.datetime.fromtimestamp(one)) for one in (min(times), max(times)))
    seconds = sum(run.results["seconds"] for run in runs)
    facts = [
        ("finished runs", str(len(runs))),
        ("written", first if first == last else f"{first} to {last} (by the files' dates)"),
        ("computing time", f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{seconds / 60:.1f} minutes"),
        ("backbones", ", ".join(sorted({run.backbone for run in runs}))),
    ]
    versions: dict[str, set[str]] = {}
    for run in runs:
        recorded = run.results.get("versions")
        for name, version in recorded.items() if isinstance(recorded, dict) else ():
            versions.setdefault(str(name), set()).add(str(version))
    if versions:
        facts.append(("versions", ", ".join(f"{name} {' / '.join(sorted(of))}" for name, of in versions.items())))
    for name, what in (("dataset", "data fingerprint"), ("weights", "weights fingerprint")):
        prints = sorted({str(run.results["fingerprints"].get(name))[:8] for run in runs} - {"None"})
        if 0 < len(prints) <= 3:
            facts.append((f"{what}{'s' if len(prints) > 1 else ''}", ", ".join(prints)))
    changed = sorted({f"{key} {value}" for run in runs for key, value in (run.changed or {}).items()})
    if changed:
        more = f" and {len(changed) - 12} more" if len(changed) > 12 else ""
        facts.append(("options that were changed", "; ".join(changed[:12]) + more))
    return facts


def _methods(runs: Sequence[Run]) -> list[tuple[str, str]]:
    """Title and arXiv number of each method, in table order."""
    known = known_methods()
    names = sorted({run.method for run in runs}, key=order)
    return [(known[name].title, known[name].paper) for name in names if name in known]


def _listed(values: Iterable[Any]) -> str:
    return ", ".join(map(str, sorted(set(values))))


def _day(moment: datetime.datetime) -> str:
    return f"{moment.day} {moment:%B %Y, %H:%M}"
