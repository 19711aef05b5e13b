"""Metrics of a folder of seed folders, as CoOp's parse_test_res.py prints them; CoOp's own logs are read too."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ogkd.core import UserError
from ogkd.evaluation.collect import DIVERGED, read_results, warn
from ogkd.evaluation.metrics import METRICS

LINE = re.compile(r"\* ([\w ]+): (\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)%")
TRAINED = re.compile(r"^Finish(ed)? training\s*$", re.MULTILINE)  # Dassl's line, in older and newer versions


def seed_metrics(folder: Path, test_log: bool = False) -> dict[str, float] | None:
    """Metrics of a run by name, from results.json or else the last result block of its log; None without either.

    A log counts if its training has finished, or always with `test_log`, which is for test-only runs.

    Raises:
        UserError: results.json is corrupt.
    """
    results = folder / "results.json"
    if results.is_file():
        values = read_results(results)
        return {name: float(values[name]) for name in METRICS if values.get(name) is not None}
    logs = sorted(folder.glob("log.txt*"))  # names of later logs end with a time
    text = logs[-1].read_text(encoding="utf-8", errors="replace") if logs else ""
    if not test_log:
        trained = TRAINED.search(text)
        text = text[trained.end() :] if trained else ""
    blocks = text.split("=> result")[1:]
    if not blocks:
        return None
    return {name.strip().replace(" ", "_"): float(value) for name, value in LINE.findall(blocks[-1])} or None


def experiment(folder: Path, ci95: bool, test_log: bool = False) -> tuple[list[str], dict[str, float]]:
    """Lines on a folder of seed folders, and the means. A corrupt run is reported and left out."""
    lines, seeds = [], {}
    for path in sorted(path for path in folder.iterdir() if path.is_dir()):
        try:
            metrics = seed_metrics(path, test_log)
        except UserError as error:
            warn(str(error))
            continue
        if metrics:
            seeds[path.name] = metrics
        else:
            state = "diverged" if (path / DIVERGED).is_file() else "not finished"
            lines.append(f"{path.name}: {state}, left out")
    if not seeds:
        hint = "" if test_log else ", and logs of test-only runs need --test-log"
        diverged = sum(line.endswith(": diverged, left out") for line in lines)
        state = f", {diverged} diverged" if diverged else ""
        raise UserError(
            f"No seed folder in {folder} is finished{state}: add --table base2new or few_shot for the runs below it, "
            f"or give a folder of seed folders{hint}."
        )
    for name, metrics in seeds.items():
        lines.append(f"{name}: " + ", ".join(f"{metric} {_value(metric, value)}" for metric, value in metrics.items()))
    means = {}
    for metric in dict.fromkeys(metric for metrics in seeds.values() for metric in metrics):
        values = [metrics[metric] for metrics in seeds.values() if metric in metrics]
        spread = 1.96 * np.std(values) / np.sqrt(len(values)) if ci95 else np.std(values)
        means[metric] = float(np.mean(values))
        lines.append(f"* {metric}: {_value(metric, means[metric])} +- {_value(metric, spread)}")
    return lines, means


def _value(metric: str, value: float | np.floating) -> str:
    """A value as text. Values in logs are all in percent, and their names may be unknown metrics."""
    unit = METRICS[metric].unit if metric in METRICS else "%"
    return f"{value:.2f}{unit}"


def seeds_report(
    folder: Path, multi_exp: bool = False, keyword: str = "accuracy", ci95: bool = False, test_log: bool = False
) -> str:
    """The report on a folder of seed folders; with `multi_exp`, on each such folder in it, and their mean.

    Dispersion is the population standard deviation over seeds; with `ci95`, 1.96 times it over sqrt(seeds).

    Raises:
        UserError: the folder or metric does not exist, or no run in it is finished.
    """
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder}.")
    if not multi_exp:
        return "\n".join([f"Parsing files in {folder}", *experiment(folder, ci95, test_log)[0]])
    lines, values = [], []
    for path in sorted(path for path in folder.iterdir() if path.is_dir()):
        of_experiment, means = experiment(path, ci95, test_log)
        lines += [f"Parsing files in {path}", *of_experiment, ""]
        if keyword not in means:
            raise UserError(f"There is no metric '{keyword}' in {path}; there are {', '.join(means)}.")
        values.append(means[keyword])
    if not values:
        raise UserError(f"There are no experiments in {folder}.")
    return "\n".join([*lines, f"Average {keyword}: {_value(keyword, float(np.mean(values)))}"])
