"""Many runs: every method on every data set with every seed."""

from __future__ import annotations

from collections.abc import Sequence

from reports.variants import BASE2NEW_SHOTS
from runs.protocols import TRANSFER, Job, Places, cannot_transfer, job, takes_part


def plan(
    protocol: str,
    datasets: Sequence[str],
    methods: Sequence[str],
    seeds: Sequence[int],
    shots: Sequence[int],
    places: Places,
    pairs: Sequence[str] = (),
) -> list[Job]:
    """The jobs of a protocol, data set by data set; base-to-novel has its own number of shots.

    Raises:
        UserError: an unknown method or data set.
    """
    return [
        job(protocol, method, dataset, number, seed, places, pairs)
        for dataset in datasets
        if takes_part(protocol, dataset)
        for method in methods
        for number in ([BASE2NEW_SHOTS] if protocol == "base2new" else shots)
        for seed in seeds
    ]


def transfer_plan(
    routes: Sequence[tuple[str, str]],
    methods: Sequence[str],
    seeds: Sequence[int],
    shots: Sequence[int],
    places: Places,
    pairs: Sequence[str] = (),
) -> tuple[list[Job], list[str]]:
    """The jobs of the transfer protocol along (source, target) routes, and a sentence on each method that cannot take
    part in one. All targets of a source are one job, so that no two jobs train the same run.

    Raises:
        UserError: an unknown method or data set.
    """
    from runs.config import merged_config
    from runs.folder import names_novel_classes

    jobs, left_out = [], []
    for source in dict.fromkeys(source for source, _ in routes):
        for method in methods:
            targets = [target for start, target in routes if start == source]
            learned = job("few_shot", method, source, shots[0], seeds[0], places, pairs).specs[0]
            if not names_novel_classes(merged_config(learned)):
                reasons = {target: cannot_transfer(learned, target) for target in targets}
                left_out += filter(None, reasons.values())
                targets = [target for target in targets if not reasons[target]]
            jobs += [
                job(TRANSFER, method, source, number, seed, places, pairs, targets)
                for number in (shots if targets else ())
                for seed in seeds
            ]
    return jobs, left_out
