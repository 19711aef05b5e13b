"""What finished runs show about four claims on a method: accuracy, novel classes, reliability, severity of mistakes.

Each table has the mean differences of the method from the others with their intervals; the reader judges the claim.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from ogkd.core import UserError
from ogkd.evaluation.collect import Run
from ogkd.evaluation.metrics import METRICS
from ogkd.evaluation.statistics import Interval
from ogkd.reports.against import p_cells, what_can_be_shown
from ogkd.reports.cells import AnyCell, Cell
from ogkd.reports.comparisons import Contest, Paired, mean_difference
from ogkd.reports.conditions import sentences
from ogkd.reports.render import Table
from ogkd.reports.tables import decimals

LIKE_ACCURACY = 2.0  # points: severity is compared on data sets where accuracies differ by no more
RELIABILITY = ("expected_calibration_error", "nll", "aurc")

Place = tuple[Contest, str]  # where a metric is measured: a column of one protocol's contest
Differences = dict[str, Paired]  # {other method: the method minus it}


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
        others = [contest.entry(name) for name in rivals if {name, method} <= there]
        compared = contest.compare(metric, [(contest.entry(method), other) for other in others], column)
        return {other: paired for (_, other), paired in compared.items()}

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
        "seeds, with their 95 % intervals over test images (patients, where these are known). "
        "p: Wilcoxon signed-rank test over data sets, "
        "Holm: corrected for the methods compared. "
        + what_can_be_shown(max(len(table.datasets) for table in tables), len(rivals))
    )
    tables[0].footnotes = [
        f"{protocol}: {text}"
        for protocol, contest in zip(("Base-to-novel", "Few-shot"), contests, strict=True)
        for text in sentences(contest.conditions())
    ]
    return tables, notes


def _table(title: str, metric: str, columns: dict[str, Differences]) -> Table:
    """One row per other method; for each place the mean difference and p over data sets."""
    entry, columns = METRICS[metric], {name: of_rivals for name, of_rivals in columns.items() if of_rivals}
    headers = ["against", *(header for name in columns for header in (name, f"{name}: p (Holm)"))]
    table = Table(title, headers, decimals=decimals(entry))
    for rival in dict.fromkeys(rival for of_rivals in columns.values() for rival in of_rivals):
        cells: list[AnyCell] = []
        for paired in (of_rivals.get(rival) for of_rivals in columns.values()):
            cells += [Cell.of(paired.mean if paired else None), p_cells(paired)[1]]
        table.add(rival, cells)
    table.datasets = _most(paired for of_rivals in columns.values() for paired in of_rivals.values())
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
    table = Table(f"Severity of mistakes: {column}", headers, decimals=decimals(METRICS["expected_cost"]))
    for rival, of_cost in cost.items():
        of_accuracy, of_mistakes = accuracy[rival].by_dataset, severity[rival].by_dataset if rival in severity else {}
        like = {name: one for name, one in of_mistakes.items() if abs(of_accuracy[name].value) <= LIKE_ACCURACY}
        cells: list[AnyCell] = [
            _mean({name: of_accuracy[name] for name in of_cost.by_dataset}, decimals(METRICS["accuracy"])),
            Cell.of(of_cost.mean), _mean(of_mistakes), Cell(len(like), decimals=0), _mean(like),
        ]  # fmt: skip
        table.add(rival, cells)
    table.datasets = _most(cost.values())
    table.caption = (
        "Accuracy in points, higher is better; costs from 0 to 1, lower is better. Mistake severity is the mean cost "
        "of the mistakes alone, which falls when small mistakes are added, so it is compared only on the like sets: "
        f"those on which the accuracies differ by at most {LIKE_ACCURACY:g} points."
    )
    return table


def _most(compared: Iterable[Paired]) -> tuple[str, ...]:
    """The data sets of the difference that averages over the most."""
    return max((tuple(paired.by_dataset) for paired in compared), key=len, default=())


def _mean(differences: dict[str, Interval], decimals: int | None = None) -> Cell | None:
    """The mean difference; None if there are none."""
    return Cell.of(mean_difference(differences), decimals) if differences else None
