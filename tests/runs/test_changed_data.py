"""A run is reused or resumed only with the data, sentences and weights that it was begun with."""

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from ogkd.core import UserError
from ogkd.core.hashes import FileMemory, content_hash, file_hashes
from ogkd.models import folder_of
from ogkd.phantom.dataset import write_dataset
from ogkd.tuning.backbone import load_backbone
from tests.conftest import ROOT
from tests.support.check_method import SmallRuns, same
from tests.support.runs import killed_at, learned

ONE_EPOCH = ("OPTIM.MAX_EPOCH", "1")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, cache) -> Path:
    """A small Phantom data set in data/, and in runs/run a finished run on it."""
    place = tmp_path_factory.mktemp("finished")
    write_dataset(place / "data" / "Phantom", counts={"train": 3, "val": 2, "test": 2})
    SmallRuns("CoOp", place / "runs", place / "data", cache).run("run", *ONE_EPOCH)
    return place


@pytest.fixture
def runs(finished, tmp_path, cache) -> SmallRuns:
    """Runs on data that the test may change, of which "run" is finished."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    return SmallRuns("CoOp", tmp_path / "runs", tmp_path / "data", cache)


@pytest.fixture
def bank(tmp_path) -> Path:
    """A folder with the teacher's sentences on Phantom, two per class, that the test may change."""
    sentences = json.loads((ROOT / "ogkd" / "prompts" / "Phantom.json").read_text())
    (tmp_path / "bank").mkdir()
    path = tmp_path / "bank" / "Phantom.json"
    path.write_text(json.dumps({name: of_class[:2] for name, of_class in sentences.items()}))
    return path


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


@pytest.mark.parametrize(
    ("change", "words"),
    [(replace_image, r"other test images \(1 of 24 images, the first is {name}\)"), (change_split, "another split")],
)
def test_a_finished_run_is_not_taken_for_one_of_data_that_have_changed(runs, change, words):
    name = change(runs.data)
    with pytest.raises(UserError, match=f"was made with {words.format(name=name)}"):
        runs.run("run", *ONE_EPOCH)


@pytest.mark.parametrize("method", ["OGKD", "ZeroShotEnsemble"])
def test_a_finished_run_is_not_taken_for_one_of_sentences_that_have_changed(tmp_path, data, cache, bank, method):
    runs, option = SmallRuns(method, tmp_path / "runs", data, cache), f"TRAINER.{method.upper()}.PROMPT_BANK"
    pairs = (*ONE_EPOCH, option, str(bank.parent))
    before = runs.run("run", *pairs)
    content = bank.read_text()
    bank.write_text(json.dumps(json.loads(content), indent=4))  # the same sentences, written in another way
    assert runs.run("run", *pairs) == before
    test = {"eval_only": True, "model_dir": str(runs.folder / "run")}  # of a prompt, which these sentences taught
    tested = runs.run("tested", *pairs, **test) if method == "OGKD" else None
    name = change_sentence(bank)
    words = rf"was made with other teacher sentences \(1 of 12 classes, the first is {name}\).*--rerun"
    with pytest.raises(UserError, match=words):
        runs.run("run", *pairs)
    if tested:
        assert runs.run("tested", *pairs, **test) == tested
    after = runs.run("run", *pairs, rerun=True)
    assert after["fingerprints"]["sentences"] != before["fingerprints"]["sentences"]
    assert runs.run("run", *pairs) == after


def test_a_finished_run_is_not_taken_for_one_of_another_draw_and_knows_its_own_if_it_is_older(runs):
    with pytest.raises(UserError, match=r"DATASET\.DRAW 'balanced' -> 'proportional'"):
        runs.run("run", *ONE_EPOCH, "DATASET.DRAW", "proportional")
    path = runs.folder / "run" / "results.json"
    results = json.loads(path.read_text())
    del results["draw"], results["config"]["DATASET"]["DRAW"]
    path.write_text(json.dumps(results))
    assert runs.run("run", *ONE_EPOCH)["accuracy"] == results["accuracy"]
    with pytest.raises(UserError, match="all images are taken"):
        runs.run("all", *ONE_EPOCH, "DATASET.DRAW", "proportional", shots=-1)


def test_a_run_that_was_killed_is_not_resumed_on_images_that_were_replaced(runs):
    killed_at(runs.spec("killed", "TRAIN.PRINT_FREQ", "1"), "epoch [2/2] batch [1/")
    replace_image(runs.data)
    with pytest.raises(UserError, match=r"was started with other test images .*--rerun"):
        runs.run("killed", "TRAIN.PRINT_FREQ", "1")
    assert not (runs.folder / "killed" / "results.json").exists()
    (runs.folder / "killed" / "fingerprints.json").write_text("[1")
    with pytest.raises(UserError, match=r"fingerprints\.json is corrupt.*--rerun"):
        runs.run("killed", "TRAIN.PRINT_FREQ", "1")


@pytest.mark.slow
def test_a_rerun_on_changed_data_is_a_run_that_never_saw_the_old(runs):
    replace_image(runs.data, "train")
    change_split(runs.data)
    again = runs.run("run", rerun=True)
    fresh = runs.run("fresh")
    assert same(learned(runs.folder / "run"), learned(runs.folder / "fresh"))
    assert again["fingerprints"] == fresh["fingerprints"]
    assert again["confusion_matrix"] == fresh["confusion_matrix"]


def test_a_rerun_leaves_what_is_not_the_runs_own(runs):
    folder = runs.folder / "run"
    (folder / "notes.txt").write_text("mine")
    (folder / "prompt_learner" / "notes.txt").write_text("mine")
    (folder / "diverged.json").write_text("{}")
    runs.run("run", "OPTIM.MAX_EPOCH", "2", rerun=True)
    assert (folder / "notes.txt").read_text() == (folder / "prompt_learner" / "notes.txt").read_text() == "mine"
    assert not (folder / "diverged.json").exists()
    assert [path.name for path in folder.glob("*/model.pth.tar-*")] == ["model.pth.tar-2"]


def test_an_evaluation_that_is_done_again_keeps_the_parameters_in_its_folder(runs):
    before = learned(runs.folder / "run")
    runs.run("run", *ONE_EPOCH, eval_only=True, model_dir=str(runs.folder / "run"), rerun=True)
    assert before
    assert same(before, learned(runs.folder / "run"))


def test_a_finished_run_stays_complete_when_its_data_are_moved_or_removed(runs, tmp_path, capsys):
    first = json.loads((runs.folder / "run" / "results.json").read_text())
    runs.data.rename(tmp_path / "elsewhere")
    for place in ("elsewhere", "nowhere"):
        assert runs.run("run", *ONE_EPOCH, data=str(tmp_path / place)) == first
        assert "is complete" in capsys.readouterr().out


def test_results_of_an_older_version_that_recorded_less_are_complete(runs):
    path = runs.folder / "run" / "results.json"
    results = json.loads(path.read_text())
    for name in ("images", "test_images"):
        del results["fingerprints"][name]
    del results["config"]["FEATURES"]["CROPS"]  # a key that was not written down had its default
    path.write_text(json.dumps(results))
    (runs.folder / "run" / "fingerprints.json").unlink()
    replace_image(runs.data)
    assert runs.run("run", *ONE_EPOCH) == results
    with pytest.raises(UserError, match=r"different configuration \(FEATURES.CROPS 0 -> 2\)"):
        runs.run("run", *ONE_EPOCH, "FEATURES.CROPS", "2")


def test_a_finished_run_is_not_taken_for_one_of_other_weights(runs, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(folder_of("PhantomCLIP"), model)
    runs.run("own", *ONE_EPOCH, backbone=str(model))
    settings = model / "open_clip_config.json"
    content = json.loads(settings.read_text())
    settings.write_text(json.dumps(content | {"model_cfg": content["model_cfg"] | {"custom_text": True}}))
    load_backbone.cache_clear()  # as in another process
    with pytest.raises(UserError, match="was made with other weights of the backbone"):
        runs.run("own", *ONE_EPOCH, backbone=str(model))


def test_blank_images_are_a_warning_of_the_run(runs):
    assert not [one for one in runs.run("run", *ONE_EPOCH)["warnings"] if "blank" in one]
    for part in ("train", "test"):
        name = replace_image(runs.data, part)
        Image.new("RGB", (64, 64)).save(runs.data / "Phantom/Phantom" / name)
    warnings = runs.run("blank", *ONE_EPOCH)["warnings"]
    assert any("2 of the images are blank" in one and "check_data.py" in one for one in warnings)


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


@pytest.mark.parametrize("content", ["", '{"%s": 3}', '{"%s": [[1], 2]}'])
def test_a_damaged_memory_is_no_memory(tmp_path, content):
    image, store = tmp_path / "a.png", tmp_path / "hashes.json"
    image.write_bytes(b"one")
    store.write_text(content.replace("%s", str(image)))
    assert file_hashes([str(image)], FileMemory(store)) == {str(image): content_hash(image)}


def test_a_missing_image_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match=r"a\.png cannot be read \(No such file or directory\)"):
        file_hashes([str(tmp_path / "a.png")], FileMemory(None))
