"""One data set with one backbone: tables, reliability, mistakes, how its classes relate, and training."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from dassl.utils import UserError
from geometry import costs

from ..collect import Run
from ..statistics import paired_difference
from .canvas import Drawing
from .chosen import choose, styles
from .confusion import confusion
from .evidence import Evaluation, known_geometry
from .gather import Material
from .grids import Grid, GridCell, bracket, metrics_grid
from .images import Thumbnail, image_folder, thumbnail, training_images
from .learning import learning_curves
from .mistakes import Confusion, Mistake, confident_mistakes, costliest
from .protocol import Protocol
from .relation import class_tree, cost_matrix
from .reliability import reliability_diagram, risk_coverage_curves
from .scores import PARTS, base_novel_bars, few_shot_curves
from .training import training_curves

PER_CLASS = 6  # training images shown
CLASSES_SHOWN = 24  # with training images
BARS = (
    "Base classes were trained on, novel ones were not; HM is the harmonic mean of both. A line across the end of a bar "
    "is its 95 % interval over test images."
)
CURVES = (
    "What further training images per class are worth. Bands are 95 % intervals over test images, of the methods in "
    "colour; the others are grey, with a letter."
)
SEVERITY = ("expected_cost", "mistake_severity")


@dataclass
class Part:
    """A protocol's table and figure. floors: {test: accuracy in percent of always naming the most frequent class}."""

    title: str
    grid: Grid
    drawing: Drawing
    how_to_read: str
    floors: dict[str, float]


@dataclass
class Severity:
    """grid: costs of the methods shown, None without a geometry. worst: of the first of them, named `method`."""

    grid: Grid | None
    method: str
    worst: list[Confusion]


@dataclass
class Detail:
    """What one set of test images says of the methods: how reliable they are, and what they mistake."""

    anchor: str
    title: str
    images: int
    classes: int
    grid: Grid
    reliability: list[Drawing]
    risk: Drawing
    confusions: list[Drawing]
    severity: Severity
    surest: list[Mistake]
    surest_of: str


@dataclass
class Relation:
    """How the classes relate."""

    drawings: list[Drawing]
    notes: dict[str, str]
    sources: tuple[str, ...]
    reviewed: bool


@dataclass
class Training:
    """curves: a figure per method. images: (class, thumbnails, how many more were drawn)."""

    curves: list[Drawing]
    images: list[tuple[str, list[Thumbnail], int]]
    images_of: str


@dataclass
class Study:
    """Everything that the page says of one data set with one backbone."""

    anchor: str
    dataset: str
    backbone: str
    parts: list[Part] = field(default_factory=list)
    details: list[Detail] = field(default_factory=list)
    relation: Relation | None = None
    training: Training | None = None
    glance: list[tuple[str, list[GridCell]]] = field(default_factory=list)

    @property
    def drawings(self) -> list[Drawing]:
        """Every figure, in the page's order."""
        found = [part.drawing for part in self.parts]
        for detail in self.details:
            found += [*detail.reliability, detail.risk, *detail.confusions]
        found += self.relation.drawings if self.relation else []
        return found + (self.training.curves if self.training else [])


def study(
    anchor: str, dataset: str, protocols: Sequence[Protocol], methods: Sequence[str] | None, material: Material
) -> Study:
    """Compute and draw what the runs on a data set say.

    protocols: of one backbone, those with runs on the data set. methods: those in detailed figures, see `choose`.
    """
    runs = [run for protocol in protocols for test in protocol.of(dataset) for run in test.runs]
    result = Study(anchor, dataset, runs[0].backbone)
    shown: list[Evaluation] = []
    chosen_of = {
        (protocol.name, title): choose(tests, methods)
        for protocol in protocols
        for title, tests in protocol.details(dataset)
    }
    colours = styles(list(chosen_of.values()))
    for protocol in protocols:
        part, glance = _part(anchor, dataset, protocol, colours)
        result.parts.append(part)
        result.glance += glance
        for title, tests in protocol.details(dataset):
            chosen = chosen_of[protocol.name, title]
            if chosen:
                number = len(result.details) + 1
                result.details.append(
                    _detail(f"{anchor}-test{number}", title, tests, chosen, colours, protocol.draws, material)
                )
                shown = shown or chosen
    result.relation = _relation(anchor, runs[0], shown, material)
    result.training = _training(anchor, shown or _without_predictions(protocols, dataset, methods), material)
    return result


def _part(
    anchor: str, dataset: str, protocol: Protocol, colours: Mapping[str, int]
) -> tuple[Part, list[tuple[str, list[GridCell]]]]:
    intervals = protocol.intervals(dataset)
    scores = protocol.scores(dataset, intervals)
    details = protocol.details(dataset)
    floors = {title: _floor(tests) for title, tests in details}
    floors = {title: floor for title, floor in floors.items() if floor is not None}
    if protocol.name == "base2new":
        figure = base_novel_bars({name: {part: of.get(part) for part in PARTS} for name, of in scores.items()})
        drawing = Drawing(
            f"{anchor}-base-novel", "Base, novel and HM", "Horizontal bars of the accuracies in the table.", figure
        )
        how_to_read = BARS
    else:
        curves = {
            name: [(shots, of_row[header]) for header, shots in protocol.columns(dataset) if header in of_row]
            for name, of_row in scores.items()
        }
        curves = {name: points for name, points in curves.items() if points}
        figure = few_shot_curves(curves, colours, next(iter(floors.values()), None))
        drawing = Drawing(
            f"{anchor}-few-shot", "Accuracy over shots", "Curves of the accuracies in the table over the shots.", figure
        )
        how_to_read = CURVES
    part = Part(protocol.title, protocol.grid(dataset, intervals), drawing, how_to_read, floors)
    return part, [_glance(protocol, title, tests, floors.get(title)) for title, tests in details if tests]


def _glance(
    protocol: Protocol, title: str, tests: Sequence[Evaluation], floor: float | None
) -> tuple[str, list[GridCell]]:
    """The summary's row of a test: the best method, zero-shot, and the accuracy that needs no image."""
    best = max(tests, key=lambda test: test.accuracy)
    interval = best.interval("accuracy", protocol.draws)
    zero = next((test for test in tests if test.variant.method == "ZeroShot"), None)
    return title, [
        GridCell(best.name),
        GridCell(f"{best.accuracy:.1f}", bracket(interval, 1) if interval else ""),
        GridCell(f"{zero.accuracy:.1f}" if zero else "–"),
        _gain(best, zero, protocol.draws),
        GridCell("–" if floor is None else f"{floor:.1f}"),
    ]


def _gain(best: Evaluation, zero: Evaluation | None, draws: int) -> GridCell:
    """What the best has beyond zero-shot, on the same images."""
    if zero is None or zero is best or not (best.predictions and zero.predictions):
        return GridCell("–")
    try:
        found = paired_difference("accuracy", best.predictions, zero.predictions, draws=draws)
    except UserError:  # tested on other images
        return GridCell("–")
    return GridCell(_signed(found.value), f"{_signed(found.low)} to {_signed(found.high)}")


def _signed(value: float) -> str:
    return f"{value:+.1f}" if round(value, 1) else "0.0"


def _floor(tests: Sequence[Evaluation]) -> float | None:
    """Accuracy in percent of always naming the class that has most test images."""
    for test in tests:
        if test.predictions:
            labels = test.predictions[0].labels
            return 100 * float(np.bincount(labels).max() / len(labels))
    return None


def _detail(
    anchor: str, title: str, tests: Sequence[Evaluation], chosen: Sequence[Evaluation], colours: Mapping[str, int], draws: int,
    material: Material,
) -> Detail:  # fmt: skip
    first = chosen[0].predictions[0]
    diagrams, matrices = [], []
    for number, test in enumerate(chosen):
        ece = test.metrics["expected_calibration_error"]
        diagrams.append(
            Drawing(
                f"{anchor}-reliability{number + 1}",
                f"Reliability of {test.name}",
                f"Accuracy over confidence of {test.name}; its expected calibration error is {ece:.1f} %.",
                reliability_diagram(test.name, test.pooled, ece, colours[test.name]),
            )
        )
        matrices.append(
            Drawing(
                f"{anchor}-confusion{number + 1}",
                f"Confusion matrix of {test.name}",
                f"Percent of each class that {test.name} takes for each class; "
                f"it is right on {test.accuracy:.1f} % of the images.",
                confusion(test.name, test.pooled),
            )
        )
    risk = Drawing(
        f"{anchor}-risk-coverage",
        "Risk and coverage",
        "Error rate over the share of images that are answered, "
        + ", ".join(f"{test.name} with an area of {test.metrics['aurc']:.1f} %" for test in chosen)
        + ".",
        risk_coverage_curves({test.name: test.predictions for test in chosen}, colours),
    )
    folder = None if material.notes.private else image_folder(chosen[0].runs[0])
    picture = None if material.notes.private else partial(thumbnail, folder)
    return Detail(
        anchor, title, len(first), len(first.classnames), metrics_grid(tests), diagrams, risk, matrices,
        _severity(chosen, draws), confident_mistakes(first, picture), chosen[0].name,
    )  # fmt: skip


def _severity(chosen: Sequence[Evaluation], draws: int) -> Severity:
    first = chosen[0]
    matrix = None if first.geometry is None else costs(first.geometry)
    worst = costliest(first.pooled, len(first.predictions), matrix)
    if matrix is None:
        return Severity(None, first.name, worst)
    grid = Grid(["method", "expected cost", "mistake severity", "accuracy, %"])
    for test in chosen:
        cells = []
        for metric in SEVERITY:
            interval = test.interval(metric, min(draws, 500))
            cells.append(GridCell(f"{interval.value:.3f}", bracket(interval, 3)) if interval else GridCell("–"))
        grid.rows.append((test.name, [*cells, GridCell(f"{test.accuracy:.1f}")]))
    return Severity(grid, first.name, worst)


def _relation(anchor: str, run: Run, shown: Sequence[Evaluation], material: Material) -> Relation | None:
    """Of all classes of the data set, whatever half of them was tested."""
    if not shown or shown[0].geometry is None:
        return None
    geometry = known_geometry(run, shown[0].geometry.all_classnames, material.notes)
    kind = "order" if geometry.is_ordered else "tree"
    drawings = [
        Drawing(f"{anchor}-classes", f"The classes' {kind}", f"The {kind} of the classes.", class_tree(geometry)),
        Drawing(
            f"{anchor}-costs", "Costs of mistakes", "What it costs to take each class for each.", cost_matrix(geometry)
        ),
    ]
    return Relation(drawings, dict(geometry.notes), geometry.source, geometry.reviewed)


def _without_predictions(
    protocols: Sequence[Protocol], dataset: str, methods: Sequence[str] | None
) -> list[Evaluation]:
    """The tests whose training is shown where none kept predictions."""
    tests = protocols[0].details(dataset)[0][1] if protocols[0].details(dataset) else []
    wanted = methods or ("OGKD",)
    return [test for test in tests if test.variant.method in wanted] or tests[:1]


def _training(anchor: str, shown: Sequence[Evaluation], material: Material) -> Training | None:
    curves: list[Drawing] = []
    for test in shown:
        seeds = []
        for run in test.runs:
            try:
                seeds.append(training_curves(run.path / "log.txt"))
            except OSError as error:
                material.notes.unreadable(f"{material.shown(run.path)}/log.txt", f"log.txt cannot be read ({error}).")
        seeds = [one for one in seeds if one]
        if seeds:
            curves.append(
                Drawing(
                    f"{anchor}-training{len(curves) + 1}",
                    f"Training of {test.name}",
                    f"Loss, accuracy and loss terms over the epochs, of {len(seeds)} seeds.",
                    learning_curves(seeds),
                )
            )
    images: list[tuple[str, list[Thumbnail], int]] = []
    if shown and not material.notes.private:
        images = _drawn_images(shown[0].runs[0], material)
    if not curves and not images:
        return None
    run = shown[0].runs[0]
    return Training(curves, images, f"seed {run.seed}, {run.shots} per class")


def _drawn_images(run: Run, material: Material) -> list[tuple[str, list[Thumbnail], int]]:
    try:
        drawn = training_images(run)
    except UserError as error:
        material.notes.unreadable(f"{material.shown(run.path)}/split.json", f"{material.shown(run.path)}/{error}")
        return []
    folder = image_folder(run)
    found = []
    for classname, names in list(drawn.items())[:CLASSES_SHOWN]:
        pictures = [thumbnail(folder, name) for name in names[:PER_CLASS]]
        found.append((classname, pictures, len(names) - len(pictures)))
    return found if any(one.uri for _, pictures, _ in found for one in pictures) else []


def anchor_of(name: str, number: int) -> str:
    """A name for links, ids and files: letters, digits and dashes, unique by its number."""
    return f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')[:40] or 'data'}-{number}"
