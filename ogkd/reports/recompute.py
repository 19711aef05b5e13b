"""Recomputing results.json from predictions.npz."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ogkd.core import UserError, expanded, write_json
from ogkd.data.groups import by_column, read_groups
from ogkd.evaluation.collect import read_results
from ogkd.evaluation.doubts import about_answers
from ogkd.evaluation.metrics import summary
from ogkd.evaluation.predictions import Predictions


def recompute(folder: Path) -> dict:
    """Rewrite a run's results.json with all metrics recomputed from its predictions. Returns its content.

    If the images are a folder that records groups now, such as sex or site, the predictions get these too.

    Everything that does not depend on predictions (configuration, times, fingerprints) and the order of keys are kept:
    if the metrics' definitions have not changed, neither does a byte of the file.

    Raises:
        UserError: the folder is not a finished run, or has no predictions.
    """
    path = folder / "results.json"
    if not path.is_file():
        raise UserError(f"{folder} is not a finished run: it has no results.json.")
    results = read_results(path)
    predictions = Predictions.load(folder / "predictions.npz")
    place = results["config"].get("DATASET", {})
    if place.get("FOLDER"):
        groups = read_groups(Path(expanded(place.get("ROOT") or ".")) / place["FOLDER"])
        if subgroups := by_column(groups, predictions.images):
            predictions = replace(predictions, subgroups=subgroups)
            predictions.save(folder / "predictions.npz")
    results |= summary(predictions)
    doubts = about_answers(results["confusion_matrix"], results["classnames"])
    if doubts:
        results["warnings"] = list(dict.fromkeys([*results.get("warnings", ()), *doubts]))
    write_json(results, path)
    return results
