"""The presets fast, published and universal: which runs get which, what each sets, and where a reader sees it."""

import json
import shutil

import pytest
import torch

from ogkd.core import UserError
from ogkd.features.precision import has_bf16
from ogkd.runs import presets
from ogkd.runs.config import resolve
from ogkd.runs.protocols import Places, job
from ogkd.runs.spec import RunSpec

BEST = "bf16" if has_bf16(torch.device("cpu")) else "fp32"
SHORT = ("OPTIM.MAX_EPOCH", "1", "DATALOADER.NUM_WORKERS", "0")


@pytest.fixture
def places(tmp_path, data, monkeypatch):
    """A data folder with Phantom and a folder of one's own images, `moles`, on a machine without a GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/Phantom").symlink_to(data / "Phantom")
    for folder in sorted((data / "Phantom/Phantom").iterdir())[:2]:
        shutil.copytree(folder, tmp_path / "data/moles" / folder.name)
    return Places(tmp_path / "data", tmp_path / "output", "PhantomCLIP")


def resolved(places, dataset="moles", shots=16, pairs=(), method="OGKD"):
    """The configuration of a few-shot job's run."""
    return resolve(job("few_shot", method, dataset, shots, 1, places, pairs).specs[0]).complete()


def named(configuration):
    return configuration.cfg.SETTINGS


def rows(done):
    """The names of CoOp's rows in the tables that a program printed."""
    return {line.split("|")[1].strip() for line in done.stdout.splitlines() if line.startswith("| CoOp")}


def test_a_number_of_shots_of_ones_own_images_is_fast_without_a_gpu_and_all_else_is_published(places, monkeypatch):
    fast = resolved(places)
    assert (named(fast), fast.cfg.FEATURES.CROPS, fast.cfg.FEATURES.PRECISION) == ("fast", 8, BEST)
    assert fast.cfg.FEATURES.PACKED_TEXT
    others = [resolved(places, name) for name in ("phantom", "btmri")] + [resolved(places, shots=-1)]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for other in (*others, resolved(places)):
        assert (named(other), other.cfg.FEATURES.CROPS, other.cfg.FEATURES.PRECISION) == ("published", 0, "fp32")
        assert other.changed == {}


def test_settings_are_chosen_by_variable_by_pair_and_by_argument(places, tmp_path, monkeypatch):
    monkeypatch.setenv("SETTINGS", "published")
    chosen = Places(places.data, places.output, "PhantomCLIP")
    assert named(resolved(chosen)) == "published"
    assert named(resolved(chosen, "phantom", pairs=("SETTINGS", "fast"))) == "fast"
    spec = RunSpec.parse(["--trainer", "CoOp", "--output-dir", str(tmp_path / "r"), "--settings", "universal"])
    assert spec.settings == "universal" and RunSpec.parse(spec.arguments()) == spec


def test_fast_works_without_bf16_and_gives_way_to_what_is_set_by_hand(places, monkeypatch):
    assert resolved(places).changed == {"SETTINGS": "fast"}
    monkeypatch.setattr(presets, "has_bf16", lambda device: False)
    assert resolved(places).cfg.FEATURES.PRECISION == "fp32"
    by_hand = resolved(places, pairs=("FEATURES.CROPS", "3"))
    assert by_hand.cfg.FEATURES.CROPS == 3 and by_hand.changed == {"SETTINGS": "fast", "FEATURES.CROPS": 3}


def test_universal_is_one_configuration_for_all_data_sets(places):
    sets = ("btmri", "retina", "phantom", "moles")
    universal, published = (
        [resolved(Places(places.data, places.output, "PhantomCLIP", name), one) for one in sets]
        for name in ("universal", "published")
    )
    options = [dict(one.cfg.TRAINER.OGKD) for one in universal]
    assert options == [dict(published[-1].cfg.TRAINER.OGKD)] * len(sets)
    assert dict(published[0].cfg.TRAINER.OGKD) != dict(published[1].cfg.TRAINER.OGKD)
    assert [(one.changed, one.cfg.FEATURES.CROPS) for one in universal] == [({"SETTINGS": "universal"}, 0)] * len(sets)


def test_a_wrong_name_is_refused_with_the_right_ones(places):
    with pytest.raises(UserError, match=r"no settings 'fats'.*fast.*published, universal"):
        resolved(Places(places.data, places.output, "PhantomCLIP", "fats"))


def test_the_log_the_results_and_the_row_say_fast_and_no_mean_mixes_settings(places, command):
    env = {"DATA": str(places.data), "BACKBONE": "PhantomCLIP"}
    words = ["scripts/run.py", "CoOp", "few_shot", "moles", "2", "1"]
    done = command([*words, *SHORT], {**env, "OUTPUT": str(places.output / "a")})
    assert rows(done) == {"CoOp, MAX_EPOCH 1"} and "fast settings" in done.stdout
    (folder,) = (path.parent for path in places.output.rglob("results.json"))
    results = json.loads((folder / "results.json").read_text())
    assert (results["settings"], results["config"]["SETTINGS"]) == ("fast", "fast")
    assert (
        f"Settings: fast (8 crops of each training image, encoded once, towers in {BEST})"
        in (folder / "log.txt").read_text()
    )

    exact = [*words[:-1], "2", "--settings", "published", *SHORT]
    assert rows(command(exact, {**env, "OUTPUT": str(places.output / "b")})) == {"CoOp, MAX_EPOCH 1"}
    table = command(["parse_test_res.py", str(places.output), "--table", "few_shot"])
    assert rows(table) == {"CoOp, MAX_EPOCH 1", "CoOp, MAX_EPOCH 1, fast settings"}
