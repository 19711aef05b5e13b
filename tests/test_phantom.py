"""The bundled data set and model: the same everywhere, small, and neither too hard nor too easy."""

import hashlib

import train
from phantom.dataset import write_dataset
from phantom.findings import CLASSES
from tests.conftest import ROOT


def fingerprint(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_same_seed_draws_the_same_bytes_and_another_seed_draws_others(tmp_path):
    counts = {"train": 2, "val": 1, "test": 1}
    for name, seed in (("one", 0), ("two", 0), ("other", 1)):
        write_dataset(tmp_path / name, seed, counts)
    one, two, other = (fingerprint(tmp_path / name) for name in ("one", "two", "other"))
    assert one == two
    assert len(one) == 4 * len(CLASSES) + 1
    images = [name for name in one if name.endswith(".png")]
    assert all(one[name] != other.get(name) for name in images)
    assert len({one[name] for name in images}) == len(images)


def test_the_models_files_are_small_enough_for_a_repository():
    assert sum(path.stat().st_size for path in (ROOT / "clip/phantomclip").iterdir()) < 6e6


def test_zero_shot_lies_between_chance_and_perfection(arguments, tmp_path):
    write_dataset(tmp_path / "Phantom", counts={"train": 2, "val": 1, "test": 20})
    words = arguments("ZeroShot")
    words[words.index("--root") + 1] = str(tmp_path)
    assert 35 <= train.main(words)["accuracy"] <= 75
