"""Many runs: every method on every data set with every seed."""

from __future__ import annotations

from collections.abc import Sequence

from reports.variants import BASE2NEW_SHOTS
from runs.protocols import Job, Places, job, takes_part


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
