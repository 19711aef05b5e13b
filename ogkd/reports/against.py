"""Tables of each method against chosen ones: per data set, over data sets, and by mean ranks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ogkd.core import UserError
from ogkd.core.words import counted, listed
from ogkd.evaluation.collect import Run
from ogkd.evaluation.metrics import Metric, find
from ogkd.evaluation.statistics import Friedman, friedman
from ogkd.reports.cells import AnyCell, Cell
from ogkd.reports.comparisons import Contest, Entry, Paired
from ogkd.reports.conditions import sentences
from ogkd.reports.critical_difference import critical_difference_diagram
from ogkd.reports.render import Table
from ogkd.reports.tables import decimals, has_hm, in_words

ALPHA = 0.05
FEWEST = 3  # methods, and data sets, for mean ranks to be meaningful
P_DECIMALS = 4

Columns = dict[str, dict[tuple[str, str], Paired]]  # {column: {(method, chosen one): their difference}}


def against_tables(
    runs: Sequence[Run], protocol: str, against: Sequence[str], metric: str = "accuracy"
) -> tuple[list[Table], list[str]]:
    """The differences of each method from each chosen one, and sentences on what could not be compared.

    First a table over the data sets, then the mean ranks of all methods, then a table per pair with its data sets. The
    p values of a column (base, novel, HM, or a number of shots) are corrected together.

    Raises:
        UserError: a chosen method was not run, or nothing can be compared with it.
    """
    measured, contest = find(metric), Contest(runs, protocol)
    pairs: list[tuple[Entry, Entry]] = []  # each row with each chosen method, once
    for other in map(contest.entry, against):
        pairs += [(entry, other) for entry in contest.entries if entry is not other and (other, entry) not in pairs]
    columns: Columns = {name: contest.compare(metric, pairs, name) for name in compared_columns(contest, measured)}
    if not any(columns.values()):
        why = f": {contest.notes[0]}" if contest.notes else "."
        raise UserError(f"Nothing can be compared with {' or '.join(against)}{why}")
    ranked = {column: test for column in columns if (test := ranks(contest, metric, column))}
    tables = [_summary(columns, measured), _rank_table(ranked)]
    tables[0].footnotes = sentences(contest.conditions())
    tables += [_pair_table((first.name, second.name), columns, measured) for first, second in pairs]
    return [table for table in tables if table.rows], contest.notes


def draw_diagrams(runs: Sequence[Run], protocol: str, metric: str, path: Path) -> list[Path]:
    """Critical-difference diagrams, one file per column: "ranks.svg" becomes "ranks-base.svg" and so on.

    Raises:
        UserError: no column has enough methods and data sets.
    """
    contest, files = Contest(runs, protocol), []
    for column in compared_columns(contest, find(metric)):
        if test := ranks(contest, metric, column):
            files.append(path.with_stem(f"{path.stem}-{column.replace(' ', '-')}"))
            critical_difference_diagram(
                test, files[-1], f"{find(metric).title}, {column}, {len(test.datasets)} data sets"
            )
    if not files:
        why = f" ({' '.join(contest.notes)})" if contest.notes else ""
        raise UserError(f"A critical-difference diagram needs {FEWEST} methods on {FEWEST} data sets in common{why}.")
    return files


def compared_columns(contest: Contest, metric: Metric) -> list[str]:
    """The contest's columns that apply to the metric: HM only applies to percentages where higher is better."""
    return [column for column in contest.columns if column != "HM" or has_hm(metric)]


def ranks(contest: Contest, metric: str, column: str) -> Friedman | None:
    """The Friedman test of the methods as configured over the data sets that they share; None if there are too few
    methods or data sets. The contest notes the data sets that are left out.

    Methods without a value in the column, such as the novel accuracy of a linear probe, are left out.
    """
    entries = [entry for entry in contest.entries if not entry.variant]
    scores = {e.name: {name: contest.score(metric, e, name, column) for name in contest.datasets} for e in entries}
    scores = {name: of_sets for name, of_sets in scores.items() if any(v is not None for v in of_sets.values())}
    lacking = {name: [method for method, of in scores.items() if of[name] is None] for name in contest.datasets}
    for name, methods in lacking.items():
        if 0 < len(methods) < len(scores):
            are = "is" if len(methods) == 1 else "are"
            who = f"{listed(methods)} {are} not finished on it"
            contest.note(f"{name} is not in the mean ranks of {column}, as {who}.")
    if min(len(scores), sum(not methods for methods in lacking.values())) < FEWEST:
        return None
    return friedman(scores, lower_is_better=find(metric).lower_is_better, alpha=ALPHA)


def can_be_significant(datasets: int) -> bool:
    """Whether the Wilcoxon test can reach the level with so many data sets; else its p says nothing."""
    return 2.0 ** (1 - datasets) < ALPHA


def p_cells(paired: Paired | None) -> list[AnyCell]:
    """The cells of p and of p after Holm's correction; None if no p could be significant."""
    if paired is None or not can_be_significant(len(paired.by_dataset)):
        return [None, None]
    return [Cell(p, decimals=P_DECIMALS) for p in (paired.test.p, paired.test.p_holm)]


def what_can_be_shown(datasets: int, comparisons: int) -> str:
    """A sentence on which p values the Wilcoxon test can reach with this many data sets and comparisons."""
    sets = counted(datasets, "data set")
    if not can_be_significant(datasets):
        return f"There is no p: over {sets} no difference can be significant, however large it is."
    smallest = 2.0 ** (1 - datasets)
    corrected = min(1.0, smallest * comparisons)
    holm = f", {corrected:.2g} after Holm's correction for {comparisons} comparisons" if comparisons > 1 else ""
    start = f"The smallest possible p over {sets} is {smallest:.2g}"
    if corrected >= ALPHA:
        return f"{start}{holm}, so no difference can be significant: choose fewer methods beforehand."
    return (
        f"{start}{holm}, for a method that is better on all of them: only a difference on nearly every data set "
        "becomes significant, and a lack of significance is no evidence that methods are equal."
    )


def _summary(columns: Columns, metric: Metric) -> Table:
    headers = ["difference", "data sets", "mean", "better", "ties", "worse", "p", "p (Holm)"]
    table = Table("over data sets", headers, decimals=decimals(metric))
    for column, compared in columns.items():
        for (first, second), paired in compared.items():
            test, number = paired.test, len(paired.by_dataset)
            counts = (test.better, number - test.better - test.worse, test.worse)
            cells = [Cell(number, decimals=0), Cell.of(paired.mean), *(Cell(count, decimals=0) for count in counts)]
            table.add(f"{column}: {first} minus {second}", [*cells, *p_cells(paired)])
    most = max(len(paired.by_dataset) for compared in columns.values() for paired in compared.values())
    what, better = in_words(metric, "points"), "lower" if metric.lower_is_better else "higher"
    table.caption = (
        f"{what}, first method minus second; {better} is better. "
        "Mean over data sets of the paired differences, with its 95 % interval over the test images of these "
        "data sets (their patients, where these are known). Better, ties, worse: on how many data sets. "
        "p: exact two-sided Wilcoxon signed-rank test over data sets, seeds averaged first; Holm: corrected for the "
        "comparisons of a column. "
        f"{what_can_be_shown(most, max(map(len, columns.values())))}"
    )
    return table


def _rank_table(tests: dict[str, Friedman]) -> Table:
    table = Table("mean ranks", ["method", *tests], ranked=[*tests], lower=True)
    for name in dict.fromkeys(name for test in tests.values() for name in test.ranks):
        means = [test.ranks.get(name) for test in tests.values()]
        table.add(name, [None if mean is None else Cell(mean) for mean in means])
    sentences = [f"{column}: {friedman_sentence(test)}" for column, test in tests.items()]
    table.caption = " ".join(["Mean rank over data sets, 1 the best.", *sentences])
    return table


def friedman_sentence(test: Friedman) -> str:
    """The results of the Friedman and Nemenyi tests as a sentence."""
    start = (
        f"Friedman test of {len(test.ranks)} methods on {len(test.datasets)} data sets, chi-square "
        f"{test.statistic:.2f}, p = {test.p:.2g};"
    )
    if test.p >= test.alpha:
        return f"{start} no two methods can be distinguished by their ranks."
    alike = "; ".join(", ".join(clique) for clique in test.cliques)
    apart = f"not distinguished: {alike}" if alike else "all are distinguished"
    distance = f"{test.critical_difference:.2f} (level {test.alpha})"
    return f"{start} by the Nemenyi test ranks differ if they are at least {distance} apart; {apart}."


def _pair_table(pair: tuple[str, str], columns: Columns, metric: Metric) -> Table:
    of_pair = {column: compared[pair].by_dataset for column, compared in columns.items() if pair in compared}
    table = Table(f"{pair[0]} minus {pair[1]}", ["data set", *of_pair], decimals=decimals(metric))
    for dataset in sorted(set().union(*of_pair.values())):
        table.add(dataset, [Cell.of(by_dataset.get(dataset)) for by_dataset in of_pair.values()])
    what = in_words(metric, "points")
    table.caption = (
        f"{what}, first method minus second, with the 95 % interval over test images (patients, where these are known)."
    )
    return table
