"""Many runs: every method on every data set with every seed, what is finished of them, and going through them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import clip
from dassl.utils import UserError
from runs.protocols import BASE2NEW_SHOTS, Place, Protocol, benchmark_methods

# Three classes leave one novel class, which nothing can be confused with.
NOT_IN_BASE2NEW = ("busi",)


@dataclass(frozen=True)
class Step:
    """One protocol of one method on one data set with one seed."""

    protocol: str
    run: Protocol

    def finished(self) -> bool:
        """Whether all its run folders hold results."""
        return all((folder / "results.json").is_file() for folder in self.run.folders(self.protocol))

    def __call__(self) -> None:
        getattr(self.run, self.protocol)()

    def __str__(self) -> str:
        run = self.run
        return f"{self.protocol} {run.dataset} {run.method} {run.shots} shots seed {run.seed}"


def steps(
    protocol: str,
    datasets: Sequence[str],
    methods: Sequence[str],
    seeds: Sequence[int],
    shots: Sequence[int],
    place: Place,
    pairs: Sequence[str] = (),
) -> list[Step]:
    """The runs of a protocol, data set by data set; base-to-novel has its own number of shots.

    Raises:
        UserError: an unknown method.
    """
    known = benchmark_methods()
    for method in methods:
        if method not in known:
            raise UserError(f"There is no method '{method}'; there are {', '.join(known)}.")
    if protocol == "base2new":
        datasets, shots = [name for name in datasets if name not in NOT_IN_BASE2NEW], [BASE2NEW_SHOTS]
    return [
        Step(protocol, Protocol(method, dataset, number, seed, pairs, place))
        for dataset in datasets
        for method in methods
        for number in shots
        for seed in seeds
    ]


def go_through(todo: Sequence[Step]) -> list[str]:
    """Run what is not finished. One that fails by a user's error is named and the rest goes on; the failures."""
    failures = []
    for number, step in enumerate(todo, 1):
        print(f"[{number}/{len(todo)}] {step}", flush=True)
        try:
            step()
        except (UserError, clip.ModelError) as error:
            failures.append(f"{step}: {error}")
            print(f"error: {error}", flush=True)
    return failures
