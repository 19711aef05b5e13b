"""The numbers of runs and steps in docs/benchmark.md follow from the catalogue and the configurations."""

import math
import re

import pytest

from ogkd.data.catalogue import load
from ogkd.evaluation.protocol import BASE2NEW_SHOTS
from ogkd.runs.config import resolve
from ogkd.runs.plan import plan
from ogkd.runs.protocols import PROTOCOLS, Places, job
from ogkd.runs.registry import benchmark_methods, method_class
from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "benchmark.md").read_text(encoding="utf-8")
SHOTS = {"base2new": [BASE2NEW_SHOTS], "few_shot": [1, 2, 4, 8, 16]}
ROWS = {
    method: [int(cell.replace(",", "")) for cell in cells]
    for method, *cells in re.findall(r"^\| (\w+) \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|$", PAGE, re.MULTILINE)
}


def steps(protocol: str, method: str) -> int:
    """Batches of all epochs with one seed, over the data sets and numbers of shots; an incomplete batch is dropped."""
    total = 0
    for facts in load().datasets.values():
        if protocol == "base2new" and not facts.base2new:
            continue
        classes = math.ceil(len(facts.classes) / 2) if protocol == "base2new" else len(facts.classes)
        cfg = resolve(job(protocol, method, facts.config, 16, 1, Places(backbone="BiomedCLIP")).specs[0]).cfg
        for shots in SHOTS[protocol]:
            total += cfg.OPTIM.MAX_EPOCH * max(1, shots * classes // cfg.DATALOADER.TRAIN_X.BATCH_SIZE)
    return total


@pytest.mark.parametrize("method", ROWS)
def test_the_steps_of_a_method(method):
    assert ROWS[method][1:] == [steps(protocol, method) for protocol in PROTOCOLS]


def test_the_sums_and_the_runs():
    assert len(ROWS) == 12
    sets = [facts.config for facts in load().datasets.values()]
    methods = [name for name in benchmark_methods() if method_class(name).__module__.startswith("ogkd.trainers.")]
    for place, (protocol, title) in enumerate(zip(PROTOCOLS, ("base-to-novel", "few-shot"), strict=True), 1):
        jobs = plan(protocol, sets, methods, [1], SHOTS[protocol], Places(backbone="BiomedCLIP"))
        runs = 3 * sum(len(one.specs) for one in jobs)
        total = 3 * sum(row[place] for row in ROWS.values())
        assert f"| {title} | {runs:,} | {total:,} |" in PAGE
