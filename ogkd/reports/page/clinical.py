"""One method class by class, as a clinician reads it: tables, ROC, precision-recall and decision curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ogkd.core import UserError
from ogkd.evaluation.clinical import (
    KINDS,
    LEVELS,
    SENSITIVITY,
    Achieved,
    ClassResult,
    OperatingPoint,
    by_class,
    calibrated_on,
    choose_all,
    decision_curve,
    precision_recall,
    predictive_values,
    roc,
)
from ogkd.evaluation.conformal import needed
from ogkd.evaluation.metrics import confusion_matrix
from ogkd.evaluation.predictions import Predictions, units
from ogkd.evaluation.sets import choose_all as choose_sets
from ogkd.evaluation.sets import shares_differ
from ogkd.reports.cells import AnyCell, Cell, Text
from ogkd.reports.page.evidence import Evaluation
from ogkd.reports.page.figures import DASHES, GREY, PALETTE, PANELS, WIDTH, Drawing, canvas, panels, short, style
from ogkd.reports.render import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COVERAGE = 0.9  # of prediction sets
PREVALENCES = (0.1, 0.01)  # besides that of the test images
Curve = tuple[np.ndarray, np.ndarray]


def clinical(anchor: str, test: Evaluation) -> dict[str, Any]:
    """The results of a method; curves and thresholds are those of its first seed, tables are means over seeds."""
    seeds, first = test.predictions, test.predictions[0]
    results = by_class(seeds)
    separable = [of for of in results if of.auc]  # classes with images, and others to tell them from
    validation, remarks = _validation(test)
    points = choose_all(validation, first) if validation else []
    best = {(point.classname, point.wanted): point for point in points}  # the highest level of each
    if len(results) == 2:  # the specificity for one class is the sensitivity for the other
        best = {key: point for key, point in best.items() if point.wanted == SENSITIVITY}
    if validation:
        remarks += _too_few(validation, {name for name, wanted in best if wanted == SENSITIVITY})
    values = [(f"{name}, {kind} {100 * one.level:g} %", name, one.on(first)) for (name, kind), one in best.items()]
    values = values or [(of.name, of.name, Achieved(of.sensitivity, of.specificity)) for of in results]
    return {
        "method": test.name,
        "seeds": len(seeds),
        "results": _results(results),
        "counts": _counts(seeds),
        "curves": _drawings(anchor, test, separable) if separable else [],
        "decision": _decision(anchor, test, separable[:PANELS]) if separable else None,
        "points": _points(list(best.values()), first) if best else None,
        "worth": _worth(values, results),  # of the thresholds if there are any, else of the most likely class
        "remarks": remarks,  # what a reader must know of the thresholds
        "sets": _sets(validation, first) if validation else None,
    }


def _sets(validation: Predictions, test: Predictions) -> Table | None:
    """Prediction sets by score, for all images together and per class; None with too few validation images."""
    rules = choose_sets(validation, test, (COVERAGE,))
    table = Table(
        "",
        ["sets", "wanted", "coverage, %", "classes per set", "empty, %", "worst class", "its coverage, %"],
        decimals=1,
    )
    for rule in rules:
        if rule.test:
            name, worst = rule.test.smallest
            wanted = f"{100 * COVERAGE:g} % of {'each class' if rule.per_class else 'all images'}"
            sizes = Cell(rule.test.size, decimals=2), Cell(rule.test.empty)
            table.add(rule.score, [Text(wanted), Cell.of(rule.test.coverage), *sizes, Text(name), Cell.of(worst)])
    differ = shares_differ(validation, test)
    if differ and not all(rule.per_class for rule in rules):
        table.footnotes.append(f"{differ}; sets per class hold for any shares.")
    return table if table.rows else None


def _validation(test: Evaluation) -> tuple[Predictions | None, list[str]]:
    """The validation predictions of the first seed, and which images these are of, in words."""
    run = next(run for run in test.runs if (run.path / "predictions.npz").is_file())
    path, first = run.path / "val_predictions.npz", test.predictions[0]
    if run.results.get("split") == "val":
        return None, ["These results are of validation images, so no threshold is chosen on them."]
    try:
        validation = Predictions.load(path) if path.is_file() else None
    except UserError as error:
        test.material.unreadable(path, error)
        validation = None
    if validation is None or validation.classnames != first.classnames:
        return None, ["There are no validation predictions of these classes, so no threshold is chosen."]
    number = run.results.get("calibration") or {"images": len(validation), "drawn": len(validation)}
    return validation, [f"Thresholds are chosen on {calibrated_on(**number)}, never on test images."]


def _too_few(validation: Predictions, there: set[str]) -> list[str]:
    """A sentence on the other classes, which have too few validation images for a threshold of a sensitivity."""
    of_units, least = units(validation), needed(LEVELS[0])
    numbers = {name: len(np.unique(of_units[validation.labels == k])) for k, name in enumerate(validation.classnames)}
    lacking = [f"{name} ({number})" for name, number in numbers.items() if name not in there and number < least]
    what = "images" if validation.groups is None else "patients"
    return lacking and [
        f"Too few validation {what} for a sensitivity of {100 * LEVELS[0]:g} % for {', '.join(lacking)}: it needs at "
        f"least {least} of a class."
    ]


def _results(results: Sequence[ClassResult]) -> Table:
    table = Table("", ["class", "test images", "patients", "sensitivity, %", "specificity, %", "AUC, %"], decimals=1)
    for of in results:
        patients = Text("unknown") if of.patients is None else Cell(of.patients, decimals=0)
        measured = map(Cell.of, (of.sensitivity, of.specificity, of.auc))
        table.add(of.name, [Cell(of.images, decimals=0), patients, *measured])
    return table


def _counts(seeds: Sequence[Predictions]) -> Table:
    """The confusion matrix as numbers of images per seed, with their share of the true class."""
    counts = np.mean([confusion_matrix(one) for one in seeds], axis=0)
    table = Table("", ["true class ↓ predicted →", *seeds[0].classnames])
    for name, row in zip(seeds[0].classnames, counts, strict=True):
        cells = [
            Text(f"{number:.1f}".removesuffix(".0"), f"{100 * number / row.sum():.1f} %" if row.sum() else "")
            for number in row
        ]
        table.add(name, cells)
    return table


def _points(points: Sequence[OperatingPoint], test: Predictions) -> Table:
    sides = [f"{kind} on {what}, %" for what in ("validation", "test") for kind in KINDS]
    table = Table("", ["class", "wanted", "positive from a probability of", *sides], decimals=1)
    for point in points:
        both = [getattr(achieved, kind) for achieved in (point.validation, point.on(test)) for kind in KINDS]
        cells = [Text(f"{point.wanted} {100 * point.level:g} %"), Text(f"{point.threshold:.4g}"), *map(Cell.of, both)]
        table.add(point.classname, cells)
    return table


def _worth(values: Sequence[tuple[str, str, Achieved]], results: Sequence[ClassResult]) -> Table:
    """Predictive values; values: (row, class, sensitivity and specificity)."""
    total, number = sum(of.images for of in results), {of.name: of.images for of in results}
    columns = ["as common as in the test", *(f"{100 * share:g} % have it" for share in PREVALENCES)]
    table = Table(
        "", ["positive for", *(f"{what}, {column}" for column in columns for what in ("PPV", "NPV"))], decimals=1
    )
    for title, name, achieved in values:
        cells: list[AnyCell] = []
        for share in (number[name] / total, *PREVALENCES):
            both = predictive_values(achieved, share) if 0 < share < 1 else None
            cells += map(Cell.of, both or (None, None))
        table.add(title, cells)
    return table


def _drawings(anchor: str, test: Evaluation, results: Sequence[ClassResult]) -> list[Drawing]:
    areas = ", ".join(f"{of.name} {of.auc.value:.1f} %" for of in results if of.auc)
    rocs, precisions = ({of.name: of_class(test.predictions[0], of.name) for of in results}
                        for of_class in (roc, precision_recall))  # fmt: skip
    draw = test.material.draw
    return [
        draw(f"{anchor}-roc", "ROC curves", f"Sensitivity over 1 - specificity. Areas below: {areas}.",
             _curves(rocs, "1 - specificity, %", "sensitivity, %")),
        draw(f"{anchor}-precision-recall", "Precision-recall curves", "Precision, or PPV, over recall, or sensitivity.",
             _curves(precisions, "recall (sensitivity), %", "precision (PPV), %", drawstyle="steps-post")),
    ]  # fmt: skip


@style()
def _curves(curves: Mapping[str, Curve], x: str, y: str, drawstyle: str = "default") -> Figure:
    """Curves of shares in 0..1, (across, up) by class."""
    figure = canvas(WIDTH, 330 + 9 * len(curves))
    axes = figure.add_subplot(xlabel=x, ylabel=y, xlim=(-1, 101), ylim=(-1, 102))
    for number, (name, (across, up)) in enumerate(curves.items()):
        look: dict[str, Any] = {
            "color": PALETTE[number % len(PALETTE)],
            "linestyle": DASHES[(number + number // 6) % len(DASHES)],
        }
        axes.plot(100 * across, 100 * up, drawstyle=drawstyle, linewidth=1.8, label=short(name, 24), **look)
    if drawstyle == "default":
        axes.plot([0, 100], [0, 100], color=GREY, linewidth=1, linestyle=":", label="guessing")
    axes.grid()
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def _decision(anchor: str, test: Evaluation, results: Sequence[ClassResult]) -> Drawing:
    figure, alt = _decision_curves(test.predictions[0], results), "Net benefit over the threshold probability."
    return test.material.draw(f"{anchor}-decision", "Decision curves", alt, figure)


@style()
def _decision_curves(predictions: Predictions, results: Sequence[ClassResult]) -> Figure:
    figure = canvas(WIDTH, 60 + 190 * math.ceil(len(results) / 2))
    every = panels(figure, len(results), min(2, len(results)))
    for axes, of in zip(every, results, strict=True):
        thresholds, model, everyone = decision_curve(predictions, of.name)
        axes.plot(100 * thresholds, model, color=PALETTE[0], linewidth=1.8, label="by the model")
        axes.plot(100 * thresholds, everyone, color=PALETTE[1], linestyle=DASHES[1], linewidth=1.2, label="on everyone")
        axes.axhline(0, color=GREY, linestyle=DASHES[2], linewidth=1.2, label="on nobody")
        most = of.images / len(predictions)
        axes.set(xlim=(0, 100), ylim=(-0.35 * most, 1.08 * most), xlabel="threshold probability, %")
        axes.set_title(short(of.name, 24), fontsize=8)
        axes.tick_params(labelsize=7)
        axes.locator_params(nbins=4)
        axes.set_ylabel("net benefit")
        axes.grid()
    figure.legend(*every[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure
