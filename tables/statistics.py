"""Means over seeds, and what should not be averaged."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .collect import Run


@dataclass(frozen=True)
class Cell:
    """A mean over seeds with its population standard deviation."""

    mean: float
    std: float = 0.0
    seeds: int = 1


def harmonic_mean(base: float, novel: float) -> float:
    """2 base novel / (base + novel); 0 where both are 0."""
    return 2 * base * novel / (base + novel) if base + novel > 0 else 0.0


def cell(runs: list[Run], metric: str = "accuracy") -> Cell | None:
    """Mean and population standard deviation of a metric over runs, one a seed; None without runs."""
    values = [run.results[metric] for run in runs]
    return Cell(float(np.mean(values)), float(np.std(values)), len(values)) if values else None


def hm_cell(base: Cell | None, novel: Cell | None) -> Cell | None:
    """HM of the seed means, which as one number has no deviation."""
    return None if base is None or novel is None else Cell(harmonic_mean(base.mean, novel.mean))


def warnings(runs: list[Run], what: str) -> list[str]:
    """Sentences on runs of one cell that do not belong together: other data, weights or configuration."""
    found = []
    for name in ("dataset", "weights"):
        if len({run.results["fingerprints"].get(name) for run in runs}) > 1:
            found.append(f"{what}: the runs were made with different {name}.")
    own = {_without_seed(run) for run in runs}
    if len(own) > 1:
        found.append(f"{what}: the runs were made with different configurations.")
    return found


def _without_seed(run: Run) -> str:
    config, method = run.results["config"], run.method
    kept = {name: config.get(name) for name in ("INPUT", "OPTIM")}
    return repr((kept, config.get("TRAINER", {}).get(method.upper())))
