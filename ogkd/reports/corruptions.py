"""Tables of runs that were tested on corrupted images: how much worse each method is there, and by kind and level."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

import numpy as np

from ogkd.core import UserError
from ogkd.core.words import counted
from ogkd.data.corruptions import KINDS
from ogkd.evaluation import corrupted
from ogkd.evaluation.collect import Run
from ogkd.evaluation.corrupted import COVERAGE, Corrupted, calibration, errors, harm
from ogkd.evaluation.limits import meaningless
from ogkd.evaluation.predictions import Predictions, same_images
from ogkd.evaluation.tested import sampled, tested_on
from ogkd.reports.cells import AnyCell, Cell, cell
from ogkd.reports.render import Row, Table
from ogkd.reports.tables import DISPERSION, of_draw, of_kinds
from ogkd.reports.variants import ON_TRAINED_CLASSES, by_place

CLEAN, MEAN = "clean", "mean over kinds"
COVERED = "covered, %"
ABOUT_SETS = (
    f"“{COVERED}” is how often sets of {100 * COVERAGE:g} % by validation images (--table sets) contain the true class."
)
BASELINE = "ZeroShot"  # in the place of AlexNet in MedMNIST-C's measures


@dataclass
class Tested:
    """A row's seeds that were tested on corrupted images."""

    row: Row
    seeds: list[Corrupted]
    kinds: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def choose_seeds(self) -> None:
        """Leave out seeds that were tested on other images than the first, or on no kind that all before them have."""
        every, first = [*zip(self.runs, self.seeds, strict=True)], self.seeds[0]
        chosen, self.seeds, self.kinds = [], [], list(first.kinds)
        for run, seed in every:
            shared = [kind for kind in self.kinds if kind in seed.kinds]
            if shared and same_images(seed.clean, first.clean):
                chosen.append(run)
                self.seeds.append(seed)
                self.kinds = shared
        self.row = replace(self.row, runs=dict.fromkeys(self.row.runs, chosen))
        if left_out := len(every) - len(self.seeds):
            self.remarks = [
                f"{self.row.name}: {left_out} of {counted(len(every), 'seed')} left out, as tested on other images or "
                "kinds of corruptions than those before."
            ]

    def worse(self, kinds: Sequence[str]) -> list[Predictions]:
        """The predictions of all seeds, kinds and levels; those of a kind with fewer levels are repeated, so that
        all kinds count alike."""
        parts = [seed.of(kind) for seed in self.seeds for kind in kinds]
        number = math.lcm(*map(len, parts))
        return [one for part in parts for one in part * (number // len(part))]

    def coverage(self, kinds: Sequence[str] | None = None) -> AnyCell:
        """That of prediction sets on these kinds, by default on clean images; None if a seed has none."""
        values = [
            seed.coverage(part)
            for seed in self.seeds
            for part in ([[seed.clean]] if kinds is None else map(seed.of, kinds))
        ]
        known = [value for value in values if value is not None]
        return Cell(float(np.mean(known))) if known and len(known) == len(values) else None

    @property
    def runs(self) -> list[Run]:
        ((_, runs),) = self.row.runs.items()
        return runs

    @property
    def clean(self) -> list[Predictions]:
        return [seed.clean for seed in self.seeds]


def corruption_tables(runs: Sequence[Run]) -> list[Table]:
    """For each data set, part or number of shots, a table of the methods and one of every method's kinds and levels.
    Runs that were not tested on corrupted images are left out.

    Raises:
        UserError: there are several backbones, or no test on corrupted images can be read.
    """
    places, notes = by_place(of_kinds([run for run in runs if not run.diverged], *ON_TRAINED_CLASSES))
    tables = list[Table]()
    for (dataset, column), variants in places.items():
        rows = [Row(one.name, {}, one.method, one.key, {column: of_row}) for one, of_row in variants]
        tables += part_tables(f"{dataset} {column}, corrupted images", tested(rows, lambda _, e: notes.append(str(e))))
    if notes and not tables:
        raise UserError(notes[0])
    for table in tables[:1]:
        table.notes += list(dict.fromkeys(notes))
    return tables


def tested(rows: Iterable[Row], unreadable: Callable[[Path, Exception], object]) -> list[Tested]:
    """The rows with those of their runs that were tested on corrupted images. unreadable: called with what cannot be
    read."""
    result = []
    for row in rows:
        ((column, runs),) = row.runs.items()
        read: list[tuple[Run, Corrupted]] = []
        for run in runs:
            try:
                if one := corrupted.read(run.path):
                    read.append((run, one))
            except (UserError, FileNotFoundError) as error:
                unreadable(run.path / corrupted.FOLDER, error)
        if read:
            result.append(Tested(replace(row, runs={column: [run for run, _ in read]}), [one for _, one in read]))
    return result


def part_tables(title: str, rows: list[Tested]) -> Iterator[Table]:
    """The table of the methods, over the kinds that all have, and one per method.

    Of a row's seeds those count that were tested on the images of the first and on a kind that all before them have.
    """
    for one in rows:
        one.choose_seeds()
    shared = [kind for kind in KINDS if all(kind in one.kinds for one in rows)]
    settings = {
        str(seed.settings.get(key)) for one in rows for seed in one.seeds for key in ("modality", "seed", "size")
    }
    levels = {str([list(seed.kinds[kind]) for kind in shared]) for one in rows for seed in one.seeds}
    alike = len(settings) == 3 and len(levels) == 1
    if rows and shared:
        yield _methods(title, rows, shared, alike)
    for one in rows:
        yield by_kind(f"{title}: {one.row.name}".removeprefix(": "), one)


def _methods(title: str, rows: Sequence[Tested], shared: Sequence[str], alike: bool) -> Table:
    """One row per method: means over the kinds that all rows have."""
    runs = [run for one in rows for run in one.runs]
    baseline = next((one for one in rows if one.row.method == BASELINE and not one.row.variant), None)
    baseline = baseline if alike and len(rows) > 1 else None
    headers = ["method", "clean error, %", "error, %", "drop, points", "clean ECE, %", "ECE, %", "clean NLL", "NLL"]
    headers += [f"clean {COVERED}", COVERED]
    table = Table(title, headers + ["relative error, %", "relative drop, %"] * (baseline is not None))
    for one in rows:
        of = harm(one.clean, one.worse(shared))
        (ece, nll), clean = calibration(one.clean), errors(one.clean)
        cells: list[AnyCell] = [Cell(clean), Cell.of(of.error), Cell.of(of.drop), Cell(ece), Cell(of.ece)]
        cells += [Cell(nll, decimals=3), Cell(of.nll, decimals=3)]
        cells += [one.coverage(), one.coverage(shared)]
        if baseline is not None:
            cells += _relative(one, baseline, shared)
        table.add(one.row.name, cells, one.row.method, one.row.variant, one.row.runs)
    table.ranked = [headers[place] for place in (1, 2, 4, 5, 6, 7)]
    table.lower = True
    table.sample = tested_on({title or "": runs})
    table.caption = (
        f"Balanced error, the mean over classes of the share of their images that are misclassified, and calibration, "
        f"on clean test images and on average over {counted(len(shared), 'kind')} of corruptions and their levels; the "
        f"drop is the error minus that on clean images, in points. {ABOUT_SETS} 95 % intervals over "
        f"{sampled(runs)}.{of_draw(runs)}"
    )
    if baseline is not None:
        table.caption += (
            " Relative: the error, and the drop, of each kind divided by zero-shot's, averaged over kinds, as BE and "
            "rBE of MedMNIST-C with zero-shot in AlexNet's place; a kind in which zero-shot is no worse than on clean "
            "images is left out of the latter."
        )
    if not alike:
        table.footnotes.append(
            "The rows were tested with different levels, modalities, seeds or input sizes, so they are not comparable."
        )
    table.footnotes += [*chain.from_iterable(one.remarks for one in rows), *meaningless(runs)]
    return table


def _relative(one: Tested, baseline: Tested, kinds: Sequence[str]) -> list[AnyCell]:
    """The error and the drop relative to the baseline's in percent, means over kinds; None without any."""
    clean, of_baseline = errors(one.clean), errors(baseline.clean)
    pairs = [(errors(one.worse([kind])), errors(baseline.worse([kind]))) for kind in kinds]
    relative = [100 * own / other for own, other in pairs if other > 0]
    drops = [100 * (own - clean) / (other - of_baseline) for own, other in pairs if other > of_baseline]
    return [Cell(float(np.mean(of))) if of else None for of in (relative, drops)]


def by_kind(title: str, one: Tested) -> Table:
    """One row per kind: the balanced error at each level, its mean, the drop, and calibration."""
    levels = sorted({level for seed in one.seeds for kind in one.kinds for level in seed.kinds[kind]})
    headers = ["corruption", *(f"level {level}" for level in levels), "mean", "drop, points", "ECE, %", "NLL", COVERED]
    table = Table(title, headers)
    ece, nll = calibration(one.clean)
    clean = [cell([errors([of]) for of in one.clean])]
    table.add(CLEAN, [*[None] * len(levels), *clean, None, Cell(ece), Cell(nll, decimals=3), one.coverage()])
    for kind in one.kinds:
        at = [
            cell([errors([seed.kinds[kind][level]]) for seed in one.seeds if level in seed.kinds[kind]])
            for level in levels
        ]
        table.add(kind.replace("_", " "), [*at, *_means(one, [kind])])
    table.add(MEAN, [*[None] * len(levels), *_means(one, one.kinds)])
    table.footnotes = [*one.remarks]
    spread = f", {DISPERSION}" if len(one.seeds) > 1 else ""
    table.caption = (
        f"Balanced error in %{spread}; mean over levels and drop against clean images with 95 % intervals over "
        f"{sampled(one.runs)}; mean calibration. {ABOUT_SETS} Strengths are MedMNIST-C's for "
        f"{one.seeds[0].settings.get('modality')}."
    )
    return table


def _means(one: Tested, kinds: Sequence[str]) -> list[AnyCell]:
    of = harm(one.clean, one.worse(kinds))
    return [Cell.of(of.error), Cell.of(of.drop), Cell(of.ece), Cell(of.nll, decimals=3), one.coverage(kinds)]
