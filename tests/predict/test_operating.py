"""Thresholds and prediction sets from validation images: from the run to the exported prompt to an answer."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from dassl.config import get_cfg_default
from dassl.data.datasets import build_dataset
from ogkd.core import read_json
from ogkd.evaluation.clinical import achieved
from ogkd.evaluation.predictions import Predictions
from ogkd.predict.export import export, load_prompt
from ogkd.predict.operating import Wish
from ogkd.runs.config import extend_config
from ogkd.runs.execute import execute
from ogkd.runs.spec import RunSpec
from tests.support.pictures import phantom_scans

CLASSES = ("nodular opacity", "smooth mass")
WANTED = ("--sensitivity", "0.9", "--for", "nodular opacity")


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Path:
    """60 images of each of two classes, of which 12 are for validation."""
    return phantom_scans(tmp_path_factory.mktemp("own"), CLASSES, seed=3, count=60, file="{number}.png")


@pytest.fixture(scope="module")
def run(tmp_path_factory, own, cache):
    def of(*pairs: str) -> Path:
        folder = tmp_path_factory.mktemp("runs") / "run"
        short = ("FEATURES.CACHE_DIR", str(cache), "DATALOADER.NUM_WORKERS", "0", "OPTIM.MAX_EPOCH", "1")
        execute(RunSpec("CoOp", str(folder), "scans", shots=2, seed=1, backbone="PhantomCLIP", data=str(own),
                        pairs=(*short, *pairs)))  # fmt: skip
        return folder

    return of


@pytest.fixture(scope="module")
def finished(run) -> Path:
    return run()


@pytest.fixture(scope="module")
def exported(finished, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    export(finished, folder, Wish("nodular opacity", "sensitivity", 0.8))
    return folder


def test_own_images_are_calibrated_on_all_labelled_validation_images_and_the_text_says_so(finished, run):
    results, validation = read_json(finished / "results.json"), Predictions.load(finished / "val_predictions.npz")
    assert results["calibration"] == {"images": 24, "drawn": 4}
    assert np.bincount(validation.labels).tolist() == [12, 12]
    assert (
        "all 24 labelled validation images of the split, of which the run drew 4" in (finished / "log.txt").read_text()
    )
    drawn = run("TEST.CALIBRATE_ON", "drawn")
    few = Predictions.load(drawn / "val_predictions.npz")
    assert len(few) == 4 and set(few.images) < set(validation.images)
    again = Predictions.load(drawn / "predictions.npz")
    assert (again.logits == Predictions.load(finished / "predictions.npz").logits).all()  # the prompt is the same


def test_published_sets_keep_the_drawn_validation_images(data):
    cfg = get_cfg_default()
    extend_config(cfg)
    cfg.DATASET.ROOT, cfg.DATASET.NAME, cfg.DATASET.NUM_SHOTS, cfg.SEED = str(data), "Phantom", 1, 1
    assert build_dataset(cfg).calibration is None
    cfg.TEST.CALIBRATE_ON = "all"
    assert len(build_dataset(cfg).calibration) == 12 * 4


@pytest.mark.parametrize("source", ["finished", "exported"])
def test_the_answer_is_positive_from_the_threshold_on(request, source, finished, own, command, tmp_path):
    place, tested = request.getfixturevalue(source), Predictions.load(finished / "predictions.npz")
    images = [str(own / "scans" / image) for image in tested.images]
    done = command(
        ["predict.py", str(place), *images, *WANTED, "--prevalence", "0.05", "--csv", str(tmp_path / "a.csv")]
    )
    assert done.returncode == 0, done.stderr
    point = load_prompt(place).operating_point("nodular opacity", "sensitivity", 0.9)
    assert point.test == achieved(tested, "nodular opacity", point.threshold)
    with (tmp_path / "a.csv").open(newline="") as file:
        answers = [row["decision"] == "positive" for row in csv.DictReader(file)]
    assert answers == (tested.probabilities[:, 0] >= point.threshold).tolist()
    assert 0 < sum(answers) < len(answers)
    assert "sensitivity of 90 %" in done.stderr and "12 images" in done.stderr
    assert "Where 5 % have nodular opacity" in done.stderr and "PPV" in done.stderr


def test_an_exported_prompt_has_the_usual_thresholds_and_the_wanted_one(exported, finished, command):
    points = read_json(exported / "config.json")["operating_points"]
    assert {(one["wanted"], one["level"]) for one in points} == {
        ("sensitivity", 0.8), ("sensitivity", 0.9), ("specificity", 0.9),
    }  # fmt: skip
    card = (exported / "README.md").read_text()
    assert "| nodular opacity | sensitivity 80 % |" in card
    assert "all 24 labelled validation images" in card and "AUC" in card
    assert load_prompt(exported).operating_point("smooth mass", "specificity", 0.9)
    done = command(["predict.py", str(exported), "a.png", "--sensitivity", "0.97", "--for", "smooth mass"])
    assert done.returncode == 2 and "--sensitivity 0.8 --for 'nodular opacity'" in done.stderr
    done = command(["predict.py", str(exported), "a.png", "--coverage", "0.93"])
    assert done.returncode == 2 and "only with 0.8, 0.9 and 0.95" in done.stderr and "at least 14" in done.stderr
    assert "between 0 and 1" in command(["predict.py", str(exported), "a.png", "--coverage", "1"]).stderr
    assert "### Prediction sets" in card and "| 90 % | LAC | each class |" in card


@pytest.mark.parametrize(
    ("source", "more"), [("exported", ()), ("finished", ("--sets", "APS")), ("exported", ("--per-class",))]
)
def test_answers_are_the_sets_that_the_test_images_of_the_run_get(
    request, source, more, finished, own, command, tmp_path
):
    place, tested = request.getfixturevalue(source), Predictions.load(finished / "predictions.npz")
    images = [str(own / "scans" / image) for image in tested.images]
    words = ["predict.py", str(place), *images, "--coverage", "0.9", *more]
    done = command([*words, "--csv", str(tmp_path / "a.csv")])
    assert done.returncode == 0, done.stderr
    score = "APS" if "APS" in more else "LAC"
    rule = load_prompt(place).set_rule(0.9, score, "--per-class" in more)
    expected = rule.sets(tested.probabilities)
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    answers = [[name in row["decision"].split("; ") for name in tested.classnames] for row in rows]
    assert answers == expected.tolist()
    assert [int(row["classes in the set"]) for row in rows] == expected.sum(1).tolist()
    assert rule.test.coverage.value == pytest.approx(100 * np.mean(expected[np.arange(len(rows)), tested.labels]))
    assert f"in at least 90 % of new images{' of each class' * rule.per_class}" in done.stderr
    assert "the validation images (24 images" in done.stderr and "On the test images" in done.stderr
    printed = command([*words[:2], images[0], "--coverage", "0.9", *more]).stdout
    assert printed.startswith(f"{images[0]}: {{{rows[0]['decision']}}} (")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--coverage", "0.99"), "at least 99, but there are 24"),
        (("--coverage", "0.95", "--per-class"), "each class needs at least 19, but nodular opacity has 12"),
        (("--coverage", "90"), "between 0 and 1"),
        (("--sets", "APS"), "--coverage 0.9"),
        (("--coverage", "0.9", "--abstain", "0.5"), "--abstain"),
        (("--coverage", "0.9", "--classes", "a, b"), "--classes"),
        (("--coverage", "0.9", "--for", "smooth mass"), "--for"),
        (("--coverage", "0.9", "--sensitivity", "0.9"), "not allowed"),
        (("--sensitivity", "0.95", "--for", "smooth mass"), "at least 19 of smooth mass, but there are 12"),
        (("--sensitivity", "0.9", "--for", "smoth mass"), "did you mean"),
        (("--sensitivity", "90", "--for", "smooth mass"), "between 0 and 1"),
        (("--sensitivity", "0.9"), "--for"),
        (("--for", "smooth mass"), "--sensitivity"),
        (("--prevalence", "0.1"), "--for"),
        ((*WANTED, "--prevalence", "5"), "0.02"),
        ((*WANTED, "--abstain", "0.5"), "--abstain"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(finished, command, words, says):
    done = command(["predict.py", str(finished), "a.png", *words])
    assert done.returncode == 2 and says in done.stderr and "Traceback" not in done.stderr
