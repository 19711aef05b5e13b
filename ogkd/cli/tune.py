"""Search for the settings of methods on one data set: the same number of random trials for each method and seed.

Trials are scored on the validation images that were drawn for the seed, or by cross-validation within its shots, and
never see test images. Finished trials are skipped and unfinished ones resumed. OUTPUT/tune has a table of the trials
and the best settings of each search, which `--settings search` of the other commands uses.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from ogkd.cli import many
from ogkd.core import UserError
from ogkd.core.places import command
from ogkd.core.words import counted, underscored
from ogkd.evaluation.protocol import BASE2NEW_SHOTS, SCORES
from ogkd.runs.protocols import BEST, PROTOCOLS, Places, integer, locate, takes_part

if TYPE_CHECKING:
    from ogkd.reports.render import Table
    from ogkd.runs.search import Outcome, Search

TRIALS = 8


def main(argv: Sequence[str] | None = None) -> None:
    p = many.grid_parser(__doc__)
    p.add_argument("dataset", help="one of configs/datasets/, a folder of your own images in DATA, or its path")
    p.add_argument("--protocol", type=underscored, choices=PROTOCOLS, default="few_shot")
    add_options(p, TRIALS, "--seed")
    p.add_argument("--show-space", action="store_true", help="print what is searched, as a file for --space, and stop")
    p.add_argument("pairs", nargs="*", metavar="KEY VALUE", help="settings that all trials have")
    args = many.parse(p, argv)
    dataset, places = locate(args.dataset, many.places_of(args))
    if not takes_part(args.protocol, dataset):
        raise UserError(f"{dataset} is not part of {args.protocol}: choose another protocol with --protocol.")
    own = many.without_sentences(args, methods_of(args), dataset, places)
    if args.show_space:
        from ogkd.runs.search import space_text

        print(space_text(planned(args, [args.protocol], dataset, places, own)), end="")
        return
    if search(args, [args.protocol], dataset, places, own):
        words = [args.dataset, "--protocol", args.protocol, "--settings", "search"]
        for option in ("methods", "seeds", "shots"):
            if (given := getattr(args, option)) != p.get_default(option):
                words += [f"--{option}", *map(str, given)]
        print(f"\nRuns with the best settings: {command('compare', *words)}")


def add_options(p: argparse.ArgumentParser, trials: int | None = None, *seed: str) -> None:
    """Add the options of a search. `seed`: a further name of --search-seed."""
    p.add_argument(
        "--trials", type=partial(integer, what="--trials", least=1), default=trials,
        help="random settings that are tried for each method and seed" + (f" (default: {trials})" if trials else ""),
    )  # fmt: skip
    p.add_argument("--score", choices=SCORES, default="accuracy", help="of a trial (default: accuracy)")
    p.add_argument(
        "--folds", type=partial(integer, what="--folds", least=2), default=0,
        help="score by cross-validation within the shots, with so many folds, not on the validation images",
    )  # fmt: skip
    seeds = partial(integer, what="--search-seed", least=0)
    p.add_argument("--search-seed", *seed, type=seeds, default=1, help="seed of the random settings (default: 1)")
    p.add_argument("--space", default="", metavar="FILE", help="YAML of what is searched, see tune's --show-space")


def methods_of(args: argparse.Namespace) -> list[str]:
    """The class names of the methods of the command line, by default all."""
    from ogkd.evaluation.methods import expanded
    from ogkd.runs.registry import benchmark_methods

    return expanded(args.methods or benchmark_methods())


def planned(
    args: argparse.Namespace, protocols: Sequence[str], dataset: str, places: Places, own: Mapping[str, Sequence[str]]
) -> list[Search]:
    """The searches of the command line. `own`: pairs of single methods.

    Raises:
        UserError: an option, a method or the space is wrong.
    """
    from ogkd.runs.search import Plan, searches

    plan = Plan(args.trials, args.score, args.folds, args.search_seed, args.space)
    return [
        one
        for protocol in protocols
        if takes_part(protocol, dataset)
        for one in searches(
            plan, protocol, dataset, methods_of(args), args.seeds,
            [BASE2NEW_SHOTS] if protocol == "base2new" else args.shots, places, args.pairs, own,
        )
    ]  # fmt: skip


def search(
    args: argparse.Namespace, protocols: Sequence[str], dataset: str, places: Places, own: Mapping[str, Sequence[str]]
) -> bool:
    """Execute the searches of the command line, write their results and print the best settings; False if it only asks
    what would be executed.

    Raises:
        UserError: an option is wrong, or trials failed. Those that diverged are no failures.
    """
    every = planned(args, protocols, dataset, places, own)
    for method in dict.fromkeys(one.spec.method for one in every if not one.space):
        print(f"{method} has nothing to search, such as a learning rate: it is run as it is.")
    report = many.execute([job for one in every for job in one.jobs], args, places, [dataset])
    if report is None:
        return False
    report.conclude(diverged=False)
    outcomes = [one.write() for one in every]
    titles = dict.fromkeys(one.title for one in every)
    many.show([summary([one for one in outcomes if one.search.title == title]) for title in titles], ())
    return True


def summary(outcomes: Sequence[Outcome]) -> Table:
    """The best trial of each search."""
    from ogkd.evaluation.methods import known_methods
    from ogkd.evaluation.metrics import find
    from ogkd.reports.cells import Cell, Text
    from ogkd.reports.render import Table
    from ogkd.reports.tables import decimals, in_words

    plan, metric = outcomes[0].search.plan, find(SCORES[outcomes[0].search.plan.score])
    headers = ["method", "seed", "trials", "seconds", plan.score.replace("_", " "), "best settings"]
    where = f"mean over {plan.folds} folds of the shots" if plan.folds else "on the validation images"
    caption = (
        f"{in_words(metric)}, {where}, of the best trial, so an optimistic one; seconds of all trials. {BEST} has the "
        "settings."
    )
    table = Table(outcomes[0].search.title, headers, caption=caption)
    for one in outcomes:
        settings = ", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in one.settings.items())
        cells = [
            Cell(one.search.spec.seed, decimals=0),
            Cell(len(one.trace), decimals=0),
            Cell(sum(row["seconds"] for row in one.trace), decimals=0),
            Cell(one.best["score"], decimals=decimals(metric)) if one.best else None,
            Text(settings or "–"),
        ]
        title = known_methods()[one.search.spec.method].title
        table.add(title, cells)
        if diverged := sum(trial["status"] == "diverged" for trial in one.trace):
            of_trials = f"{diverged} of {counted(len(one.trace), 'trial')} diverged"
            table.footnotes.append(f"{title}, seed {one.search.spec.seed}: {of_trials}.")
    return table
