"""What finished runs show about four claims on a method: accuracy, unseen classes, reliability, severity of mistakes.

Each claim has tables of paired differences with intervals, and one sentence per metric that claims no more than they
show.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ogkd.core import UserError
from ogkd.evaluation.collect import Run
from ogkd.evaluation.metrics import METRICS
from ogkd.evaluation.statistics import Interval, compare_differences
from ogkd.reports.against import P_DECIMALS, what_can_be_shown
from ogkd.reports.cells import Cell, Gap
from ogkd.reports.comparisons import Contest, Entry, mean_difference
from ogkd.reports.render import Row, Table, document, markdown, number
from ogkd.reports.tables import decimals

LIKE_ACCURACY = 2.0  # points: severity is compared on data sets where accuracies differ by no more
RELIABILITY = ("expected_calibration_error", "nll", "aurc")
NO_TEMPERATURE = (
    "These are the raw probabilities, not scaled by a temperature. A temperature fitted to a run's few validation "
    "images is a rough estimate; predict.py --calibrated uses it, and an exported prompt's card has the error with and "
    "without it."
)

Differences = dict[str, Interval]  # by data set


@dataclass(frozen=True)
class Place:
    """Where a metric is measured: a column of one protocol's contest. words: a template, "{} on base classes"."""

    contest: Contest
    column: str
    words: str

    def of(self, metric: str) -> str:
        """The metric at this place, as part of a sentence."""
        return self.words.format(METRICS[metric].title)


@dataclass
class Claim:
    """A claim with the measurements for it."""

    title: str
    sentences: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)


@dataclass(frozen=True)
class Report:
    """The claims of a method.

    notes: what could not be compared. datasets: the largest number of data sets that a difference averages over.
    """

    method: str
    rivals: tuple[str, ...]
    claims: list[Claim]
    notes: list[str]
    datasets: int

    def markdown(self) -> str:
        """The report as text."""
        parts = [
            f"# {markdown(self.method)}: what the runs show",
            "Differences are means over data sets of the paired difference, method minus other, on the same test "
            "images with the same seeds. Intervals are 95 % bootstrap intervals over test images: what other images of "
            "these data sets would have given with these trained prompts. A difference counts as shown where its "
            "interval excludes 0; of many such intervals, one in twenty does so by chance. p is that of the Wilcoxon "
            "signed-rank test over data sets, with Holm's correction for the methods compared. "
            + what_can_be_shown(self.datasets, len(self.rivals)),
        ]
        for claim in self.claims:
            sentences = "\n".join(f"- {markdown(sentence)}" for sentence in claim.sentences)
            parts += [f"## {claim.title}", sentences, *(document([table]) for table in claim.tables)]
        return "\n\n".join(parts)


def report(runs: Sequence[Run], method: str, against: Sequence[str] | None = None) -> Report:
    """The four claims of a method against others, by default all.

    The runs must have the same backbone. Calibration and severity are reported for base and novel classes and for the
    largest number of shots.

    Raises:
        UserError: the method, or one to compare with, has no finished run of either protocol.
    """
    base2new, few_shot = contests = [Contest(runs, protocol) for protocol in ("base2new", "few_shot")]
    judged = _Judged(method, against, contests)
    base = Place(base2new, "base", "{} on base classes")
    novel = Place(base2new, "novel", "{} on novel classes")
    hm = Place(base2new, "HM", "HM of base and novel {}")
    shots = [Place(few_shot, column, f"{{}} on all classes at {column}") for column in few_shot.columns]
    found = [
        _by_metric("Accuracy", judged, ("accuracy",), [base, *shots]),
        _by_metric("Novel classes", judged, ("accuracy",), [novel, hm]),
        _by_metric("Reliability", judged, RELIABILITY, [base, novel, *shots[-1:]]),
        _severity(judged, [base, novel, *shots[-1:]]),
    ]
    found[2].sentences.append(NO_TEMPERATURE)
    notes = list(dict.fromkeys(note for contest in contests for note in contest.notes))
    return Report(method, tuple(judged.rivals), found, notes, judged.most)


class _Judged:
    """A method and the methods it is compared with, as far as each contest includes them."""

    def __init__(self, method: str, against: Sequence[str] | None, contests: Sequence[Contest]) -> None:
        self.method = method
        known = list(dict.fromkeys(entry.method for contest in contests for entry in contest.entries))
        for name in (method, *(against or ())):
            if name not in known:
                raise UserError(f"There is no finished run of {name}; there is {', '.join(known) or 'none at all'}.")
        self.rivals = [name for name in against or known if name != method]
        self.most = 0  # largest number of data sets that a difference averages over
        if not self.rivals:
            raise UserError(f"There is no finished run of another method to compare {method} with.")

    def pairs(self, contest: Contest) -> list[tuple[Entry, Entry]]:
        """The method paired with each rival in the contest."""
        there = {entry.method for entry in contest.entries}
        if self.method not in there:
            return []
        return [(contest.entry(self.method), contest.entry(name)) for name in self.rivals if name in there]

    def differences(self, metric: str, place: Place) -> dict[str, Differences]:
        """The differences by rival, for rivals with a data set in common."""
        found = {
            rival.name: place.contest.differences(metric, ours, rival, place.column)
            for ours, rival in self.pairs(place.contest)
        }
        self.most = max(self.most, *map(len, found.values()), 0)
        return {name: of_sets for name, of_sets in found.items() if of_sets}

    def title(self, contest: Contest) -> str:
        return contest.entry(self.method).name


def _by_metric(title: str, judged: _Judged, metrics: Sequence[str], places: Sequence[Place]) -> Claim:
    """A claim judged by each metric at each place: one sentence each, and one table per metric."""
    claim = Claim(title)
    for metric in metrics:
        columns = {}
        for place in places:
            differences = judged.differences(metric, place)
            if not differences:
                claim.sentences.append(_nothing(metric, place))
                continue
            columns[place] = differences
            means = {rival: mean_difference(of_sets) for rival, of_sets in differences.items()}
            claim.sentences.append(_sentence(judged.title(place.contest), metric, place, means, differences))
        if columns:
            claim.tables.append(_table(metric, columns))
    return claim


def _nothing(metric: str, place: Place) -> str:
    return f"Not compared: {place.of(metric)}, as fewer than two methods have runs with the data it needs."


def _sentence(
    name: str, metric: str, place: Place, means: Mapping[str, Interval], differences: Mapping[str, Differences]
) -> str:
    """Which methods it is above and below, which show no difference, and on how many data sets."""
    numbers = {len(of_sets) for of_sets in differences.values()}
    sets = f"{'up to ' if len(numbers) > 1 else ''}{max(numbers)} data set{'s' if max(numbers) > 1 else ''}"
    return f"On {sets}, {name}'s {place.of(metric)} {verdicts(metric, means)}."


def verdicts(metric: str, means: Mapping[str, Interval]) -> str:
    """The differences in words, by whether their intervals exclude 0: "is above that of CoOp by 1.20 points (...)"."""
    lower = METRICS[metric].lower_is_better
    above, below = ("higher (worse) than", "lower (better) than") if lower else ("above", "below")
    groups = {above: [name for name, one in means.items() if one.low > 0]}
    groups[below] = [name for name, one in means.items() if one.high < 0]
    told = [
        f"is {words} that of {_listed(f'{name} by {_size(metric, means[name])}' for name in names)}"
        for words, names in groups.items()
        if names
    ]
    rest = [name for name in means if all(name not in names for names in groups.values())]
    if rest:
        listed = _listed(f"{name} ({_signed(metric, means[name])})" for name in rest)
        told.append(f"cannot be shown to differ from that of {listed}")
    return "; it ".join(told)


def _size(metric: str, difference: Interval) -> str:
    """A difference without its sign: "1.20 points (95 % interval 0.30 to 2.10)"."""
    digits = decimals(METRICS[metric])
    bounds = sorted((abs(difference.low), abs(difference.high)))
    low, high = (number(bound, digits) for bound in bounds)
    return f"{number(abs(difference.value), digits)}{_unit(metric)} (95 % interval {low} to {high})"


def _signed(metric: str, difference: Interval) -> str:
    """A difference with its sign: "+0.20 points, 95 % interval -0.30 to +0.70"."""
    digits = decimals(METRICS[metric])
    value, low, high = (number(x, digits, "+") for x in (difference.value, difference.low, difference.high))
    return f"{value}{_unit(metric)}, 95 % interval {low} to {high}"


def _unit(metric: str) -> str:
    return " points" if METRICS[metric].unit == "%" else ""


def _listed(words: Iterable[str]) -> str:
    """ "a, b and c"."""
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def _table(metric: str, columns: Mapping[Place, Mapping[str, Differences]]) -> Table:
    """One row per rival; for each place the mean difference and p over data sets."""
    lower, digits = METRICS[metric].lower_is_better, decimals(METRICS[metric])
    headers = ["against", *(name for place in columns for name in (place.column, f"{place.column}: p (Holm)"))]
    table = Table(METRICS[metric].title, headers, ranked=[False] * (len(headers) - 1), decimals=digits)
    rows: dict[str, list[Cell | Gap | None]] = {}
    for place, differences in enumerate(columns.values()):
        values = {("", rival): {name: one.value for name, one in of.items()} for rival, of in differences.items()}
        for test in compare_differences(values, lower_is_better=lower):
            cells = rows.setdefault(test.other, [None] * (len(headers) - 1))
            cells[2 * place : 2 * place + 2] = [_cell(differences[test.other]), Cell(test.p_holm, decimals=P_DECIMALS)]
    table.rows = [Row(name, cells) for name, cells in rows.items()]
    unit = f" in{_unit(metric)}" if _unit(metric) else ""
    table.caption = f"Differences{unit}; {'lower' if lower else 'higher'} is better."
    return table


def _severity(judged: _Judged, places: Sequence[Place]) -> Claim:
    """Expected cost on all data sets, and mistake severity on data sets with similar accuracies.

    Many small mistakes lower the mean severity, so severity alone would reward being wrong more often.
    """
    claim = Claim("Severity of mistakes")
    for place in places:
        accuracy, cost, severity = (
            judged.differences(metric, place) for metric in ("accuracy", "expected_cost", "mistake_severity")
        )
        if not cost:
            claim.sentences.append(_nothing("expected_cost", place))
            continue
        name = judged.title(place.contest)
        like = {
            rival: {key: one for key, one in of_sets.items() if abs(accuracy[rival][key].value) <= LIKE_ACCURACY}
            for rival, of_sets in severity.items()
        }
        means = {rival: mean_difference(of_sets) for rival, of_sets in cost.items()}
        claim.sentences.append(_sentence(name, "expected_cost", place, means, cost))
        alike = {rival: of_sets for rival, of_sets in like.items() if of_sets}
        if alike:
            means = {rival: mean_difference(of_sets) for rival, of_sets in alike.items()}
            sentence = _sentence(name, "mistake_severity", place, means, alike)
            claim.sentences.append(f"At similar accuracy, {sentence[:1].lower()}{sentence[1:]}")
        unlike = [rival for rival in severity if rival not in alike]
        if unlike:
            claim.sentences.append(
                f"{name}'s {place.of('mistake_severity')} is not compared with that of {_listed(unlike)}: on every "
                f"data set the accuracies differ by more than {LIKE_ACCURACY:g} points."
            )
        claim.tables.append(_severity_table(place, accuracy, cost, severity, like))
    return claim


def _severity_table(
    place: Place,
    accuracy: Mapping[str, Differences],
    cost: Mapping[str, Differences],
    severity: Mapping[str, Differences],
    like: Mapping[str, Differences],
) -> Table:
    headers = ["against", "accuracy", "expected cost", "mistake severity", "like sets", "severity at like accuracy"]
    table = Table(f"severity, {place.column}", headers, ranked=[False] * 5, decimals=decimals(METRICS["expected_cost"]))
    for rival in cost:
        of_accuracy = _cell({name: accuracy[rival][name] for name in cost[rival]}, decimals(METRICS["accuracy"]))
        alike = like.get(rival, {})
        cells = [of_accuracy, _cell(cost[rival]), _cell(severity.get(rival, {})), Cell(len(alike), decimals=0)]
        table.rows.append(Row(rival, [*cells, _cell(alike)]))
    table.caption = (
        "Accuracy in points, higher is better; costs from 0 to 1, lower is better. Mistake severity is the mean cost "
        "of the mistakes alone, which falls when small mistakes are added, so it is compared only on the like sets: "
        f"those on which the accuracies differ by at most {LIKE_ACCURACY:g} points."
    )
    return table


def _cell(differences: Differences, decimals: int | None = None) -> Cell | None:
    """The mean difference; None if there are none."""
    if not differences:
        return None
    mean = mean_difference(differences)
    return Cell(mean.value, interval=mean, decimals=decimals)
