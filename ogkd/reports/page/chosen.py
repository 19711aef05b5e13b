"""Which methods the detailed figures show."""

from __future__ import annotations

from collections.abc import Sequence

from ogkd.core import UserError
from ogkd.evaluation.collect import Run
from ogkd.evaluation.methods import named_among
from ogkd.reports.page.evidence import Evaluation

ALWAYS = ("OGKD", "ZeroShot")  # besides the best
MOST = 6  # methods in a figure, as many as there are colours


def check(methods: Sequence[str] | None, runs: Sequence[Run]) -> tuple[str, ...] | None:
    """The classes of the requested methods, see `ogkd.evaluation.methods.named`; None if none were requested.

    Raises:
        UserError: a method was not run, or there are too many.
    """
    if not methods:
        return None
    if len(methods) > MOST:
        raise UserError(f"{len(methods)} methods are too many for one figure: give at most {MOST}.")
    return tuple(named_among(methods, (run.method for run in runs)))


def choose(
    tests: Sequence[Evaluation], methods: Sequence[str] | None, with_predictions: bool = True
) -> list[Evaluation]:
    """One test per method for the detailed figures, the most accurate first, then in table order.

    tests: tests of one part and shot count. methods: the requested ones; by default the most accurate, OGKD and
        zero-shot. A method that was run in several configurations is shown as configured, else in its best one.
    """
    usable = [test for test in tests if test.predictions or not with_predictions]
    usable.sort(key=lambda test: -test.accuracy)
    if not usable:
        return []
    wanted = methods if methods is not None else ALWAYS
    found = [] if methods is not None else usable[:1]
    for method in wanted:
        of_method = [test for test in usable if test.variant.method == method]
        plain = [test for test in of_method if not test.variant.key] or of_method
        found += [test for test in plain[:1] if test not in found]
    return found[:MOST]


def styles(chosen: Sequence[Sequence[Evaluation]]) -> dict[str, int]:
    """{method: number of its colour}, the same in all figures of a data set. chosen: the choice for each test."""
    names = dict.fromkeys(test.name for tests in chosen for test in tests)
    return {name: number % MOST for number, name in enumerate(names)}
