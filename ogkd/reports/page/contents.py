"""The content of the page, section by section; the template lays it out."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any

from ogkd.core import UserError, progress
from ogkd.core.words import listed, ranges
from ogkd.evaluation.collect import Run
from ogkd.evaluation.limits import meaningless
from ogkd.evaluation.methods import known_methods, order
from ogkd.evaluation.metrics import METRICS
from ogkd.evaluation.predictions import Predictions
from ogkd.evaluation.tested import PATIENTS_UNKNOWN, sample, sampled
from ogkd.reports.cells import Text
from ogkd.reports.page.material import Material
from ogkd.reports.page.protocol import TITLES, Protocol
from ogkd.reports.page.study import study
from ogkd.reports.render import Table
from ogkd.reports.transfer import transfer_tables
from ogkd.reports.variants import by_shots

KINDS = {
    "train_base": "base classes", "test_new": "novel classes", "few_shot": "all classes",
    "train_new": "novel classes, trained on them", "transfer": "all classes",
}  # fmt: skip
OPTIONS_SHOWN, PRINTS_SHOWN = 12, 3
JUDGED_BY_ACCURACY = Text("accuracy")


def contents(material: Material, title: str, methods: Sequence[str] | None) -> dict[str, Any]:
    """Everything on the page, as text, tables and figures: the variables of the template.

    methods: classes in detailed figures; None: the best, OGKD and zero-shot.
    """
    runs = material.runs
    kinds, methods_run = (
        sorted({run.backbone_and_draw for run in runs}),
        sorted({run.method for run in runs}, key=order),
    )
    protocols = {one: [Protocol(name, one, material) for name in TITLES] for one in kinds}
    places = [
        (dataset, [protocol for protocol in of_kind if dataset in protocol.tested])
        for of_kind in protocols.values()
        for dataset in sorted(set().union(*(protocol.tested for protocol in of_kind)))
    ]
    studies = [
        study(number, dataset, of_dataset, methods, material)
        for number, (dataset, of_dataset) in enumerate(progress(places, "report", unit="data set"), 1)
    ]
    tests = [test for of in protocols.values() for one in of for name in one.tables for test in one.tests(name)]
    tested = {_what(run) for test in tests for run in test.runs}
    lost = [run for run in runs if run.kind != "transfer" and _what(run) not in tested]
    material.remark(*(f"{material.shown(run.path)} is in no table." for run in lost))
    parts = [part for one in studies for part in one["parts"]]
    averages, transfers = [], []
    for kind in kinds:
        end = f", {kind}" if len(kinds) > 1 else ""
        averages += [(f"{one.title}{end}", mean) for one in protocols[kind] if (mean := one.average())]
        transfers += [(f"{table.title}{end}", table) for table in _transfer_tables(material, kind)]
    return {
        "title": title,
        "made": _day(datetime.datetime.now()),
        "private": not material.shows_all,
        "facts": _facts(runs),
        "glance": _glance(studies, len(kinds) > 1),
        "ran": _ran(runs),
        "averages": averages,
        "studies": studies,
        "transfers": transfers,
        "several": len(kinds) > 1,
        "over": sampled(runs),
        "warnings": _warnings(runs),
        "balanced": any(part["table"].balanced for part in parts),
        "draws": min((part["draws"] for part in parts if part["draws"]), default=0),
        "waiting": [
            f"{material.shown(path)}, " + (f"after epoch {epoch}" if epoch else "before its first saved epoch")
            for path, epoch in material.waiting
        ],
        "diverged": [material.shown(run.path) for run in material.diverged],
        "without": [material.shown(run.path) for run in runs if not (run.path / "predictions.npz").is_file()],
        "unread": list(material.unread),
        "remarks": list(material.remarks),
        "methods": [known_methods()[name] for name in methods_run if name in known_methods()],
        "metrics": [(one.title, (one.function.__doc__ or "").strip().partition("\n")[0]) for one in METRICS.values()],
    }


def _transfer_tables(material: Material, kind: str) -> list[Table]:
    every = [*material.runs, *material.diverged]
    runs = [run for run in every if (run.kind, run.backbone_and_draw) == ("transfer", kind)]
    for path in (run.path / "predictions.npz" for run in runs):
        try:
            _ = path.is_file() and Predictions.load(path)
        except UserError as error:
            material.unreadable(path, error)
    tables = transfer_tables(runs)
    if material.shows_all:  # notes on predictions may quote names of images
        material.remark(*(note for table in tables for note in table.notes))
    return tables


def _warnings(runs: Sequence[Run]) -> list[str]:
    """What a reader has to know of the images before any number."""
    by_image = sorted({run.dataset for run in runs if PATIENTS_UNKNOWN in sample(run.results)})
    unknown = (
        f"{listed(by_image, len(by_image))}: {PATIENTS_UNKNOWN}. Images of one patient may be both in training and "
        "in the test, which makes it too easy, and intervals take each image for a patient, which makes them too "
        "narrow if patients have several images."
    )
    return [*meaningless(runs), *([unknown] if by_image else [])]


def _glance(studies: Sequence[dict[str, Any]], several: bool) -> Table:
    """The best method of each set of test images. Judged by accuracy unless a column says otherwise."""
    headers = ["data set", "tested on", "test images", "best method", "its accuracy, %", "zero-shot, %"]
    headers += ["gain over zero-shot", "most frequent class, %", "judged by"]
    rows = [(one, cells) for one in studies for part in one["parts"] for cells in part["glance"]]
    if all(cells[-1] == JUDGED_BY_ACCURACY for _, cells in rows):
        headers, rows = headers[:-1], [(one, cells[:-1]) for one, cells in rows]
    else:
        headers[4] = "its value, %"
    table = Table("", headers, decimals=1)
    for one, cells in rows:
        name = f"{one['dataset']}, {one['backbone_and_draw']}" if several else one["dataset"]
        table.add(name, cells)
    return table


def _ran(runs: Sequence[Run]) -> Table:
    """One row per backbone, set of classes and what was run, with the data sets that share all of these."""
    by_set: dict[tuple[str, str, str], list[Run]] = {}
    for run in sorted(runs, key=lambda run: (run.backbone_and_draw, list(KINDS).index(run.kind), run.dataset)):
        tested = KINDS[run.kind] + (f", trained on {run.source}" if run.kind == "transfer" else "")
        by_set.setdefault((run.backbone_and_draw, tested, run.dataset), []).append(run)
    alike: dict[tuple[str, ...], list[Run]] = {}
    for (backbone, tested, _), of in by_set.items():
        methods = ", ".join(map(_title, sorted({run.method for run in of}, key=order)))
        shots = sorted({run.shots for run in of}, key=by_shots)
        numbers = ", ".join(str(number) if number > 0 else "all" for number in shots)
        alike.setdefault((backbone, tested, methods, numbers, ranges(run.seed for run in of)), []).extend(of)
    table = Table("", ["data sets", "backbone", "tested on", "methods", "shots", "seeds", "runs", "test set"])
    for facts, of in alike.items():
        images = sorted({text for run in of if (text := sample(run.results))}, key=lambda text: (len(text), text))
        about = " to ".join(dict.fromkeys([*images[:1], *images[-1:]])) or "–"
        table.add(", ".join(dict.fromkeys(run.dataset for run in of)), map(Text, [*facts, str(len(of)), about]))
    return table


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
        if 0 < len(prints) <= PRINTS_SHOWN:
            facts.append((f"{what}{'s' if len(prints) > 1 else ''}", ", ".join(prints)))
    changed = sorted({f"{key} {value}" for run in runs for key, value in (run.changed or {}).items()})
    if changed:
        more = f" and {len(changed) - OPTIONS_SHOWN} more" if len(changed) > OPTIONS_SHOWN else ""
        facts.append(("options that were changed", "; ".join(changed[:OPTIONS_SHOWN]) + more))
    return facts


def _what(run: Run) -> tuple:
    """What a run and its copies have in common."""
    return run.kind, run.backbone_and_draw, run.dataset, run.method, run.shots, run.seed


def _title(method: str) -> str:
    return known_methods()[method].title if method in known_methods() else method


def _day(moment: datetime.datetime) -> str:
    return f"{moment.day} {moment:%B %Y, %H:%M}"
