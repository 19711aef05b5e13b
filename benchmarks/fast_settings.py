#!/usr/bin/env python3
"""How much accuracy the fast settings cost: CoOp, BiomedCoOp and OGKD on Phantom, exact against 8 crops and bf16.

    python -m benchmarks.fast_settings [--data data] [--output output/fast_settings] [--methods ...] [--seeds 1 2 3]

Each setting is a folder of ordinary runs (base-to-novel and few-shot, 16 shots), which are kept and resumed. A row has
the means over seeds, the difference between the fast and the exact setting in points, and its 95 % interval over the
test images, which are the same for both.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from tabulate import tabulate

from ogkd.evaluation.predictions import Predictions
from ogkd.evaluation.statistics import Interval, paired_difference
from ogkd.features.precision import has_bf16
from ogkd.runs.folder import PREDICTIONS
from ogkd.runs.protocols import PROTOCOLS, Places, ensure_generated, job

METHODS = ("CoOp", "BiomedCoOp", "OGKD")
DATASET, SHOTS, ACCEPTED = "phantom", 16, 1.0
EXACT = "exact"
SETTINGS = {
    EXACT: (),
    "8 crops": ("FEATURES.CROPS", "8"),
    "bf16": ("FEATURES.PRECISION", "bf16"),
    "bf16, 8 crops": ("FEATURES.PRECISION", "bf16", "FEATURES.CROPS", "8"),
}
TESTS = {"base2new": ("base", "novel"), "few_shot": ("all classes",)}


def predictions(
    setting: str, method: str, seeds: Sequence[int], data: Path, output: Path
) -> dict[str, list[Predictions]]:
    """The test predictions of each seed, by the classes tested."""
    found: dict[str, list[Predictions]] = {}
    places = Places(data=data, output=output / setting.replace(", ", "_").replace(" ", "_"))
    for protocol in PROTOCOLS:
        for seed in seeds:
            runs = job(protocol, method, DATASET, SHOTS, seed, places, SETTINGS[setting])
            runs()
            for test, folder in zip(TESTS[protocol], runs.folders(), strict=True):
                found.setdefault(test, []).append(Predictions.load(folder / PREDICTIONS))
    return found


def row(setting: str, method: str, test: str, difference: Interval, exact: float) -> list[Any]:
    interval = f"{difference.low:+.2f} to {difference.high:+.2f}"
    return [method, test, setting, exact, exact + difference.value, f"{difference.value:+.2f}", interval]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--output", type=Path, default=Path("output/fast_settings"))
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--seeds", type=int, nargs="+", default=(1, 2, 3))
    parser.add_argument("--settings", nargs="+", choices=list(SETTINGS)[1:], default=list(SETTINGS)[1:])
    args = parser.parse_args(argv)
    ensure_generated(DATASET, args.data)
    settings = [name for name in args.settings if "bf16" not in name or has_bf16(torch.device("cpu"))]
    rows = []
    for method in args.methods:
        exact = predictions(EXACT, method, args.seeds, args.data, args.output)
        for setting in settings:
            fast = predictions(setting, method, args.seeds, args.data, args.output)
            for test in exact:
                difference = cast(Interval, paired_difference("accuracy", fast[test], exact[test]))
                mean = sum(100 * float((p.logits.argmax(1) == p.labels).mean()) for p in exact[test]) / len(exact[test])
                rows.append(row(setting, method, test, difference, mean))
    headers = ["method", "tested", "setting", "exact, %", "fast, %", "difference", "95 % interval"]
    print(tabulate(rows, headers, tablefmt="github", floatfmt=".2f", disable_numparse=[5, 6]))
    far = [row for row in rows if abs(float(row[5])) > ACCEPTED]
    print(f"\n{len(rows) - len(far)} of {len(rows)} differences are within {ACCEPTED:g} point.")
    return 1 if far else 0


if __name__ == "__main__":
    sys.exit(main())
