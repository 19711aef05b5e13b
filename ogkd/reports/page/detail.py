"""Details on one set of test images: the methods' reliability and their mistakes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from ogkd.classes import costs
from ogkd.reports.page.canvas import Drawing
from ogkd.reports.page.confusion import confusion
from ogkd.reports.page.evidence import Evaluation
from ogkd.reports.page.gather import Material
from ogkd.reports.page.grids import Grid, GridCell, bracket, metrics_grid
from ogkd.reports.page.images import frame_of, image_folder, thumbnail
from ogkd.reports.page.mistakes import Confusion, Mistake, confident_mistakes, costliest
from ogkd.reports.page.reliability import reliability_diagram, risk_coverage_curves

SEVERITY = ("expected_cost", "mistake_severity")
SEVERITY_DRAWS = 500  # maximum number of bootstrap draws


@dataclass
class Severity:
    """grid: costs of the methods shown, None without a geometry. worst: confusions of the first one, `method`."""

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
    grid: Grid | None
    reliability: list[Drawing]
    risk: Drawing
    confusions: list[Drawing]
    severity: Severity
    surest: list[Mistake]
    surest_of: str


def detail(
    anchor: str,
    title: str,
    tests: Sequence[Evaluation],
    chosen: Sequence[Evaluation],
    colours: Mapping[str, int],
    draws: int,
    material: Material,
) -> Detail:
    """Compute and draw the details. tests: those of all methods; chosen: those in figures, the best first."""
    first = chosen[0].predictions[0]
    related = chosen[0].geometry.all_classnames if chosen[0].geometry else ()
    diagrams, matrices = [], []
    for number, test in enumerate(chosen):
        ece, pooled = test.metrics["expected_calibration_error"], test.pooled
        assert pooled is not None  # chosen tests have predictions
        diagrams.append(
            Drawing(
                f"{anchor}-reliability{number + 1}",
                f"Reliability of {test.name}",
                f"Accuracy over confidence of {test.name}; its expected calibration error is {ece:.1f} %.",
                reliability_diagram(test.name, pooled, ece, colours[test.name]),
            )
        )
        matrices.append(
            Drawing(
                f"{anchor}-confusion{number + 1}",
                f"Confusion matrix of {test.name}",
                f"Percent of each class that {test.name} takes for each class; "
                f"it is right on {test.accuracy:.1f} % of the images.",
                confusion(test.name, pooled, related),
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
    run = chosen[0].runs[0]
    picture = None if material.notes.private else partial(thumbnail, image_folder(run), frame=frame_of(run))
    return Detail(
        anchor, title, len(first), len(first.classnames), metrics_grid(tests), diagrams, risk, matrices,
        _severity(chosen, draws), confident_mistakes(first, picture), chosen[0].name,
    )  # fmt: skip


def _severity(chosen: Sequence[Evaluation], draws: int) -> Severity:
    first = chosen[0]
    matrix = None if first.geometry is None else costs(first.geometry)
    assert first.pooled is not None  # as above
    worst = costliest(first.pooled, len(first.predictions), matrix)
    if matrix is None:
        return Severity(None, first.name, worst)
    grid = Grid(["method", "expected cost", "mistake severity", "accuracy, %"])
    for test in chosen:
        cells = []
        for metric in SEVERITY:
            interval = test.interval(metric, min(draws, SEVERITY_DRAWS))
            cells.append(GridCell(f"{interval.value:.3f}", bracket(interval, 3)) if interval else GridCell("–"))
        grid.rows.append((test.name, [*cells, GridCell(f"{test.accuracy:.1f}")]))
    return Severity(grid, first.name, worst)
