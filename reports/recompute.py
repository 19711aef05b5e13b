"""results.json made again from predictions.npz."""

from __future__ import annotations

from pathlib import Path

from dassl.utils import UserError, write_json

from .collect import read_results
from .metrics import summary
from .predictions import Predictions


def recompute(folder: Path) -> dict:
    """Write a run's results.json again with all metrics computed from its predictions; returns what it holds.

    What no prediction can tell (configuration, times, fingerprints) is kept, and so is the order of the keys: for the
    same definitions of the metrics the file is the same to the last byte.

    Raises:
        UserError: the folder is no finished run, or kept no predictions.
    """
    path = folder / "results.json"
    if not path.is_file():
        raise UserError(f"{folder} is no finished run: it has no results.json.")
    results = read_results(path)
    results |= summary(Predictions.load(folder / "predictions.npz"))
    write_json(results, path)
    return results
