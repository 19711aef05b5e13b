"""What a run needs is read once: its configuration is built once, and each image's bytes are hashed once."""

import json
import sys
from collections import Counter

import pytest

from dassl.engine import TRAINER_REGISTRY
from ogkd.cli import run, train
from ogkd.evaluation.predictions import Predictions
from ogkd.phantom.dataset import write_dataset

_open = Counter()
sys.addaudithook(lambda event, words: _open.update([str(words[0])]) if event == "open" else None)


@pytest.fixture
def builds(monkeypatch):
    """How often a configuration was built: once for each call of a registered trainer's own hook."""
    calls = []

    class Counting:
        @staticmethod
        def extend_config(cfg):
            calls.append(cfg)

    monkeypatch.setitem(TRAINER_REGISTRY._obj_map, "Counting", Counting)
    return calls


@pytest.mark.parametrize(("words", "runs"), [(["base2new", "phantom", "1"], 2), (["few_shot", "phantom", "2", "1"], 1)])
def test_the_configuration_is_built_once_per_run(builds, data, cache, tmp_path, monkeypatch, words, runs):
    for name, value in {"DATA": data, "OUTPUT": tmp_path, "BACKBONE": "PhantomCLIP"}.items():
        monkeypatch.setenv(name, str(value))
    run.main(["CoOp", *words, "FEATURES.CACHE_DIR", str(cache), "OPTIM.MAX_EPOCH", "1", "TRAINER.COOP.N_CTX", "4"])
    done = [json.loads(path.read_text()) for path in tmp_path.rglob("results.json")]
    assert len(builds) == len(done) == runs
    assert all(results["changed"] == {"OPTIM.MAX_EPOCH": 1} for results in done)


def test_each_image_is_hashed_once_per_run(arguments, tmp_path, monkeypatch):
    monkeypatch.setattr("ogkd.core.hashes.TOO_RECENT", 0)  # the images were made just now
    write_dataset(tmp_path / "Phantom", counts={"train": 2, "val": 1, "test": 1})

    def opened(name):
        before = Counter(_open)
        more = ("FEATURES.CACHE_DIR", str(tmp_path / "cache"), "DATASET.ROOT", str(tmp_path))
        train.main(arguments("ZeroShot", *more, output=tmp_path / name))
        images = Predictions.load(tmp_path / name / "predictions.npz").images
        return {(_open - before)[str(tmp_path / "Phantom/Phantom" / image)] for image in images}

    assert opened("first") == {3}  # each is checked, hashed and encoded
    assert opened("second") == {0}
