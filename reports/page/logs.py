"""How a run's training went, read from its log.txt in the format of CoOp and Dassl."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from pathlib import Path

EPOCH = re.compile(r"^epoch \[(\d+)/\d+\] batch \[\d+/\d+\] (.*)$")
VALUE = re.compile(r"(\S+) (\S+) \((\S+)\)")
NOT_LEARNED = ("time", "data")
LONGEST = 50_000_000  # bytes of a log that are read

Curves = dict[str, dict[int, float]]


def training_curves(path: Path) -> Curves:
    """{"loss" | "acc" | name of a loss term: {epoch: mean over the epoch's batches up to the last that was logged}}.

    An epoch that was trained again after an interruption counts as it was trained last. Empty without a log, or for a
    method that does not train in epochs. What is not finite is left out.

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
