"""One data set with one backbone: its tables and figures, what is mistaken, how its classes relate, and training."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from ogkd.classes import Geometry, costs
from ogkd.evaluation.metrics import confusion_matrix
from ogkd.evaluation.predictions import Predictions
from ogkd.reports.page.evidence import MOST, Evaluation, choose
from ogkd.reports.page.figures import Drawing, matrix, reliability_diagram, risk_coverage_curves
from ogkd.reports.page.grids import Grid, GridCell, bracket, grid_of, metrics_grid
from ogkd.reports.page.images import Thumbnail, thumbnails_of
from ogkd.reports.page.material import Material
from ogkd.reports.page.protocol import Protocol, most_frequent
from ogkd.reports.page.training import Training, training

SEVERITY, SEVERITY_DRAWS = ("expected_cost", "mistake_severity"), 500
CONFIDENT, COSTLIEST = 8, 6  # mistakes shown


class Mistake(NamedTuple):
    """A misclassified image, with the probabilities in percent of the predicted class and of the true one."""

    true: str
    predicted: str
    confidence: float
    probability: float
    image: Thumbnail | None = None


class Confusion(NamedTuple):
    """Images of one class that were predicted as another, per seed and in percent of the true class's images."""

    true: str
    predicted: str
    images: float
    share: float
    cost: float | None


@dataclass
class Part:
    """The results of one protocol. floors: {test: accuracy in percent of the most frequent class}."""

    title: str
    grid: Grid
    drawing: Drawing
    curves: bool
    intervals: bool
    floors: dict[str, float]


@dataclass
class Detail:
    """What one set of test images says of the methods. `best` is the first of those shown."""

    anchor: str
    title: str
    images: int
    classes: int
    metrics: Grid
    reliability: list[Drawing]
    risk: Drawing
    confusions: list[Drawing]
    severity: Grid | None
    costliest: Grid
    mistakes: list[Mistake]
    best: str

    @property
    def drawings(self) -> list[Drawing]:
        return [*self.reliability, self.risk, *self.confusions]


@dataclass
class Study:
    """Everything on the page about one data set with one backbone. glance: rows of the summary."""

    anchor: str
    dataset: str
    backbone: str
    parts: list[Part] = field(default_factory=list)
    details: list[Detail] = field(default_factory=list)
    glance: list[list[GridCell]] = field(default_factory=list)
    geometry: Geometry | None = None
    costs: Drawing | None = None
    training: Training | None = None

    @property
    def drawings(self) -> list[Drawing]:
        """Every figure, in the page's order."""
        of_parts = [part.drawing for part in self.parts]
        of_details = [drawing for detail in self.details for drawing in detail.drawings]
        curves = self.training.curves if self.training else []
        return [*of_parts, *of_details, *([self.costs] if self.costs else []), *curves]


def study(
    number: int, dataset: str, protocols: Sequence[Protocol], methods: Sequence[str] | None, material: Material
) -> Study:
    """Compute and draw the results of the runs on a data set.

    number: unique in the page. protocols: those of one backbone with runs on the data set. methods: classes of methods
        in detailed figures, see `choose`.
    """
    anchor = f"{re.sub(r'[^a-z0-9]+', '-', dataset.lower()).strip('-')[:40] or 'data'}-{number}"
    tests = [(one, title, found) for one in protocols for title, found in one.details(dataset).items()]
    shown = [choose([test for test in found if test.predictions], methods) for *_, found in tests]
    names = dict.fromkeys(test.name for chosen in shown for test in chosen)
    colours = {name: place % MOST for place, name in enumerate(names)}
    result = Study(anchor, dataset, next(protocols[0].tests(dataset)).runs[0].backbone)
    for protocol in protocols:
        grid, drawing = grid_of(protocol.table(dataset)), protocol.figure(anchor, dataset, colours)
        floors = {title: most_frequent(found) for title, found in protocol.details(dataset).items()}
        known = {title: floor for title, floor in floors.items() if floor is not None}
        curves = protocol.name == "few_shot" and len(protocol.columns[dataset]) > 1
        result.parts.append(Part(protocol.title, grid, drawing, curves, protocol.has_predictions, known))
        result.glance += protocol.glance(dataset)
    for place, ((protocol, title, found), chosen) in enumerate(zip(tests, shown, strict=True), 1):
        if chosen:
            name = f"{anchor}-test{place}"
            result.details.append(_detail(name, title, found, chosen, colours, protocol.draws, material))
    first = next(filter(None, shown), None) or choose(tests[0][2], methods)
    if first and (geometry := first[0].geometry):
        result.geometry = replace(geometry, classnames=geometry.all_classnames)
        values = costs(result.geometry)
        drawn = matrix("Cost", values, result.geometry.classnames, _texts(values, ".2g"))
        alt = "The cost of predicting each class for each other."
        result.costs = Drawing(f"{anchor}-costs", "Costs of mistakes", alt, drawn)
    result.training = training(anchor, first, material)
    for protocol in protocols:
        for test in protocol.tests(dataset):
            test.forget()
    for drawing in result.drawings:  # rendering takes half of a study's time, so it is part of the progress shown
        _ = drawing.svg
    return result


def confident_mistakes(predictions: Predictions, most: int = CONFIDENT) -> list[tuple[int, Mistake]]:
    """(row, mistake) of the most confident mistakes of one run."""
    wrong = np.flatnonzero(~predictions.correct)
    surest = wrong[np.argsort(-predictions.confidence[wrong], kind="stable")][:most]
    names, labels, sure = predictions.classnames, predictions.labels, 100 * predictions.probabilities
    return [
        (row, Mistake(names[labels[row]], names[predictions.predicted[row]], sure[row].max(), sure[row, labels[row]]))
        for row in surest
    ]


def costliest(predictions: Predictions, seeds: int, costs: np.ndarray | None, most: int = COSTLIEST) -> list[Confusion]:
    """The confusions that contribute most to the expected cost or, without costs, the most frequent ones.

    predictions: pooled over seeds; images are counted per seed.
    """
    counts, names = np.array(confusion_matrix(predictions)), predictions.classnames
    weight = counts * (1.0 if costs is None else costs)
    np.fill_diagonal(weight, 0)
    largest = np.argsort(-weight, axis=None, kind="stable")[:most]
    pairs = [divmod(int(flat), len(names)) for flat in largest if weight.flat[flat] > 0]
    return [
        Confusion(
            names[i], names[j], counts[i, j] / seeds, 100 * counts[i, j] / counts[i].sum(),
            None if costs is None else float(costs[i, j]),
        )
        for i, j in pairs
    ]  # fmt: skip


def _detail(
    anchor: str,
    title: str,
    tests: Sequence[Evaluation],
    shown: Sequence[Evaluation],
    colours: Mapping[str, int],
    draws: int,
    material: Material,
) -> Detail:
    best, first = shown[0], shown[0].predictions[0]
    diagrams, matrices = [], []
    for number, test in enumerate(shown, 1):
        ece = test.metrics["expected_calibration_error"]
        alt = f"Accuracy over confidence of {test.name}; its expected calibration error is {ece:.1f} %."
        figure = reliability_diagram(test.name, test.pooled, ece, colours[test.name])
        diagrams.append(Drawing(f"{anchor}-reliability{number}", f"Reliability of {test.name}", alt, figure))
        alt = (
            f"Percent of each class that {test.name} takes for each class; it is right on {test.accuracy:.1f} % of the "
            "images."
        )
        figure = confusion(test.name, test.pooled, best.geometry.all_classnames if best.geometry else ())
        matrices.append(Drawing(f"{anchor}-confusion{number}", f"Confusion matrix of {test.name}", alt, figure))
    areas = ", ".join(f"{test.name} with an area of {test.metrics['aurc']:.1f} %" for test in shown)
    risk = Drawing(
        f"{anchor}-risk-coverage",
        "Risk and coverage",
        f"Error rate over the share of images that are answered, {areas}.",
        risk_coverage_curves({test.name: test.predictions for test in shown}, colours),
    )
    matrix_of_costs = None if best.geometry is None else costs(best.geometry)
    worst = costliest(best.pooled, len(best.predictions), matrix_of_costs)
    grid = Grid(["true class", "taken for", "images per seed", "of its class", *(["cost"] if best.geometry else [])])
    for one in worst:
        words = [one.predicted, f"{one.images:.1f}", f"{one.share:.0f} %"]
        words += [] if one.cost is None else [f"{one.cost:.2g}"]
        grid.rows.append((one.true, list(map(GridCell, words))))
    picture = thumbnails_of(best.runs[0]) if material.images else None
    mistakes = [
        one._replace(image=picture(first.images[row])) if picture else one for row, one in confident_mistakes(first)
    ]
    return Detail(
        anchor, title, len(first), len(first.classnames), metrics_grid([test for test in tests if test.metrics]),
        diagrams, risk, matrices, _severity(shown, draws) if best.geometry else None, grid, mistakes, best.name,
    )  # fmt: skip


def confusion(name: str, predictions: Predictions, order: Sequence[str] = ()):
    """The percentage of each true class (rows) predicted as each class (columns), as a figure.

    predictions: pooled over seeds. order: order of the classes with related ones together; default: label order.
    """
    names = [one for one in order if one in predictions.classnames] or list(predictions.classnames)
    index = [predictions.classnames.index(one) for one in names]
    counts = np.array(confusion_matrix(predictions))[np.ix_(index, index)]
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    return matrix(name, shares, names, _texts(100 * shares, ".0f"))


def _severity(tests: Sequence[Evaluation], draws: int) -> Grid:
    grid = Grid(["method", "expected cost", "mistake severity", "accuracy, %"])
    for test in tests:
        intervals = [test.interval(metric, min(draws, SEVERITY_DRAWS)) for metric in SEVERITY]
        cells = [GridCell(f"{one.value:.3f}", bracket(one, ".3f")) if one else GridCell("–") for one in intervals]
        grid.rows.append((test.name, [*cells, GridCell(f"{test.accuracy:.1f}")]))
    return grid


def _texts(values: np.ndarray, form: str) -> list[list[str]]:
    return [[f"{value:{form}}" for value in row] for row in values]
