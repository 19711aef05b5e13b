"""Fixtures that several test files share."""

import importlib.util
import os
import subprocess
from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from ogkd.core import run_program
from ogkd.phantom.dataset import write_dataset

ROOT = Path(__file__).resolve().parents[1]
torch.set_num_threads(1)  # the suite's models are too small for more
os.fsync = os.sync = lambda *_: None  # no test pulls the plug, and a sixth of a short run is this wait
settings.register_profile("suite", deadline=None)  # a busy machine is no fault
settings.load_profile("suite")


def pytest_configure(config):
    config.option.loadscopereorder = False  # xdist would begin with the files of many tests, which are the quick ones


def pytest_collection_modifyitems(items):
    """The files with most slow tests come first, so that no process is left alone with one of them at the end."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


@pytest.fixture(autouse=True)
def _same_random_numbers_in_every_run():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def split_folder() -> Path:
    """The published split files, which are not part of the repository: `../shared/splits` beside the checkout."""
    folder = ROOT.parent / "shared" / "splits"
    if not folder.is_dir():
        pytest.skip("the published split files are not at hand")
    return folder


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """A folder with a small Phantom data set."""
    root = tmp_path_factory.mktemp("data")
    write_dataset(root / "Phantom", counts={"train": 5, "val": 4, "test": 4})
    return root


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> Path:
    """A feature cache that all tests share, as runs do."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def arguments(data, cache, tmp_path):
    """train.py's arguments for a short run on the small Phantom data set: arguments(trainer, *more) -> list."""

    def make(trainer: str, *more: str, output: Path | None = None, method_file: str = "") -> list[str]:
        return [
            *("--root", str(data), "--output-dir", str(output or tmp_path / "run"), "--seed", "1"),
            *("--trainer", trainer, "--backbone", "PhantomCLIP"),
            *("--dataset-config-file", str(ROOT / "configs/datasets/phantom.yaml")),
            *(("--config-file", method_file) if method_file else ()),
            *("FEATURES.CACHE_DIR", str(cache), "DATALOADER.NUM_WORKERS", "0", "DATASET.NUM_SHOTS", "2"),
            *("DATALOADER.TRAIN_X.BATCH_SIZE", "12", "OPTIM.MAX_EPOCH", "3", *more),
        ]

    return make


@pytest.fixture
def command(capsys, monkeypatch):
    """Run a program of the project in this process, as its command line does: command(["train.py", ...]), or
    command(["ogkd.phantom.dataset", ...]) for `python -m`.

    `env` sets variables. Returns a CompletedProcess with the exit code and the text printed.
    """

    def run(words: list[str], env: dict[str, str] | None = None) -> subprocess.CompletedProcess:
        for name, value in (env or {}).items():
            monkeypatch.setenv(name, value)
        if words[0].endswith(".py"):
            spec = importlib.util.spec_from_file_location("program", ROOT / words[0])
            program = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(program)
        else:
            program = importlib.import_module(words[0])
        capsys.readouterr()
        monkeypatch.chdir(ROOT)
        try:
            code = run_program(lambda: program.main(words[1:]))
        except SystemExit as end:  # argparse's way
            code = end.code
        return subprocess.CompletedProcess(words, code, *capsys.readouterr())

    return run
