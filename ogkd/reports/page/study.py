"""One data set with one backbone and one draw: its results, what is mistaken, how its classes relate, and training."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ogkd.classes import Geometry, costs
from ogkd.evaluation.metrics import confusion_matrix
from ogkd.evaluation.predictions import Predictions
from ogkd.evaluation.subgroups import group_sets
from ogkd.evaluation.tested import sample
from ogkd.reports.cells import Cell, Text
from ogkd.reports.groups import set_table
from ogkd.reports.page.clinical import Clinical, clinical
from ogkd.reports.page.evidence import MOST, Evaluation, choose
from ogkd.reports.page.figures import Drawing, matrix, reliability_diagram, risk_coverage_curves
from ogkd.reports.page.grids import metrics_table
from ogkd.reports.page.images import Thumbnail, thumbnails_of
from ogkd.reports.page.material import Material
from ogkd.reports.page.protocol import Part, Protocol
from ogkd.reports.page.shift import Shift, shift
from ogkd.reports.page.training import Training, training
from ogkd.reports.render import Row, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CONFIDENT, COSTLIEST = 8, 6  # mistakes shown


class Mistake(NamedTuple):
    """A misclassified image, with the probabilities in percent of the predicted class and of the true one."""

    true: str
    predicted: str
    confidence: float
    probability: float
    image: Thumbnail | None


@dataclass
class Detail:
    """What one set of test images says of the methods; mistakes are those of `best`, the first of the methods shown."""

    anchor: str
    title: str
    sample: str
    classes: int
    best: str
    metrics: Table
    clinical: Clinical
    groups: list[tuple[Table, list[str]]]
    severity: Table | None
    confusions: Table
    mistakes: list[Mistake]
    risk: Drawing
    reliability: list[Drawing]
    matrices: list[Drawing]
    shift: Shift | None


@dataclass
class Study:
    """Everything on the page about one data set with one backbone and one draw."""

    anchor: str
    dataset: str
    backbone_and_draw: str
    parts: list[Part] = field(default_factory=list)
    details: list[Detail] = field(default_factory=list)
    geometry: Geometry | None = None
    costs: Drawing | None = None
    training: Training | None = None

    @property
    def drawings(self) -> list[Drawing]:
        """Every figure."""
        of_parts = [part.drawing for part in self.parts]
        of_details = [
            one
            for detail in self.details
            for one in (
                *detail.clinical.drawings,
                *detail.reliability,
                detail.risk,
                *detail.matrices,
                *([detail.shift.curves] if detail.shift else []),
            )
        ]
        curves = self.training.curves if self.training else []
        return [*of_parts, *of_details, *([self.costs] if self.costs else []), *curves]


def study(
    number: int, dataset: str, protocols: Sequence[Protocol], methods: Sequence[str] | None, material: Material
) -> Study:
    """Compute and draw the results of the runs on a data set.

    number: unique in the page. protocols: those of one backbone and draw with runs on the data set. methods: classes of
        methods in detailed figures, see `choose`.
    """
    anchor = f"{re.sub(r'[^a-z0-9]+', '-', dataset.lower()).strip('-')[:40] or 'data'}-{number}"
    tests = [(one, title, of_title) for one in protocols for title, of_title in one.details(dataset).items()]
    shown = [choose([test for test in of_title if test.predictions], methods) for *_, of_title in tests]
    names = dict.fromkeys(test.name for chosen in shown for test in chosen)
    colours = {name: place % MOST for place, name in enumerate(names)}
    result = Study(anchor, dataset, tests[0][2][0].runs[0].backbone_and_draw)
    result.parts = [protocol.part(anchor, dataset, colours) for protocol in protocols]
    result.details = [
        _detail(f"{anchor}-test{place}", title, of_title, chosen, colours, material)
        for place, ((protocol, title, of_title), chosen) in enumerate(zip(tests, shown, strict=True), 1)
        if chosen
    ]
    first = next(filter(None, shown), None) or choose(tests[0][2], methods)
    if first and (geometry := first[0].geometry):
        result.geometry = replace(geometry, classnames=geometry.all_classnames)
        figure = matrix("Cost of a mistake", costs(result.geometry), result.geometry.classnames, "{:.2g}".format)
        alt = "The cost of predicting each class for each other."
        result.costs = Drawing(f"{anchor}-costs", "Costs of mistakes", alt, figure)
    result.training = training(anchor, first, material)
    for test in (test for protocol in protocols for test in protocol.tests(dataset)):
        test.forget()
    for drawing in result.drawings:  # rendering takes half of a study's time, so it is part of the progress shown
        _ = drawing.svg
    return result


def confident_mistakes(predictions: Predictions, most: int = CONFIDENT) -> list[int]:
    """The rows of the most confident mistakes of one run, the most confident first."""
    wrong = np.flatnonzero(~predictions.correct)
    return wrong[np.argsort(-predictions.confidence[wrong], kind="stable")][:most].tolist()


def costliest(
    predictions: Predictions, costs: np.ndarray | None, most: int = COSTLIEST
) -> list[tuple[str, str, int, float]]:
    """(true class, predicted class, images, percent of the true class's images) of the confusions that contribute most
    to the expected cost or, without costs, are the most frequent. predictions: pooled over seeds."""
    counts, names = np.array(confusion_matrix(predictions)), predictions.classnames
    weight = counts * (1.0 if costs is None else costs)
    np.fill_diagonal(weight, 0)
    largest = np.argsort(-weight, axis=None, kind="stable")[:most]
    pairs = [divmod(int(flat), len(names)) for flat in largest if weight.flat[flat] > 0]
    return [(names[i], names[j], int(counts[i, j]), 100 * counts[i, j] / counts[i].sum()) for i, j in pairs]


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
    material: Material,
) -> Detail:
    best, first = shown[0], shown[0].predictions[0]
    order = best.geometry.all_classnames if best.geometry else ()
    diagrams, matrices = [], []
    for number, test in enumerate(shown, 1):
        ece, right = test.metrics["expected_calibration_error"], f"it is right on {test.accuracy:.1f} % of the images."
        alt = f"Accuracy over confidence of {test.name}; its expected calibration error is {ece:.1f} %."
        figure = reliability_diagram(test.name, test.pooled, ece, colours[test.name])
        diagrams.append(Drawing(f"{anchor}-reliability{number}", f"Reliability of {test.name}", alt, figure))
        alt = f"Percent of each class that {test.name} takes for each class; {right}"
        figure = confusion(test.name, test.pooled, order)
        matrices.append(Drawing(f"{anchor}-confusion{number}", f"Confusion matrix of {test.name}", alt, figure))
    areas = ", ".join(f"{test.name} with an area of {test.metrics['aurc']:.1f} %" for test in shown)
    alt = f"Error rate over the share of images that are answered, {areas}."
    curves = risk_coverage_curves({test.name: test.predictions for test in shown}, colours)
    risk = Drawing(f"{anchor}-risk-coverage", "Risk and coverage", alt, curves)
    picture = thumbnails_of(best.runs[0]) if material.shows(best.runs[0]) else None
    sure = 100 * first.probabilities
    mistakes = [
        Mistake(first.classnames[label], first.classnames[answer], sure[row, answer], sure[row, label],
                picture(first.images[row]) if picture else None)
        for row in confident_mistakes(first) for label, answer in [(first.labels[row], first.predicted[row])]
    ]  # fmt: skip
    return Detail(
        anchor,
        title,
        sample({**best.runs[0].results, "num_test": len(first), "num_patients": first.patients}),
        len(first.classnames),
        best.name,
        metrics_table([test for test in tests if test.metrics]),
        clinical(anchor, best),
        [(set_table(of), of.remarks()) for of in group_sets(best.predictions)],
        _severity(shown) if best.geometry else None,
        _confusions(best),
        mistakes,
        risk,
        diagrams,
        matrices,
        shift(anchor, shown, colours),
    )


def _severity(tests: Sequence[Evaluation]) -> Table:
    table = Table("", ["method", "expected cost", "mistake severity", "accuracy, %"], decimals=3)
    for test in tests:
        cells = [Cell.of(test.interval(metric)) for metric in ("expected_cost", "mistake_severity")]
        table.rows.append(Row(test.name, [*cells, Cell(test.accuracy, decimals=1)]))
    return table


def _confusions(test: Evaluation) -> Table:
    cost, names = costs(test.geometry) if test.geometry else None, test.pooled.classnames
    table = Table(
        "", ["true class", "taken for", "images per seed", "of its class", *(["cost"] if test.geometry else [])]
    )
    for true, predicted, images, share in costliest(test.pooled, cost):
        cells = [predicted, f"{images / len(test.predictions):.1f}", f"{share:.0f} %"]
        if cost is not None:
            cells.append(f"{cost[names.index(true), names.index(predicted)]:.2g}")
        table.rows.append(Row(true, list(map(Text, cells))))
    return table
