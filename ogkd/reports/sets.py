"""Tables of prediction sets: how often they contain the true class, how large they are, and for which class they fail.

Thresholds are chosen on each run's validation images, never on test images (ogkd/evaluation/sets.py).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ogkd.core import UserError
from ogkd.core.words import listed
from ogkd.evaluation.clinical import Estimate
from ogkd.evaluation.collect import Run
from ogkd.evaluation.conformal import scatter
from ogkd.evaluation.limits import meaningless
from ogkd.evaluation.predictions import Predictions, same_images
from ogkd.evaluation.sets import LAC, P_VALUES, Covered, by_p_values, check, choose, covered, shares_differ
from ogkd.evaluation.tested import sampled, tested_on
from ogkd.reports.cells import AnyCell, Cell, cell
from ogkd.reports.footnotes import footnote, footnotes, seeds_of
from ogkd.reports.render import Row, Table
from ogkd.reports.tables import DISPERSION, INTERVALS, of_draw, of_kinds
from ogkd.reports.variants import ON_TRAINED_CLASSES, by_place

HEADERS = ["method", "coverage, %", "classes per set", "empty, %", "lowest of a class, %", "gap of classes, points"]
FULL = (
    "Full conformal prediction needs no validation images: each test image is fitted with each label beside the "
    "training images. Where these are as many of each class, the coverage is promised for such shares, or per class "
    "(--per-class)."
)
Sets = tuple[np.ndarray, Predictions]  # (N, C) bool, and what they are sets of


def sets_tables(
    runs: Sequence[Run],
    coverage: float = 0.9,
    scores: Sequence[str] = (LAC,),
    per_class: bool = False,
    intervals: bool = False,
) -> list[Table]:
    """For each data set, part or number of shots, and score two tables with one row per variant: what sets with this
    wanted coverage achieve on the test images, and how often they contain the true class of each class.

    All runs must have the same backbone. `intervals`: those of coverages over test images instead of the deviation over
    seeds. Novel classes have no validation images, so they have no sets.

    Raises:
        UserError: there are several backbones, or the coverage is out of range.
    """
    check(coverage)
    tables = list[Table]()
    places, notes = by_place(of_kinds(runs, *ON_TRAINED_CLASSES))
    for (dataset, column), rows in places.items():
        for score in scores:
            made = _Part(f"{dataset} {column}", column, coverage, score, per_class, intervals)
            for row, chosen in rows:
                made.add(row.name, row.method, row.key, chosen)
            tables += made.tables()
    if any(run.kind == "test_new" for run in runs):
        notes.append("Novel classes have no validation images, so they have no prediction sets.")
    for table in tables[:1]:
        table.notes += list(dict.fromkeys(notes))
    return tables


@dataclass
class _Part:
    """The tables of one set of test images and one score."""

    title: str
    column: str
    coverage: float
    score: str
    per_class: bool
    intervals: bool
    rows: list[tuple[Row, list[Covered]]] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    reasons: dict[str, dict[tuple[str, str], list[str]]] = field(
        default_factory=dict
    )  # {reason: {(column, seeds): rows}}
    remarks: dict[str, None] = field(default_factory=dict)

    def add(self, name: str, method: str, variant: str, runs: Sequence[Run]) -> None:
        """Add a row, and for runs with full conformal prediction, whose score is LAC, another."""
        finished = [run for run in runs if not run.diverged]
        self.runs += finished
        self._add(Row(name, {}, method, variant, {self.column: list(runs)}), finished, self._split)
        full = [run for run in finished if (run.path / P_VALUES).is_file()]
        if full and self.score == LAC:
            row = Row(f"{name}, full conformal", {}, method, f"{variant} full conformal", {self.column: full})
            self._add(row, full, self._full)
            self.remarks[FULL] = None

    def _add(self, row: Row, runs: Sequence[Run], sets_of: Callable[[Run], Sets]) -> None:
        """Add a row of the runs that have sets; others are named with the reason."""
        of_seeds, reasons = list[tuple[Run, Sets]](), dict[str, list[int]]()
        for run in runs:
            try:
                one = sets_of(run)
                if self.intervals and of_seeds and not same_images(one[1], of_seeds[0][1][1]):
                    raise UserError("test images are others than those of the first seed")
                of_seeds.append((run, one))
            except (UserError, FileNotFoundError) as error:
                reasons.setdefault(str(error).rstrip("."), []).append(run.seed)
        for run, _ in of_seeds if sets_of == self._split else ():
            if chosen := (run.results.get("labelled") or {}).get("chosen"):
                used = f"validation images, from which thresholds are, too, were used to choose {listed(chosen)}"
                reason = f"{used}, so the coverage may be below the wanted one"
                reasons.setdefault(reason, []).append(run.seed)
        for reason, seeds in reasons.items():
            self.reasons.setdefault(reason, {}).setdefault((self.column, seeds_of(seeds)), []).append(row.name)
        if of_seeds and row.runs:
            unused = {id(run) for run in runs} - {id(run) for run, _ in of_seeds}
            row.runs = {self.column: [run for run in row.runs[self.column] if id(run) not in unused]}
        made = [one for _, one in of_seeds]
        together = [made] if self.intervals and made else [[one] for one in made]
        self.rows.append((row, [covered([inside for inside, _ in some], some[0][1]) for some in together]))

    def _full(self, run: Run) -> Sets:
        test = Predictions.load(run.path / "predictions.npz")
        return by_p_values(run.path / P_VALUES, test, self.coverage, self.per_class), test

    def _split(self, run: Run) -> Sets:
        """Raises UserError for a run without predictions or with too few validation images."""
        if run.results.get("split") == "val":
            raise UserError("results are of validation images, on which no thresholds can be tested")
        if not (run.path / "val_predictions.npz").is_file():
            raise UserError("no predictions of validation images are stored")
        validation, test = (Predictions.load(run.path / f"{part}predictions.npz") for part in ("val_", ""))
        if validation.classnames != test.classnames:
            raise UserError("validation images are of other classes than test images")
        rule = choose(validation, self.coverage, self.score, self.per_class)
        if not self.per_class and (differ := shares_differ(validation, test)):
            self.remarks[f"{differ}; sets per class (--per-class) hold for any shares."] = None
        if not self.per_class:
            low, high = scatter(self.coverage, validation.patients or len(validation))
            what = "images" if validation.groups is None else "patients"
            self.remarks[
                f"With {validation.patients or len(validation)} validation {what}, the coverage of one run may be "
                f"{100 * low:.0f} to {100 * high:.0f} % (95 % of choices)."
            ] = None
        return rule.sets(test.probabilities), test

    def tables(self) -> list[Table]:
        """What the sets achieve, and the coverage of each class."""
        wanted = f"{self.score} sets{' per class' * self.per_class} of {100 * self.coverage:g} %"
        first = Table(f"{self.title}, {wanted}", HEADERS)
        second = Table(f"{self.title}, {wanted}: each class", ["method"])
        second.headers += list(dict.fromkeys(name for _, seeds in self.rows for of in seeds for name in of.by_class))
        for row, seeds in self.rows:
            every = [
                self._share([of.coverage for of in seeds]),
                cell([of.size for of in seeds]),
                cell([of.empty for of in seeds]),
                self._share([of.smallest[1] for of in seeds]),
                cell([of.gap(self.coverage) for of in seeds]),
            ]
            first.add(row.name, every, row.method, row.variant, row.runs)
            of_class = [self._share([of.by_class.get(name) for of in seeds]) for name in second.headers[1:]]
            second.add(row.name, of_class, row.method, row.variant, row.runs)
        spread = f", {INTERVALS} over {sampled(self.runs)}" if self.intervals else ""
        if any(len(seeds) > 1 for _, seeds in self.rows):
            spread = f", {DISPERSION}"
        first.caption = (
            f"How many sets contain the true class, wanted {100 * self.coverage:g} %"
            f"{' of each class' * self.per_class}; how many classes a set has; the worst class's coverage and the mean "
            f"distance of the classes' coverage from the wanted one{spread}. Thresholds are from "
            f"each run's validation images.{of_draw(self.runs)}"
        )
        second.caption = f"How many sets of each class's test images contain it, in %{spread}."
        first.sample = tested_on({self.title: self.runs})
        of_cells = [(row.name, self.column, row.runs[self.column]) for row, _ in self.rows if row.runs]
        rows = Counter({self.column: len(self.rows)})
        reasons = [footnote(reason, places, rows) for reason, places in self.reasons.items()]
        first.footnotes = [*footnotes(of_cells), *reasons, *self.remarks, *meaningless(self.runs)]
        return [first, second] if any(seeds for _, seeds in self.rows) else [first]

    def _share(self, of_seeds: Sequence[Estimate | None]) -> AnyCell:
        known = [of for of in of_seeds if of]
        if self.intervals and known:
            return Cell.of(known[0])
        return cell([of.value for of in known])
