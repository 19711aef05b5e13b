"""Recomputing results.json from predictions.npz."""

from __future__ import annotations

from pathlib import Path

from ogkd.core import UserError, write_json
from ogkd.evaluation.collect import read_results
from ogkd.evaluation.doubts import about_answers
from ogkd.evaluation.metrics import summary
from ogkd.evaluation.predictions import Predictions


def recompute(folder: Path) -> dict:
    """Rewrite a run's results.json with all metrics recomputed from its predictions. Returns its content.

    Everything that does not depend on predictions (configuration, times, fingerprints) and the order of keys are kept:
    if the metrics' definitions have not changed, neither does a byte of the file.

    Raises:
        UserError: the folder is not a finished run, or has no predictions.
    """
    path = folder / "results.json"
    if not path.is_file():
        raise UserError(f"{folder} is not a finished run: it has no results.json.")
    results = read_results(path)
    results |= summary(Predictions.load(folder / "predictions.npz"))
    doubts = about_answers(results["confusion_matrix"], results["classnames"])
    if doubts:
        results["warnings"] = list(dict.fromkeys([*results.get("warnings", ()), *doubts]))
    write_json(results, path)
    return results
