"""The program that prints tables, and runs for it."""

import subprocess

import numpy as np
import pytest

from ogkd.cli import tables as parse_test_res
from ogkd.core import run_program
from tests.support.tables import METHODS, write_run


@pytest.fixture
def output(tmp_path):
    """Three methods on two data sets with three seeds, and what their accuracies are."""
    rng = np.random.default_rng(0)
    accuracy = {}
    for dataset in ("BTMRI", "Kvasir"):
        for method in METHODS:
            for kind, shots in (("train_base", 16), ("test_new", 16), ("few_shot", 1), ("few_shot", 16)):
                values = rng.uniform(40, 90, 3).round(3)
                accuracy[dataset, method, kind, shots] = values
                for seed, value in enumerate(values, 1):
                    folder = tmp_path / kind / dataset / f"shots_{shots}" / method / f"seed{seed}"
                    write_run(folder, kind, dataset, method, seed, value, shots)
    return tmp_path, accuracy


@pytest.fixture
def parse(capsys):
    """The program in this process: parse(*words) -> its exit code, stdout and stderr."""

    def run(*words):
        capsys.readouterr()
        code = run_program(lambda: parse_test_res.main(list(map(str, words))))
        return subprocess.CompletedProcess(words, code, *capsys.readouterr())

    return run
