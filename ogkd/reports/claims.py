"""What finished runs show about four claims on a method: accuracy, novel classes, reliability, severity of mistakes.

Each table has the mean differences of the method from the others with their intervals; the reader judges the claim.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ogkd.core import UserError
from ogkd.evaluation.collect import Run
from ogkd.evaluation.metrics import METRICS
from ogkd.evaluation.statistics import Interval, compare_differences
from ogkd.reports.against import P_DECIMALS, what_can_be_shown
from ogkd.reports.cells import Cell, Gap
from ogkd.reports.comparisons import Contest, mean_difference
from ogkd.reports.render import Row, Table
from ogkd.reports.tables import decimals

LIKE_ACCURACY = 2.0  # points: severity is compared on data sets where accuracies differ by no more
RELIABILITY = ("expected_calibration_error", "nll", "aurc")

Place = tuple[Contest, str]  # where a metric is measured: a column of one protocol's contest
Differences = dict[str, dict[str, Interval]]  # {other method: {data set: difference}}


def claim_tables(
    runs: Sequence[Run], method: str, against: Sequence[str] | None = None
) -> tuple[list[Table], list[str]]:
    """The tables of a method against others, by default all, and sentences on what could not be compared.

    The runs must have the same backbone. Reliability and severity are those of base and novel classes and of the
    largest number of shots.

    Raises:
        UserError: the method, or one to compare with, has no finished run of either protocol, or no difference can be
            computed.
    """
    base2new, few_shot = contests = [Contest(runs, protocol) for protocol in ("base2new", "few_shot")]
    known = {entry.method: entry.title for contest in contests for entry in contest.entries}
    for name in (method, *(against or ())):
        if name not in known:
            raise UserError(f"There is no finished run of {name}; there is {', '.join(known) or 'none at all'}.")
    rivals = [name for name in against or known if name != method]
    if not rivals:
        raise UserError(f"There is no finished run of another method to compare {method} with.")

    def differences(metric: str, place: Place) -> Differences:
        """The differences from the rivals that have a data set in common with the method."""
        contest, column = place
        there = {entry.method for entry in contest.entries}
        if method not in there:
            return {}
        ours, others = contest.entry(method), [contest.entry(name) for name in rivals if name in there]
        of_all = {other.name: contest.differences(metric, ours, other, column) for other in others}
        return {name: of_sets for name, of_sets in of_all.items() if of_sets}

    base, novel, hm = ((base2new, column) for column in base2new.columns)
    shots = [(few_shot, column) for column in few_shot.columns]
    places = {"Accuracy": [base, *shots], "Novel classes": [novel, hm], "Reliability": [base, novel, *shots[-1:]]}
    metrics = {"Accuracy": ["accuracy"], "Novel classes": ["accuracy"], "Reliability": RELIABILITY}
    tables = [
        _table(f"{claim}: {METRICS[metric].title}", metric, {p[1]: differences(metric, p) for p in places[claim]})
        for claim, of_claim in metrics.items()
        for metric in of_claim
    ]
    tables += [
        _severity(
            place[1], *(differences(metric, place) for metric in ("accuracy", "expected_cost", "mistake_severity"))
        )
        for place in places["Reliability"]
    ]
    tables = [replace(t, headers=[f"{known[method]} against", *t.headers[1:]]) for t in tables if t.rows]
    notes = list(dict.fromkeys(note for contest in contests for note in contest.notes))
    if not tables:
        raise UserError(f"Nothing can be compared with {method}{f': {notes[0]}' if notes else '.'}")
    tables[0].caption += (
        " Means over data sets of the paired differences, method minus other, on the same test images with the same "
        "seeds, with their 95 % bootstrap intervals over test images. p: Wilcoxon signed-rank test over data sets, "
        "Holm: corrected for the methods compared. "
        + what_can_be_shown(max(len(table.datasets) for table in tables), len(rivals))
    )
    return tables, notes


def _table(title: str, metric: str, columns: dict[str, Differences]) -> Table:
    """One row per other method; for each place the mean difference and p over data sets."""
    entry, columns = METRICS[metric], {name: of_rivals for name, of_rivals in columns.items() if of_rivals}
    headers = ["against", *(header for name in columns for header in (name, f"{name}: p (Holm)"))]
    table = Table(title, headers, ranked=[False] * (len(headers) - 1), decimals=decimals(entry))
    rows: dict[str, Row] = {}
    for place, of_rivals in enumerate(columns.values()):
        values = {("", rival): {name: one.value for name, one in of.items()} for rival, of in of_rivals.items()}
        for test in compare_differences(values, lower_is_better=entry.lower_is_better):
            row = rows.setdefault(test.other, Row(test.other, [None] * (len(headers) - 1)))
            of_sets = of_rivals[test.other]
            row.cells[2 * place : 2 * place + 2] = [_cell(of_sets), Cell(test.p_holm, decimals=P_DECIMALS)]
    table.rows = list(rows.values())
    table.datasets = _most([of_sets for of_rivals in columns.values() for of_sets in of_rivals.values()])
    unit = " in points" if entry.unit == "%" else ""
    table.caption = f"Differences{unit}; {'lower' if entry.lower_is_better else 'higher'} is better."
    if title.startswith("Reliability"):
        table.caption += " Of the raw probabilities, not scaled by a temperature."
    return table


def _severity(column: str, accuracy: Differences, cost: Differences, severity: Differences) -> Table:
    """Expected cost on all data sets, and mistake severity on data sets with similar accuracies.

    Many small mistakes lower the mean severity, so severity alone would reward being wrong more often.
    """
    headers = ["against", "accuracy", "expected cost", "mistake severity", "like sets", "severity at like accuracy"]
    table = Table(f"Severity of mistakes: {column}", headers, ranked=[False] * 5)
    table.decimals = decimals(METRICS["expected_cost"])
    for rival, of_sets in cost.items():
        of_accuracy, of_mistakes = accuracy[rival], severity.get(rival, {})
        like = {name: one for name, one in of_mistakes.items() if abs(of_accuracy[name].value) <= LIKE_ACCURACY}
        cells: list[Cell | Gap | None] = [
            _cell({name: of_accuracy[name] for name in of_sets}, decimals(METRICS["accuracy"])),
            _cell(of_sets), _cell(of_mistakes), Cell(len(like), decimals=0), _cell(like),
        ]  # fmt: skip
        table.rows.append(Row(rival, cells))
    table.datasets = _most(list(cost.values()))
    table.caption = (
        "Accuracy in points, higher is better; costs from 0 to 1, lower is better. Mistake severity is the mean cost "
        "of the mistakes alone, which falls when small mistakes are added, so it is compared only on the like sets: "
        f"those on which the accuracies differ by at most {LIKE_ACCURACY:g} points."
    )
    return table


def _most(of_rivals: Sequence[dict[str, Interval]]) -> tuple[str, ...]:
    """The data sets of the difference that averages over the most."""
    return tuple(max(of_rivals, key=lambda of_sets: len(of_sets), default={}))


def _cell(differences: dict[str, Interval], decimals: int | None = None) -> Cell | None:
    """The mean difference; None if there are none."""
    if not differences:
        return None
    mean = mean_difference(differences)
    return Cell(mean.value, interval=mean, decimals=decimals)
