"""Metrics of a folder of seed folders, as CoOp's parse_test_res.py prints them; CoOp's own logs are read too."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np

from dassl.utils import UserError

METRICS = ("accuracy", "error_rate", "macro_f1", "expected_calibration_error")
LINE = re.compile(r"\* ([\w ]+): ([\d.]+)%")


def seed_metrics(folder: Path) -> dict[str, float] | None:
    """Percentages of a run, from results.json or from the last result block of a finished log; None without either."""
    results = folder / "results.json"
    if results.is_file():
        try:
            found = json.loads(results.read_text())
            return {name: float(found[name]) for name in METRICS if name in found}
        except (ValueError, TypeError) as error:
            raise UserError(f"{results} is damaged ({error}); delete it and run again.") from None
    logs = sorted(folder.glob("log.txt*"))
    blocks = logs[-1].read_text(errors="replace").split("=> result")[1:] if logs else []
    if not blocks:
        return None
    return {name.strip().replace(" ", "_"): float(value) for name, value in LINE.findall(blocks[-1])} or None


def experiment(folder: Path, ci95: bool) -> tuple[list[str], dict[str, float]]:
    """Lines on a folder of seed folders, and the means."""
    seeds = {path.name: seed_metrics(path) for path in sorted(folder.iterdir()) if path.is_dir()}
    lines = [f"{name}: not finished, left out" for name, metrics in seeds.items() if metrics is None]
    seeds = {name: metrics for name, metrics in seeds.items() if metrics}
    if not seeds:
        raise UserError(f"No run in {folder} is finished: give a folder of seed folders.")
    for name, metrics in seeds.items():
        lines.append(f"{name}: " + ", ".join(f"{metric} {value:.2f}%" for metric, value in metrics.items()))
    means = {}
    for metric in next(iter(seeds.values())):
        values = [metrics[metric] for metrics in seeds.values() if metric in metrics]
        spread = 1.96 * np.std(values) / np.sqrt(len(values)) if ci95 else np.std(values)
        means[metric] = float(np.mean(values))
        lines.append(f"* {metric}: {means[metric]:.2f}% +- {spread:.2f}%")
    return lines, means


def seeds_report(folder: Path, multi_exp: bool = False, keyword: str = "accuracy", ci95: bool = False) -> str:
    """The report on a folder of seed folders, or with `multi_exp` on each folder in it and their mean.

    Raises:
        UserError: there is no such folder or metric, or nothing in it is finished.
    """
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}.")
    if not multi_exp:
        return "\n".join([f"Parsing files in {folder}", *experiment(folder, ci95)[0]])
    lines, values = [], []
    for path in sorted(path for path in folder.iterdir() if path.is_dir()):
        of_experiment, means = experiment(path, ci95)
        lines += [f"Parsing files in {path}", *of_experiment, ""]
        if keyword not in means:
            raise UserError(f"There is no metric '{keyword}'; there are {', '.join(means)}.")
        values.append(means[keyword])
    if not values:
        raise UserError(f"There are no experiments in {folder}.")
    return "\n".join([*lines, f"Average {keyword}: {np.mean(values):.2f}%"])
