"""`ogkd corrupt`: a trained prompt on corrupted test images, stored by kind and level."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import balanced_accuracy_score

from ogkd.core import read_json, write_json
from ogkd.data.corruptions import corrupted, recipe_for
from ogkd.evaluation.corrupted import path_of, read
from ogkd.evaluation.predictions import Predictions
from ogkd.predict.predictor import Predictor
from ogkd.predict.trained import from_run
from tests.support.check_method import SmallRuns
from tests.support.tables import line_of

SHORT = ("--kinds", "speckle_noise", "contrast_down", "--levels", "1,5")


@pytest.fixture(scope="module")
def finished(tmp_path_factory, data, cache) -> Path:
    runs = SmallRuns("CoOp", tmp_path_factory.mktemp("CoOp"), data, cache)
    runs.run("run")
    return runs.folder / "run"


@pytest.fixture
def run(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "run", ignore=shutil.ignore_patterns("corruptions")))


def corrupt(command, run: Path, *words: str):
    return command(["ogkd.cli.corrupt", str(run), *words])


def test_the_stored_answers_are_those_for_the_corrupted_images_whatever_the_batch(run, command, data):
    done = corrupt(command, run, *SHORT, "--batch", "7")
    assert done.returncode == 0, done.stderr
    assert "48 images x 2 kinds x 2 levels: 192 images to test, in about" in done.stdout
    tested, predictor = Predictions.load(run / "predictions.npz"), Predictor(from_run(run))
    recipe, folder = recipe_for("synthetic ultrasound"), data / "Phantom" / "Phantom"
    for kind, level in (("speckle_noise", 5), ("contrast_down", 1)):
        views = [predictor.view(Image.open(folder / name).convert("RGB")) for name in tested.images]
        worse = [corrupted(view, name, kind, level, recipe) for name, view in zip(tested.images, views, strict=True)]
        stored = Predictions.load(path_of(run, kind, level))
        assert (stored.images, stored.classnames) == (tested.images, tested.classnames)
        np.testing.assert_allclose(stored.logits, predictor.of_views(worse), rtol=1e-4, atol=1e-3)
    at = [
        100 - 100 * balanced_accuracy_score(tested.labels, Predictions.load(path_of(run, "speckle_noise", n)).predicted)
        for n in (1, 5)
    ]
    cells = line_of(done.stdout, "speckle noise")
    assert cells[:2] == [f"{value:.2f}" for value in at] and cells[2].startswith(f"{np.mean(at):.2f} [")
    clean = 100 - 100 * balanced_accuracy_score(tested.labels, tested.predicted)
    assert cells[3].startswith(f"{np.mean(at) - clean:.2f} [") and line_of(done.stdout, "clean")[2] == f"{clean:.2f}"


def test_a_run_that_is_not_finished_is_no_corrupt_file(run, command):
    (run / "results.json").unlink()
    refused = corrupt(command, run, *SHORT)
    assert refused.returncode == 2 and "finished run" in refused.stderr and "corrupt (" not in refused.stderr


def test_a_test_that_was_stopped_goes_on_and_other_settings_need_rerun(run, command):
    assert corrupt(command, run, *SHORT).returncode == 0
    files = {path: path.read_bytes() for path in (run / "corruptions").glob("*/*.npz")}
    assert len(files) == 4
    gone, *others = files
    gone.unlink()
    before = [path.stat().st_mtime_ns for path in others]
    done = corrupt(command, run, *SHORT)
    assert "48 images to test" in done.stdout and gone.read_bytes() == files[gone]
    assert [path.stat().st_mtime_ns for path in others] == before
    assert "all are stored" in corrupt(command, run, *SHORT).stdout
    assert corrupt(command, run, "--kinds", "contrast_down", "--levels", "1", "--rerun").returncode == 0
    assert len(read(run).kinds) == 2 and sum(path.stat().st_mtime_ns in before for path in others) >= 2
    for words in (("--seed", "3"), ("--modality", "CT")):
        refused = corrupt(command, run, "--kinds", "contrast_down", *words)
        assert refused.returncode == 2 and "--rerun" in refused.stderr and words[0][2:] in refused.stderr
        assert "to test" not in refused.stdout
    again = corrupt(command, run, "--kinds", "speckle_noise", "--levels", "5", "--seed", "3", "--rerun")
    assert again.returncode == 0 and read_json(run / "corruptions" / "settings.json")["seed"] == 3
    assert list(read(run).kinds) == ["speckle_noise"]


def test_a_run_that_was_tested_again_is_corrupted_again(run, command, parse_tables):
    assert corrupt(command, run, *SHORT).returncode == 0
    tested = Predictions.load(run / "predictions.npz")
    Predictions(tested.images, tested.labels, tested.logits * 1.01, tested.classnames).save(run / "predictions.npz")
    done = parse_tables(run, "--table", "corruptions")
    assert done.returncode == 2 and "tested again" in done.stderr


@pytest.fixture
def parse_tables(command):
    return lambda folder, *words: command(["parse_test_res.py", str(folder), *words])


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--kinds", "speckle"), "did you mean"),
        (("--kinds", "bubble"), "corruptions of ultrasound have no 'bubble'"),
        (("--levels", "0-5"), "within 1 to 5"),
        (("--levels", "x"), "--levels must be a whole number or a range"),
        (("--modality", "doctor"), "one of dermatoscopy"),
        (("--images", "{folder}"), "48 test images of"),
        (("--images", "{folder}/none"), "--images FOLDER"),
        (("--batch", "-1"), "--batch"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(run, command, tmp_path, words, says):
    done = corrupt(command, run, *(word.format(folder=tmp_path) for word in words))
    assert done.returncode == 2 and says in done.stderr and "Traceback" not in done.stderr
    assert not (run / "corruptions").exists()


def test_images_that_have_changed_since_the_test_are_refused(run, command, data, tmp_path):
    shutil.copytree(data / "Phantom" / "Phantom", tmp_path / "images")
    for path in (tmp_path / "images").rglob("*.png"):
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path)
    done = corrupt(command, run, "--images", str(tmp_path / "images"))
    assert done.returncode == 2 and "changed since" in done.stderr


def test_own_images_need_a_modality(run, command):
    results = read_json(run / "results.json")
    results["config"]["DATASET"]["FOLDER"] = "scans"
    write_json(results, run / "results.json")
    done = corrupt(command, run)
    assert done.returncode == 2 and "--modality, one of dermatoscopy" in done.stderr


def test_a_picture_shows_every_kind_and_level(run, command, tmp_path):
    done = corrupt(command, run, "--show", str(tmp_path / "sheet.png"))
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > 6 * 160 and sheet.height >= 7 * 160
    assert not (run / "corruptions").exists()
