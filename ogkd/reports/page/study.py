"""One data set with one backbone and one draw: its results, what is mistaken, how its classes relate, and training."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ogkd.classes import costs
from ogkd.evaluation.metrics import confusion_matrix
from ogkd.evaluation.predictions import Predictions
from ogkd.evaluation.subgroups import group_sets
from ogkd.evaluation.tested import sample
from ogkd.reports.groups import set_table
from ogkd.reports.page.clinical import clinical
from ogkd.reports.page.evidence import MOST, Evaluation, choose
from ogkd.reports.page.figures import matrix, reliability_diagram, risk_coverage_curves
from ogkd.reports.page.grids import metrics_table
from ogkd.reports.page.images import thumbnails_of
from ogkd.reports.page.material import Material
from ogkd.reports.page.protocol import Protocol
from ogkd.reports.page.shift import shift
from ogkd.reports.page.training import training

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CONFIDENT = 8  # mistakes shown


def study(
    number: int, dataset: str, protocols: Sequence[Protocol], methods: Sequence[str] | None, material: Material
) -> dict[str, Any]:
    """Compute and draw the results of the runs on a data set.

    number: unique in the page. protocols: those of one backbone and draw with runs on the data set. methods: classes of
        methods in detailed figures, see `choose`.
    """
    anchor = f"{re.sub(r'[^a-z0-9]+', '-', dataset.lower()).strip('-')[:40] or 'data'}-{number}"
    tests = [(one, title, of_title) for one in protocols for title, of_title in one.details(dataset).items()]
    shown = [choose([test for test in of_title if test.predictions], methods) for *_, of_title in tests]
    names = dict.fromkeys(test.name for chosen in shown for test in chosen)
    colours = {name: place % MOST for place, name in enumerate(names)}
    first = next(filter(None, shown), None) or choose(tests[0][2], methods)
    result: dict[str, Any] = {
        "anchor": anchor,
        "dataset": dataset,
        "backbone_and_draw": tests[0][2][0].runs[0].backbone_and_draw,
        "parts": [protocol.part(anchor, dataset, colours) for protocol in protocols],
        "details": [
            _detail(f"{anchor}-test{place}", title, of_title, chosen, colours)
            for place, ((_, title, of_title), chosen) in enumerate(zip(tests, shown, strict=True), 1)
            if chosen
        ],
        "geometry": None,
    }
    if first and (geometry := first[0].geometry):
        result["geometry"] = geometry = replace(geometry, classnames=geometry.all_classnames)
        figure = matrix("Cost of a mistake", costs(geometry), geometry.classnames, "{:.2g}".format)
        alt = "The cost of predicting each class for each other."
        result["costs"] = material.draw(f"{anchor}-costs", "Costs of mistakes", alt, figure)
    result["training"] = training(anchor, first, material)
    for test in (test for protocol in protocols for test in protocol.tests(dataset)):
        test.forget()
    return result


def confident_mistakes(predictions: Predictions, most: int = CONFIDENT) -> list[int]:
    """The rows of the most confident mistakes of one run, the most confident first."""
    wrong = np.flatnonzero(~predictions.correct)
    return wrong[np.argsort(-predictions.confidence[wrong], kind="stable")][:most].tolist()


def confusion(name: str, predictions: Predictions, order: Sequence[str] = ()) -> Figure:
    """The percentage of each true class (rows) predicted as each class (columns), as a figure.

    predictions: pooled over seeds. order: order of the classes with related ones together; default: label order.
    """
    names = [one for one in order if one in predictions.classnames] or list(predictions.classnames)
    index = [predictions.classnames.index(one) for one in names]
    counts = np.array(confusion_matrix(predictions))[np.ix_(index, index)]
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    return matrix(name, shares, names, lambda share: f"{100 * share:.0f}")


def _detail(
    anchor: str,
    title: str,
    tests: Sequence[Evaluation],
    shown: Sequence[Evaluation],
    colours: Mapping[str, int],
) -> dict[str, Any]:
    """What one set of test images says of the methods; mistakes are those of the first of the methods shown."""
    best, first, material = shown[0], shown[0].predictions[0], shown[0].material
    order = best.geometry.all_classnames if best.geometry else ()
    diagrams, matrices = [], []
    for number, test in enumerate(shown, 1):
        ece, right = test.metrics["expected_calibration_error"], f"{test.accuracy.mean:.1f} % of the images"
        alt = f"Accuracy over confidence of {test.name}; its expected calibration error is {ece:.1f} %."
        figure = reliability_diagram(test.name, test.pooled, ece, colours[test.name])
        diagrams.append(material.draw(f"{anchor}-reliability{number}", f"Reliability of {test.name}", alt, figure))
        alt = f"Percent of each class that {test.name} takes for each class; it is right on {right}."
        figure = confusion(test.name, test.pooled, order)
        matrices.append(material.draw(f"{anchor}-confusion{number}", f"Confusion matrix of {test.name}", alt, figure))
    areas = ", ".join(f"{test.name} with an area of {test.metrics['aurc']:.1f} %" for test in shown)
    alt = f"Error rate over the share of images that are answered, {areas}."
    curves = risk_coverage_curves({test.name: test.predictions for test in shown}, colours)
    picture = thumbnails_of(best.runs[0]) if material.shows(best.runs[0]) else None
    sure = 100 * first.probabilities
    return {
        "anchor": anchor,
        "title": title,
        "sample": sample({**best.runs[0].results, "num_test": len(first), "num_patients": first.patients}),
        "classes": len(first.classnames),
        "best": best.name,
        "metrics": metrics_table([test for test in tests if test.metrics]),
        "clinical": clinical(anchor, best),
        "groups": [(set_table(of), of.remarks()) for of in group_sets(best.predictions)],
        "reliability": diagrams,
        "risk": material.draw(f"{anchor}-risk-coverage", "Risk and coverage", alt, curves),
        "matrices": matrices,
        "shift": shift(anchor, shown, colours),
        "mistakes": [
            {
                "true": first.classnames[label],
                "predicted": first.classnames[answer],
                "confidence": sure[row, answer],
                "probability": sure[row, label],  # of the true class
                "image": picture(first.images[row]) if picture else None,
            }
            for row in confident_mistakes(first)
            for label, answer in [(first.labels[row], first.predicted[row])]
        ],
    }
