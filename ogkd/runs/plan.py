"""Many runs: every method on every data set with every seed."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from ogkd.core import UserError
from ogkd.core.places import command
from ogkd.data.catalogue import config_name, load
from ogkd.evaluation.collect import DIVERGED, RESULTS, Run, runs_in
from ogkd.evaluation.methods import expanded
from ogkd.evaluation.protocol import BASE2NEW_SHOTS
from ogkd.runs.protocols import TRANSFER, Job, Places, cannot_transfer, is_there, job, takes_part


def plan(
    protocol: str,
    datasets: Sequence[str],
    methods: Sequence[str],
    seeds: Sequence[int],
    shots: Sequence[int],
    places: Places,
    pairs: Sequence[str] = (),
    banks: Mapping[str, str] = MappingProxyType({}),
    more: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> list[Job]:
    """The jobs of a protocol, data set by data set. Base-to-novel has a fixed number of shots.

    banks: the bank of teacher sentences of the methods that use another than the usual one. Their runs have a folder
        `bank_<name>` in the output folder, beside those with the usual bank.
    more: further pairs of single methods.

    Raises:
        UserError: an unknown method or data set.
    """
    own = {
        method: (
            replace(places, output=places.output / f"bank_{Path(bank).name}"),
            (*pairs, f"TRAINER.{method.upper()}.PROMPT_BANK", bank),
        )
        for method, bank in banks.items()
    }
    return [
        job(protocol, method, dataset, number, seed, *own.get(method, (places, (*pairs, *more.get(method, ())))))
        for dataset in dict.fromkeys(map(config_name, datasets))
        if takes_part(protocol, dataset)
        for method in expanded(methods)
        for number in ([BASE2NEW_SHOTS] if protocol == "base2new" else shots)
        for seed in seeds
    ]


def published_routes(places: Places, without_data: bool = False) -> list[tuple[str, str]]:
    """The catalogue's (source, target) routes, by their names on the command line. Unless `without_data`, routes with
    missing images are left out, and a note says how to get them.

    Raises:
        UserError: no route is left.
    """
    routes = load().transfers()
    everything = {facts.name: facts for route in routes for facts in route}
    absent = {} if without_data else {n: f for n, f in everything.items() if not is_there(f.config, places.data)}
    left = [(s.config, t.config) for s, t in routes if not {s.name, t.name} & absent.keys()]
    if not left:
        raise UserError(
            f"No route of the transfer protocol has both its data sets in {places.data}: "
            f"`{command('download', 'busi', 'btmri', 'transfer', '--root', places.data)}` fetches them."
        )
    for facts in absent.values():
        print(f"note: {facts.name} is left out because it is missing: {facts.remedy(places.data)}.", file=sys.stderr)
    return left


def transfer_plan(
    routes: Sequence[tuple[str, str]],
    methods: Sequence[str],
    seeds: Sequence[int],
    shots: Sequence[int],
    places: Places,
) -> tuple[list[Job], list[str]]:
    """The jobs of the transfer protocol along (source, target) routes, and one sentence for each method that cannot
    run on a route. All targets of a source are one job, so that no two jobs train the same run.

    Raises:
        UserError: an unknown method or data set.
    """
    from ogkd.runs.config import names_novel_classes, resolve

    jobs: list[Job] = []
    left_out: list[str] = []
    for source in dict.fromkeys(source for source, _ in routes):
        for method in expanded(methods):
            targets = [target for start, target in routes if start == source]
            learned = job("few_shot", method, source, shots[0], seeds[0], places).specs[0]
            if not names_novel_classes(resolve(learned).cfg):
                reasons = {target: cannot_transfer(learned, target) for target in targets}
                left_out += filter(None, reasons.values())
                targets = [target for target in targets if not reasons[target]]
            jobs += [
                job(TRANSFER, method, source, number, seed, places, targets=targets)
                for number in (shots if targets else ())
                for seed in seeds
            ]
    return jobs, left_out


def runs_of(jobs: Sequence[Job]) -> list[Run]:
    """The finished and diverged runs of jobs, in order, as input for tables."""
    return runs_in((folder for job in jobs for folder in job.folders()), diverged=True)


def report_folders(jobs: Sequence[Job]) -> list[Path]:
    """The folders of the finished and diverged runs of jobs, in order; [] if no run is finished."""
    folders = [folder for job in jobs for folder in job.folders()]
    ended = [folder for folder in folders if any((folder / name).is_file() for name in (RESULTS, DIVERGED))]
    return ended if any((folder / RESULTS).is_file() for folder in ended) else []
