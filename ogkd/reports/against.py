"""Tables of each method against chosen ones: per data set, over data sets, and by mean ranks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ogkd.core import UserError
from ogkd.evaluation.collect import Run
from ogkd.evaluation.metrics import Metric, find
from ogkd.evaluation.statistics import Friedman, Interval, compare_differences, friedman
from ogkd.reports.cells import Cell, Gap
from ogkd.reports.comparisons import Contest, Entry, mean_difference
from ogkd.reports.critical_difference import critical_difference_diagram
from ogkd.reports.render import Row, Table
from ogkd.reports.tables import decimals, has_hm, in_words

ALPHA = 0.05
FEWEST = 3  # methods, and data sets, for mean ranks to be meaningful
P_DECIMALS = 4

Differences = dict[tuple[str, str], dict[str, Interval]]  # {(method, chosen one): {data set: difference}}


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
    columns = compared_columns(contest, measured)
    pairs = _pairs(contest, [contest.entry(name) for name in against])
    by_column: dict[str, Differences] = {}
    for column in columns:
        found = {(a.name, b.name): contest.differences(metric, a, b, column) for a, b in pairs}
        by_column[column] = {pair: of_sets for pair, of_sets in found.items() if of_sets}
    if not any(by_column.values()):
        why = f": {contest.notes[0]}" if contest.notes else "."
        raise UserError(f"Nothing can be compared with {' or '.join(against)}{why}")
    tables = [_summary(by_column, measured)]
    ranked = {column: ranks(contest, metric, column) for column in columns}
    tables.append(_rank_table({column: found for column, found in ranked.items() if found}))
    tables += [_pair_table((a.name, b.name), by_column, measured) for a, b in pairs]
    return [table for table in tables if table.rows], contest.notes


def draw_diagrams(runs: Sequence[Run], protocol: str, metric: str, path: Path) -> list[Path]:
    """Critical-difference diagrams, one file per column: "ranks.svg" becomes "ranks-base.svg" and so on.

    Raises:
        UserError: no column has enough methods and data sets.
    """
    contest, drawn = Contest(runs, protocol), []
    for column in compared_columns(contest, find(metric)):
        found = ranks(contest, metric, column)
        if found:
            drawn.append(path.with_stem(f"{path.stem}-{column.replace(' ', '-')}"))
            critical_difference_diagram(found, drawn[-1], f"{find(metric).title}, {column}")
    if not drawn:
        raise UserError(f"A critical-difference diagram needs {FEWEST} methods on {FEWEST} data sets in common.")
    return drawn


def compared_columns(contest: Contest, metric: Metric) -> list[str]:
    """The contest's columns that apply to the metric: HM only applies to percentages where higher is better."""
    return [column for column in contest.columns if column != "HM" or has_hm(metric)]


def ranks(contest: Contest, metric: str, column: str) -> Friedman | None:
    """The Friedman test of the methods as configured over the data sets that they share; None if there are too few
    methods or data sets.

    Methods without a value in the column, such as the novel accuracy of a linear probe, are left out.
    """
    entries = [entry for entry in contest.entries if not entry.variant]
    scores = {e.name: {name: contest.score(metric, e, name, column) for name in contest.datasets} for e in entries}
    scores = {name: of_sets for name, of_sets in scores.items() if any(v is not None for v in of_sets.values())}
    shared = [name for name in contest.datasets if all(of_sets[name] is not None for of_sets in scores.values())]
    if min(len(scores), len(shared)) < FEWEST:
        return None
    return friedman(scores, lower_is_better=find(metric).lower_is_better, alpha=ALPHA)


def what_can_be_shown(datasets: int, comparisons: int) -> str:
    """A sentence on which p values the Wilcoxon test can reach with this many data sets and comparisons."""
    smallest = min(1.0, 2.0 ** (1 - datasets))
    corrected = min(1.0, smallest * comparisons)
    sets = f"{datasets} data set{'s' if datasets > 1 else ''}"
    holm = f", {corrected:.2g} after Holm's correction for {comparisons} comparisons" if comparisons > 1 else ""
    start = f"The smallest possible p over {sets} is {smallest:.2g}"
    if smallest >= ALPHA:
        return f"{start}, so over data sets no difference can be significant, however large it is."
    if corrected >= ALPHA:
        return f"{start}{holm}, so no difference can be significant: choose fewer methods beforehand."
    return (
        f"{start}{holm}, for a method that is better on all of them: only a difference on nearly every data set "
        "becomes significant, and a lack of significance is no evidence that methods are equal."
    )


def _pairs(contest: Contest, named: Sequence[Entry]) -> list[tuple[Entry, Entry]]:
    """Each row with each chosen method, once per pair."""
    pairs: list[tuple[Entry, Entry]] = []
    for other in named:
        for entry in contest.entries:
            if entry is not other and (other, entry) not in pairs:
                pairs.append((entry, other))
    return pairs


def _summary(by_column: dict[str, Differences], metric: Metric) -> Table:
    headers = ["difference", "data sets", "mean", "better", "ties", "worse", "p", "p (Holm)"]
    table = Table("over data sets", headers, ranked=[False] * 7, decimals=decimals(metric))
    most = comparisons = 0
    for column, differences in by_column.items():
        values = {pair: {name: one.value for name, one in of_sets.items()} for pair, of_sets in differences.items()}
        for test in compare_differences(values, lower_is_better=metric.lower_is_better):
            mean = mean_difference(differences[test.method, test.other])
            counts = (test.better, len(test.datasets) - test.better - test.worse, test.worse)
            cells: list[Cell | Gap | None] = [Cell(len(test.datasets), decimals=0), Cell(mean.value, interval=mean)]
            cells += [Cell(count, decimals=0) for count in counts]
            cells += [Cell(p, decimals=P_DECIMALS) for p in (test.p, test.p_holm)]
            table.rows.append(Row(f"{column}: {test.method} minus {test.other}", cells))
            most, comparisons = max(most, len(test.datasets)), max(comparisons, len(values))
    what, better = in_words(metric, "points"), "lower" if metric.lower_is_better else "higher"
    table.caption = (
        f"{what}, first method minus second; {better} is better. "
        "Mean over data sets of the paired differences, with its 95 % bootstrap interval over the test images of these "
        "data sets. Better, ties, worse: on how many data sets. p: exact two-sided Wilcoxon signed-rank test over data "
        "sets, seeds averaged first; Holm: corrected for the comparisons of a column. "
        f"{what_can_be_shown(most, comparisons)}"
    )
    return table


def _rank_table(found: dict[str, Friedman]) -> Table:
    names = list(dict.fromkeys(name for one in found.values() for name in one.ranks))
    table = Table("mean ranks", ["method", *found], ranked=[True] * len(found), lower=True)
    table.rows = [
        Row(name, [Cell(one.ranks[name]) if name in one.ranks else None for one in found.values()]) for name in names
    ]
    table.caption = "Mean rank over data sets, 1 the best. " + " ".join(
        f"{column}: {friedman_sentence(one)}" for column, one in found.items()
    )
    return table


def friedman_sentence(found: Friedman) -> str:
    """The results of the Friedman and Nemenyi tests as a sentence."""
    start = (
        f"Friedman test of {len(found.ranks)} methods on {len(found.datasets)} data sets, chi-square "
        f"{found.statistic:.2f}, p = {found.p:.2g};"
    )
    if found.p >= found.alpha:
        return f"{start} no two methods can be distinguished by their ranks."
    alike = "; ".join(", ".join(clique) for clique in found.cliques)
    apart = f"not distinguished: {alike}" if alike else "all are distinguished"
    distance = f"{found.critical_difference:.2f} (level {found.alpha})"
    return f"{start} by the Nemenyi test ranks differ if they are at least {distance} apart; {apart}."


def _pair_table(pair: tuple[str, str], by_column: dict[str, Differences], metric: Metric) -> Table:
    columns = [column for column, differences in by_column.items() if pair in differences]
    table = Table(f"{pair[0]} minus {pair[1]}", ["data set", *columns], ranked=[False] * len(columns))
    table.decimals = decimals(metric)
    of_columns = [by_column[column][pair] for column in columns]
    for dataset in sorted({name for of_sets in of_columns for name in of_sets}):
        found = [of_sets.get(dataset) for of_sets in of_columns]
        table.rows.append(Row(dataset, [Cell(one.value, interval=one) if one else None for one in found]))
    what = in_words(metric, "points")
    table.caption = f"{what}, first method minus second, with the 95 % bootstrap interval over test images."
    return table
