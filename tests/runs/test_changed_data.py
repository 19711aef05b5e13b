"""A run is reused or resumed only with the data, sentences and weights that it was begun with."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from ogkd.cli import train
from ogkd.core import UserError
from ogkd.core.hashes import FileMemory, content_hash, file_hashes
from ogkd.models import folder_of
from ogkd.phantom.dataset import write_dataset
from tests.conftest import ROOT
from tests.support.check_method import SmallRuns, same
from tests.support.runs import killed_at, learned


@pytest.fixture
def own_data(tmp_path) -> Path:
    """A small Phantom data set that the test may change."""
    write_dataset(tmp_path / "data" / "Phantom", counts={"train": 3, "val": 2, "test": 2})
    return tmp_path / "data"


@pytest.fixture
def bank(tmp_path) -> Path:
    """A folder with the teacher's sentences on Phantom, two per class, that the test may change."""
    sentences = json.loads((ROOT / "ogkd" / "prompts" / "Phantom.json").read_text())
    (tmp_path / "bank").mkdir()
    path = tmp_path / "bank" / "Phantom.json"
    path.write_text(json.dumps({name: of_class[:2] for name, of_class in sentences.items()}))
    return path


@pytest.fixture
def runs(tmp_path, own_data, cache) -> SmallRuns:
    return SmallRuns("CoOp", tmp_path / "runs", own_data, cache)


ONE_EPOCH = ("OPTIM.MAX_EPOCH", "1")


def replace_image(data, part="test"):
    """Replace the first image of a part by another one; return its name below the image folder."""
    images = data / "Phantom" / "Phantom"
    first, second, *_ = json.loads((data / "Phantom" / "split_Phantom.json").read_text())[part]
    shutil.copyfile(images / second[0], images / first[0])
    return first[0]


def change_split(data):
    path = data / "Phantom" / "split_Phantom.json"
    split = json.loads(path.read_text())
    split["test"].append(split["val"].pop())
    path.write_text(json.dumps(split))


def change_sentence(bank):
    sentences = json.loads(bank.read_text())
    name = next(iter(sentences))
    sentences[name][1] = "something else altogether."
    bank.write_text(json.dumps(sentences))
    return name


def test_a_finished_run_is_not_taken_for_one_on_a_test_image_that_was_replaced(runs, own_data):
    runs.run("run", *ONE_EPOCH)
    name = replace_image(own_data)
    with pytest.raises(UserError, match=rf"was made with other test images \(1 of 24 images, the first is {name}\)"):
        runs.run("run", *ONE_EPOCH)


def test_a_finished_run_is_not_taken_for_one_of_a_split_that_has_changed(runs, own_data):
    runs.run("run", *ONE_EPOCH)
    change_split(own_data)
    with pytest.raises(UserError, match="was made with another split"):
        runs.run("run", *ONE_EPOCH)


@pytest.mark.parametrize("method", ["OGKD", "ZeroShotEnsemble"])
def test_a_finished_run_is_not_taken_for_one_of_sentences_that_have_changed(tmp_path, data, cache, bank, method):
    runs, option = SmallRuns(method, tmp_path / "runs", data, cache), f"TRAINER.{method.upper()}.PROMPT_BANK"
    pairs = (*ONE_EPOCH, option, str(bank.parent))
    before = runs.run("run", *pairs)
    content = bank.read_text()
    bank.write_text(json.dumps(json.loads(content), indent=4))  # the same sentences, written in another way
    assert runs.run("run", *pairs) == before
    name = change_sentence(bank)
    told = rf"was made with other teacher sentences \(1 of 12 classes, the first is {name}\).*--rerun"
    with pytest.raises(UserError, match=told):
        runs.run("run", *pairs)
    after = runs.run("run", *pairs, rerun=True)
    assert after["fingerprints"]["sentences"] != before["fingerprints"]["sentences"]
    assert runs.run("run", *pairs) == after


def test_an_evaluation_of_a_prompt_does_not_depend_on_the_sentences_that_taught_it(tmp_path, data, cache, bank):
    runs = SmallRuns("OGKD", tmp_path / "runs", data, cache)
    pairs = (*ONE_EPOCH, "TRAINER.OGKD.PROMPT_BANK", str(bank.parent))
    runs.run("run", *pairs)
    tested = {"eval_only": True, "model_dir": str(runs.folder / "run")}
    first = runs.run("tested", *pairs, **tested)
    change_sentence(bank)
    assert runs.run("tested", *pairs, **tested) == first


def test_a_run_that_was_killed_is_not_resumed_on_images_that_were_replaced(runs, own_data):
    killed_at(runs.spec("run", "TRAIN.PRINT_FREQ", "1"), "epoch [2/3] batch [1/")
    replace_image(own_data)
    with pytest.raises(UserError, match=r"was started with other test images .*--rerun"):
        runs.run("run", "TRAIN.PRINT_FREQ", "1")
    assert not (runs.folder / "run" / "results.json").exists()


@pytest.mark.slow
def test_a_rerun_on_changed_data_is_a_run_that_never_saw_the_old(runs, own_data):
    runs.run("run")
    replace_image(own_data, "train")
    change_split(own_data)
    again = runs.run("run", rerun=True)
    fresh = runs.run("fresh")
    assert same(learned(runs.folder / "run"), learned(runs.folder / "fresh"))
    assert again["fingerprints"] == fresh["fingerprints"]
    assert again["confusion_matrix"] == fresh["confusion_matrix"]


def test_a_rerun_leaves_what_is_not_the_runs_own(runs):
    runs.run("run", *ONE_EPOCH)
    folder = runs.folder / "run"
    (folder / "notes.txt").write_text("mine")
    (folder / "prompt_learner" / "notes.txt").write_text("mine")
    (folder / "diverged.json").write_text("{}")
    runs.run("run", "OPTIM.MAX_EPOCH", "2", rerun=True)
    assert (folder / "notes.txt").read_text() == (folder / "prompt_learner" / "notes.txt").read_text() == "mine"
    assert not (folder / "diverged.json").exists()
    assert [path.name for path in folder.glob("*/model.pth.tar-*")] == ["model.pth.tar-2"]


def test_an_evaluation_that_is_done_again_keeps_the_parameters_in_its_folder(runs):
    runs.run("run", *ONE_EPOCH)
    before = learned(runs.folder / "run")
    runs.run("run", *ONE_EPOCH, eval_only=True, model_dir=str(runs.folder / "run"), rerun=True)
    assert before
    assert same(before, learned(runs.folder / "run"))


def test_the_same_data_under_another_root_are_the_same_data(runs, own_data, tmp_path, capsys):
    first = runs.run("run", *ONE_EPOCH)
    shutil.copytree(own_data, tmp_path / "elsewhere")
    shutil.rmtree(own_data)
    capsys.readouterr()
    assert runs.run("run", *ONE_EPOCH, data=str(tmp_path / "elsewhere")) == first
    assert "is complete" in capsys.readouterr().out


def test_a_finished_run_stays_complete_when_its_data_are_removed(runs, own_data):
    first = runs.run("run", *ONE_EPOCH)
    shutil.rmtree(own_data / "Phantom")
    assert runs.run("run", *ONE_EPOCH) == first


def test_results_of_an_older_version_that_recorded_less_are_complete(runs, own_data):
    runs.run("run", *ONE_EPOCH)
    path = runs.folder / "run" / "results.json"
    results = json.loads(path.read_text())
    for name in ("images", "test_images"):
        del results["fingerprints"][name]
    path.write_text(json.dumps(results))
    (runs.folder / "run" / "fingerprints.json").unlink()
    replace_image(own_data)
    assert runs.run("run", *ONE_EPOCH) == results


def test_a_finished_run_is_not_taken_for_one_of_other_weights(runs, tmp_path, monkeypatch):
    model = tmp_path / "model"
    shutil.copytree(folder_of("PhantomCLIP"), model)
    runs.run("run", *ONE_EPOCH, backbone=str(model))
    settings = model / "open_clip_config.json"
    content = json.loads(settings.read_text())
    settings.write_text(json.dumps(content | {"model_cfg": content["model_cfg"] | {"custom_text": True}}))
    from ogkd.tuning.backbone import load_backbone

    load_backbone.cache_clear()  # as in another process
    with pytest.raises(UserError, match="was made with other weights of the backbone"):
        runs.run("run", *ONE_EPOCH, backbone=str(model))


def test_a_corrupt_file_of_fingerprints_is_one_sentence(runs):
    killed_at(runs.spec("run", "TRAIN.PRINT_FREQ", "1"), "epoch [2/3] batch [1/")
    (runs.folder / "run" / "fingerprints.json").write_text("[1")
    with pytest.raises(UserError, match=r"fingerprints\.json is corrupt.*--rerun"):
        runs.run("run", "TRAIN.PRINT_FREQ", "1")


# Hashes that are remembered


def test_a_hash_is_remembered_until_the_file_changes(tmp_path, monkeypatch):
    monkeypatch.setattr("ogkd.core.hashes.TOO_RECENT", 0)
    image, store = tmp_path / "a.png", tmp_path / "hashes.json"
    image.write_bytes(b"one")
    first = file_hashes([str(image)], FileMemory(store))
    stored = json.loads(store.read_text())
    stored[str(image)][1] = "remembered"
    store.write_text(json.dumps(stored))
    assert file_hashes([str(image)], FileMemory(store)) == {str(image): "remembered"}
    image.write_bytes(b"two")
    assert file_hashes([str(image)], FileMemory(store)) == {str(image): content_hash(image)} != first


def test_a_file_that_was_just_written_is_read_again(tmp_path):
    image, store = tmp_path / "a.png", tmp_path / "hashes.json"
    image.write_bytes(b"one")
    file_hashes([str(image)], FileMemory(store))
    assert not store.exists()


@pytest.mark.parametrize("content", ["", "[1, 2]", '{"%s": 3}', '{"%s": [[1], 2]}', "\0"])
def test_a_damaged_memory_is_no_memory(tmp_path, content):
    image, store = tmp_path / "a.png", tmp_path / "hashes.json"
    image.write_bytes(b"one")
    store.write_text(content.replace("%s", str(image)))
    assert file_hashes([str(image)], FileMemory(store)) == {str(image): content_hash(image)}


def test_a_missing_image_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match=r"a\.png cannot be read \(No such file or directory\)"):
        file_hashes([str(tmp_path / "a.png")], FileMemory(None))


def test_a_key_that_an_older_version_did_not_write_down_had_its_default(arguments, tmp_path):
    first = train.main(arguments("CoOp"))
    path = tmp_path / "run" / "results.json"
    older = json.loads(path.read_text())
    del older["config"]["FEATURES"]["CROPS"]
    path.write_text(json.dumps(older))
    assert train.main(arguments("CoOp"))["accuracy"] == first["accuracy"]
    with pytest.raises(UserError, match=r"different configuration \(FEATURES.CROPS 0 -> 2\)"):
        train.main(arguments("CoOp", "FEATURES.CROPS", "2"))


def test_blank_images_are_a_warning_of_the_run(runs, own_data):
    assert not [warning for warning in runs.run("sound", *ONE_EPOCH)["warnings"] if "blank" in warning]
    for part in ("train", "test"):
        name = replace_image(own_data, part)
        Image.new("RGB", (64, 64)).save(own_data / "Phantom/Phantom" / name)
    assert any(
        "2 of the images are blank" in one and "check_data.py" in one
        for one in runs.run("blank", *ONE_EPOCH)["warnings"]
    )
