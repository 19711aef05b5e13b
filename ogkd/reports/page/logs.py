"""A run's training curves, read from its log.txt in the format of CoOp and Dassl."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from pathlib import Path

EPOCH = re.compile(r"^epoch \[(\d+)/\d+\] batch \[\d+/\d+\] (.*)$")
VALUE = re.compile(r"(\S+) (\S+) \((\S+)\)")
NOT_LEARNED = ("time", "data")
LONGEST = 50_000_000  # maximum number of bytes read from a log

Curves = dict[str, dict[int, float]]


def training_curves(path: Path) -> Curves:
    """{"loss" | "acc" | name of a loss term: {epoch: mean over the epoch's batches up to the last logged one}}.

    If an epoch was repeated after an interruption, the last time counts. Empty without a log, or for a method that does
    not train in epochs. Non-finite values are left out.

    Raises:
        OSError: the log cannot be read.
    """
    if not path.is_file():
        return {}
    with path.open("rb") as file:
        lines = file.read(LONGEST).decode("utf-8", "replace").splitlines()
    return _curves(lines)


def _curves(lines: Iterable[str]) -> Curves:
    curves: Curves = {}
    for line in lines:
        epoch = EPOCH.match(line)
        if not epoch:
            continue
        for name, _, mean in VALUE.findall(epoch[2]):
            try:
                value = float(mean)
            except ValueError:
                continue
            if name not in NOT_LEARNED and math.isfinite(value):
                curves.setdefault(name, {})[int(epoch[1])] = value
    return {name: dict(sorted(values.items())) for name, values in curves.items()}
