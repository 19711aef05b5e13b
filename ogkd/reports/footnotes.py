"""What is wrong with the runs of a table's cells, said once for all cells that share it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Container, Iterable, Sequence

from ogkd.core.words import listed, ranges
from ogkd.evaluation.collect import Run
from ogkd.evaluation.doubts import NOT_ABOVE_ONE_ANSWER, about_run

MANY = 4  # seeds, from which on they are written as ranges


def footnotes(cells: Sequence[tuple[str, str, Sequence[Run]]], one_answer: Container[str] = frozenset()) -> list[str]:
    """Problems with the runs of cells, given as (row, column, runs): that runs diverged, that other cells have more
    seeds, or a doubt, recorded or about the answers. Each is said once, for all cells that share it.

    one_answer: columns of which the table already says what one answer for all images gives.
    """
    reasons: dict[str, dict[tuple[str, str], list[str]]] = {}  # {reason: {(column, seeds): rows}}
    every, number, of_column = {run.seed for _, _, runs in cells for run in runs}, Counter[str](), Counter[str]()
    complete = any({run.seed for run in runs} == every for _, _, runs in cells)  # else a column has them
    for row, column, runs in cells:
        of_cell: dict[str, list[int]] = {}
        for run in runs:
            if run.diverged and column == "novel" and run.kind != "test_new":
                continue  # on the base classes, where it is said
            doubts = [*(run.results.get("warnings") or []), *about_run(run)]
            for doubt in [_diverged(runs)] if run.diverged else dict.fromkeys(doubts):
                if not (column in one_answer and doubt.startswith(NOT_ABOVE_ONE_ANSWER)):
                    of_cell.setdefault(doubt, []).append(run.seed)
        if runs and complete and {run.seed for run in runs} != every:
            of_cell[f"fewer seeds than others, which have {_listed(every)}"] = [run.seed for run in runs]
        for reason, seeds in of_cell.items():
            reasons.setdefault(reason, {}).setdefault((column, seeds_of(seeds)), []).append(row)
            number[reason] += len(seeds)
        of_column[column] += bool(runs)
    runs_in_all = sum(len(runs) for *_, runs in cells)
    several = of_column.total() > 1
    return [
        f"All runs: {reason}." if several and number[reason] == runs_in_all else footnote(reason, places, of_column)
        for reason, places in reasons.items()
    ]


def footnote(reason: str, places: dict[tuple[str, str], list[str]], of_column: Counter[str]) -> str:
    """A sentence on the cells with a reason, {(column, seeds): rows}. of_column: the number of cells of each column."""
    columns: dict[tuple[str, str], list[str]] = {}
    for (column, seeds), rows in places.items():
        who = "all methods" if 1 < len(rows) == of_column[column] else names_of(rows)
        columns.setdefault((who, seeds), []).append(column)
    parts = [(f"{rows}, {listed(of_rows, len(of_rows))}", seeds) for (rows, seeds), of_rows in columns.items()]
    if len(parts) == 1:
        ((who, seeds),) = parts
        text = f"{who}: {reason} ({seeds})."
    else:
        text = f"{'; '.join(f'{who} ({seeds})' for who, seeds in parts)}: {reason}."
    return f"A{text[1:]}" if text.startswith("all methods") else text


def names_of(rows: Sequence[str]) -> str:
    """Names of rows in a sentence, in quotes where several have commas."""
    quote = len(rows) > 1 and any("," in row for row in rows)
    return listed([f"“{row}”" if quote else row for row in rows], len(rows))


def _diverged(runs: Sequence[Run]) -> str:
    diverged = sum(run.diverged for run in runs)
    return f"{diverged} of {len(runs)} run{'s' if len(runs) > 1 else ''} diverged"


def _listed(seeds: Iterable[int]) -> str:
    seeds = sorted(seeds)
    return ranges(seeds) if len(seeds) > MANY else ", ".join(map(str, seeds))


def seeds_of(seeds: Collection[int]) -> str:
    """Seeds in a sentence: "seed 1", "seeds 1, 2", "seeds 1-20"."""
    return f"{'seed' if len(seeds) == 1 else 'seeds'} {_listed(seeds)}"
