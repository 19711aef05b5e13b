"""One data set with one backbone: tables, reliability, mistakes, how its classes relate, and training."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from ogkd.evaluation.collect import Run
from ogkd.reports.page.canvas import Drawing
from ogkd.reports.page.chosen import choose, styles
from ogkd.reports.page.detail import Detail, detail
from ogkd.reports.page.evidence import Evaluation, known_geometry
from ogkd.reports.page.gather import Material
from ogkd.reports.page.protocol import Protocol
from ogkd.reports.page.relation import class_tree, cost_matrix
from ogkd.reports.page.standing import Standing, standing
from ogkd.reports.page.training import Training, training


@dataclass
class Relation:
    """How the classes relate."""

    drawings: list[Drawing]
    notes: dict[str, str]
    sources: tuple[str, ...]
    reviewed: bool


@dataclass
class Study:
    """Everything on the page about one data set with one backbone."""

    anchor: str
    dataset: str
    backbone: str
    parts: list[Standing] = field(default_factory=list)
    details: list[Detail] = field(default_factory=list)
    relation: Relation | None = None
    training: Training | None = None

    @property
    def drawings(self) -> list[Drawing]:
        """Every figure, in the page's order."""
        found = [part.drawing for part in self.parts]
        for one in self.details:
            found += [*one.reliability, one.risk, *one.confusions]
        found += self.relation.drawings if self.relation else []
        return found + (self.training.curves if self.training else [])


def study(
    anchor: str, dataset: str, protocols: Sequence[Protocol], methods: Sequence[str] | None, material: Material
) -> Study:
    """Compute and draw the results of the runs on a data set.

    protocols: those of one backbone with runs on the data set. methods: methods in detailed figures, see `choose`.
    """
    runs = [run for protocol in protocols for test in protocol.of(dataset) for run in test.runs]
    result = Study(anchor, dataset, runs[0].backbone)
    # For each test with details: the protocol, its title, the methods' evaluations, and those that are shown.
    tests = [
        (protocol, title, found, choose(found, methods))
        for protocol in protocols
        for title, found in protocol.details(dataset)
    ]
    colours = styles([chosen for *_, chosen in tests])
    result.parts = [standing(anchor, dataset, protocol, colours) for protocol in protocols]
    for number, (protocol, title, found, chosen) in enumerate(tests, 1):
        if chosen:
            name = f"{anchor}-test{number}"
            result.details.append(detail(name, title, found, chosen, colours, protocol.draws, material))
    shown = next((chosen for *_, chosen in tests if chosen), [])
    result.relation = _relation(anchor, runs[0], shown, material)
    trained = shown or choose(tests[0][2], methods, with_predictions=False)
    result.training = training(anchor, trained, material)
    for protocol in protocols:
        protocol.forget(dataset)
    for drawing in result.drawings:  # rendering takes half of a study's time, so it is part of the progress shown
        _ = drawing.svg
    return result


def _relation(anchor: str, run: Run, shown: Sequence[Evaluation], material: Material) -> Relation | None:
    """The relation of all classes of the data set, even if only half of them were tested."""
    if not shown or shown[0].geometry is None:
        return None
    geometry = known_geometry(run, shown[0].geometry.all_classnames, material.notes)
    if geometry is None:
        return None
    kind = "order" if geometry.is_ordered else "tree"
    drawings = [
        Drawing(f"{anchor}-classes", f"The classes' {kind}", f"The {kind} of the classes.", class_tree(geometry)),
        Drawing(
            f"{anchor}-costs",
            "Costs of mistakes",
            "The cost of predicting each class for each other.",
            cost_matrix(geometry),
        ),
    ]
    return Relation(drawings, dict(geometry.notes), geometry.source, geometry.reviewed)


def anchor_of(name: str, number: int) -> str:
    """A name for links, ids and files: letters, digits and dashes, unique by its number."""
    return f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')[:40] or 'data'}-{number}"
