"""How good the answers are in each group of a column, such as sex or site, and how far apart the groups are.

A group with fewer than FEWEST patients is not measured: its interval would be wide, and its numbers may show a person.
Patients are resampled within each group, as if no patient were in two of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ogkd.core import UserError
from ogkd.core.words import listed
from ogkd.data.groups import NOT_GIVEN
from ogkd.evaluation.metrics import OF_FEW_IMAGES, find, limits
from ogkd.evaluation.predictions import Predictions, units
from ogkd.evaluation.statistics import DRAWS, Interval, bootstrap

MEASURED = ("accuracy", "balanced_accuracy", "macro_auroc", "nll", "expected_calibration_error")
GAPS = ("accuracy", "balanced_accuracy", "macro_auroc")  # ECE is larger in a smaller group, whatever the answers
FEWEST = 10  # patients, or images where patients are not known
DIFFERENT = 0.1  # share of the images by which the classes of two groups differ, to be worth a sentence
UNLIKELY = 0.01  # p of such a difference
OF_SEVERAL = "The largest of several gaps is larger than the true one on average; its interval allows for that."


@dataclass(frozen=True)
class Group:
    """The test images with one value of a column.

    patients: their number, None if no patient is known. units: the number of patients, or images without one.
    shares: the share of each class, (C,). complete: whether it has every class of the test images.
    values: the metrics with intervals, None where undefined; {} if it is small.
    """

    name: str
    images: int
    patients: int | None
    units: int
    shares: np.ndarray
    complete: bool
    values: dict[str, Interval | None]

    @property
    def small(self) -> bool:
        return self.units < FEWEST


@dataclass(frozen=True)
class Gap:
    """The difference of the groups with the largest and the smallest value of a metric.

    interval: of the largest difference between the true values, simultaneous for all pairs of groups.
    by_chance: what the largest difference would be on average if the groups were alike.
    """

    metric: str
    highest: str
    lowest: str
    groups: int
    interval: Interval
    by_chance: float


@dataclass(frozen=True)
class GroupSet:
    """The groups of a column, large ones first, and the gaps between them by metric."""

    column: str
    groups: tuple[Group, ...]
    gaps: dict[str, Gap]
    classnames: tuple[str, ...]

    def remarks(self) -> list[str]:
        """What a reader must know, a sentence each: of the groups, the same for all methods, and of the gaps."""
        return [*self.of_groups(), *self.of_gaps()]

    def of_groups(self) -> list[str]:
        """Remarks on the groups: small ones, those without some classes, classes that are not equally common."""
        small = [f"{group.name} ({group.units})" for group in self.groups if group.small]
        what = "patients" if self.groups[0].patients is not None else "images"
        too_small = f"Too small to be measured, with fewer than {FEWEST} {what}: {listed(small, 9)}."
        inflated = any(find(metric).inflated for group in self.groups for metric in group.values)
        of_few = [OF_FEW_IMAGES] if inflated else []
        return [*([too_small] if small else []), *of_few, *self._without_gap(), *self._class_mix()]

    def of_gaps(self) -> list[str]:
        """The gaps in words."""
        several = any(gap.groups > 2 for gap in self.gaps.values())
        return [*map(_in_words, self.gaps.values()), *([OF_SEVERAL] if several else [])]

    def _without_gap(self) -> list[str]:
        measured = _compared(self.groups)
        if len(measured) < 2:
            return [f"There are no two groups of {self.column} that are large enough for a gap."]
        partial = [group.name for group in measured if not group.complete]
        without = "Without images of every class, and so in no gap in balanced accuracy or AUROC"
        return [f"{without}: {listed(partial, 9)}."] if partial else []

    def _class_mix(self) -> list[str]:
        """A sentence if classes are not equally common in the groups, by a chi-square test of patients."""
        from scipy.stats import chi2_contingency

        groups = _compared(self.groups)
        if len(groups) < 2:
            return []
        shares = np.array([group.shares for group in groups])
        counts = shares * np.array([[group.units] for group in groups])
        apart = abs(shares[:, None] - shares[None]).sum(-1) / 2
        if apart.max() < DIFFERENT or chi2_contingency(counts[:, counts.any(0)]).pvalue >= UNLIKELY:
            return []
        one, other = np.unravel_index(apart.argmax(), apart.shape)
        label = int(abs(shares[one] - shares[other]).argmax())
        parts = (f"{100 * shares[place, label]:.1f} % in {groups[place].name}" for place in (one, other))
        return [
            f"The classes are not equally common in the groups: “{self.classnames[label]}” is {' and '.join(parts)}. "
            "Accuracies of groups can differ for this reason alone, and even in the other direction than those of each "
            f"class{': compare balanced accuracies' * ('balanced_accuracy' in self.gaps)}."
        ]


def group_sets(
    seeds: Sequence[Predictions], metrics: Sequence[str] = MEASURED, draws: int = DRAWS, columns: Sequence[str] = ()
) -> list[GroupSet]:
    """The results in the groups of each column that the predictions have, or of `columns`; [] if they have none.

    seeds: the predictions of one run, or of one run per seed on the same images; metrics are means over seeds.
    Raises UserError for a metric that needs to know how classes relate, or a column that the predictions lack.
    """
    for metric in metrics:
        if find(metric).needs:
            raise UserError(f"{metric} needs to know how classes relate, and is not measured by group: choose another.")
    known = seeds[0].subgroups
    for column in columns:
        if column not in known:
            raise UserError(f"The predictions have no groups by {column}, but by {', '.join(known) or 'nothing'}.")
    return [_group_set(seeds, column, metrics, draws) for column in columns or known]


def _group_set(seeds: Sequence[Predictions], column: str, metrics: Sequence[str], draws: int) -> GroupSet:
    first = seeds[0]
    of_images = np.array(first.subgroups[column])
    groups = []
    for name in np.unique(of_images).tolist():
        rows = np.flatnonzero(of_images == name)
        parts = [one.subset(rows) for one in seeds]
        number = len(np.unique(units(parts[0])))
        counts = np.bincount(parts[0].labels, minlength=len(first.classnames))
        measured = () if number < FEWEST else metrics
        values = {metric: bootstrap(metric, parts, draws=draws) for metric in measured}
        patients = None if first.groups is None else number
        complete = bool(counts[np.unique(first.labels)].all())
        groups.append(Group(name, len(rows), patients, number, counts / len(rows), complete, values))
    groups.sort(key=lambda group: (group.name == NOT_GIVEN, -group.units, group.name))
    gaps = {metric: gap for metric in metrics if metric in GAPS and (gap := largest_gap(groups, metric))}
    return GroupSet(column, tuple(groups), gaps, first.classnames)


def largest_gap(groups: Sequence[Group], metric: str) -> Gap | None:
    """The largest gap of a metric between groups that are measured; None without two of them.

    A mean over classes is compared only between groups that have every class. The interval is the range of the largest
    true difference if every difference of two groups lies in its simultaneous interval: Newcombe's, from the ends of
    both groups' intervals, which are moved away by Tukey's studentised range for so many groups (for two, not at all).
    """
    from scipy.stats import norm, studentized_range

    compared = [
        group for group in _compared(groups) if group.values.get(metric) and (metric == "accuracy" or group.complete)
    ]
    intervals = [interval for group in compared if (interval := group.values[metric])]
    if len(intervals) < 2:
        return None
    number, level = len(intervals), intervals[0].level
    values = np.array([one.value for one in intervals])
    wider = float(studentized_range.ppf(level, number, np.inf)) / np.sqrt(2) / float(norm.ppf((1 + level) / 2))
    below, above = wider * np.array([(one.value - one.low, one.high - one.value) for one in intervals]).T
    difference, pairs = values[:, None] - values, ~np.eye(number, dtype=bool)
    smallest, largest = limits(metric, len(compared[0].shares))
    low = max(0.0, float((difference - np.hypot(below[:, None], above))[pairs].max()))
    high = min(largest - smallest, float((difference + np.hypot(above[:, None], below))[pairs].max()))
    generator = np.random.default_rng(0)  # equal draws of two groups would be the same deviations in the same order
    away = np.array([generator.permutation(one.samples - one.value) for one in intervals])
    ranges = np.ptp(away[:, ~np.isnan(away).any(0)], axis=0)
    order = np.argsort(values, kind="stable")
    interval = Interval(float(np.ptp(values)), low, high, level, ranges)
    return Gap(metric, compared[order[-1]].name, compared[order[0]].name, number, interval, float(ranges.mean()))


def _compared(groups: Sequence[Group]) -> list[Group]:
    """The groups between which there are gaps: those that are measured and named."""
    return [group for group in groups if not group.small and group.name != NOT_GIVEN]


def _in_words(gap: Gap) -> str:
    of = gap.interval
    return (
        f"Largest gap in {find(gap.metric).title}: {of.value:.1f} points [{of.low:.1f}, {of.high:.1f}], {gap.highest} "
        f"above {gap.lowest}. Of {gap.groups} groups that do not differ, it would be {gap.by_chance:.1f} points on "
        "average."
    )
