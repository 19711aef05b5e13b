"""Tables of runs that were tested on corrupted images: MedMNIST-C's measures, from stored predictions."""

import csv
import io
import shutil

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from ogkd.core import write_json
from ogkd.evaluation.corrupted import FOLDER, SETTINGS, path_of, predictions_hash
from ogkd.evaluation.predictions import Predictions
from ogkd.evaluation.sets import choose
from ogkd.reports.page import write
from tests.report_runs import random_predictions, write_run
from tests.support.tables import line_of

CLASSES, SKILL = ("benign", "malignant", "normal"), {"ZeroShot": 1.0, "CoOp": 2.0}
LEVELS = {"gaussian_noise": 0.8, "motion_blur": 0.3}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Zero-shot and two seeds of CoOp, worse on corrupted images; and what their errors are."""
    output, errors = tmp_path_factory.mktemp("runs"), {}
    labels = np.random.default_rng(0).choice(3, 120, p=[0.6, 0.3, 0.1])
    images = [f"{number}.png" for number in range(120)]

    def error(one) -> float:
        return 100 - 100 * balanced_accuracy_score(labels, one.predicted)

    for method, seed in (("ZeroShot", 1), ("CoOp", 1), ("CoOp", 2)):
        clean = random_predictions(images, labels, CLASSES, SKILL[method], seed)
        folder = write_run(output / method / str(seed), "few_shot", method, seed, clean)
        write_json({"modality": "CT", "seed": 0, "size": [8, 8], "predictions": predictions_hash(folder)},
                   _made(folder / FOLDER) / SETTINGS)  # fmt: skip
        errors[method, seed] = {"clean": error(clean)}
        for kind, left in LEVELS.items():
            for level in (1, 3):
                worse = random_predictions(images, labels, CLASSES, SKILL[method] * left / level, seed)
                worse.save(path_of(folder, kind, level))
                errors[method, seed].setdefault(kind, []).append(error(worse))
        if method == "CoOp":
            random_predictions(images[:40], labels[:40], CLASSES, 2.0, [seed, 7]).save(folder / "val_predictions.npz")
    write_run(output / "OGKD", "few_shot", "OGKD", 1, clean)
    return output, errors


def _made(folder):
    folder.mkdir(parents=True)
    return folder


def test_errors_and_drops_are_means_over_kinds_levels_and_seeds_and_relative_to_zero_shot(runs, parse):
    output, errors = runs
    done = parse(output, "--table", "corruptions", "--format", "csv")
    assert done.returncode == 0, done.stderr
    rows = {row["row"]: row for row in csv.DictReader(io.StringIO(done.stdout)) if row["clean error, % mean"]}
    assert list(rows) == ["Zero-shot", "CoOp"]  # what was not tested is left out
    kinds = {
        method: {kind: np.mean([of[kind] for (name, _), of in errors.items() if name == method]) for kind in LEVELS}
        for method in SKILL
    }
    clean = {method: np.mean([of["clean"] for (name, _), of in errors.items() if name == method]) for method in SKILL}
    row = {
        name: float(value) for name, value in rows["CoOp"].items() if name.endswith(("mean", "low", "high")) and value
    }
    mean = np.mean(list(kinds["CoOp"].values()))
    assert row["clean error, % mean"] == pytest.approx(clean["CoOp"], abs=1e-3)
    assert row["error, % mean"] == pytest.approx(mean, abs=1e-3)
    assert row["drop, points mean"] == pytest.approx(mean - clean["CoOp"], abs=1e-3)
    assert row["error, % low"] < mean < row["error, % high"]
    relative = [100 * kinds["CoOp"][kind] / kinds["ZeroShot"][kind] for kind in LEVELS]
    drops = [
        100 * (kinds["CoOp"][kind] - clean["CoOp"]) / (kinds["ZeroShot"][kind] - clean["ZeroShot"]) for kind in LEVELS
    ]
    assert row["relative error, % mean"] == pytest.approx(np.mean(relative), abs=1e-3)
    assert row["relative drop, % mean"] == pytest.approx(np.mean(drops), abs=1e-3)


def test_the_coverage_of_sets_by_clean_validation_images_is_that_on_corrupted_ones(runs, parse):
    output, _ = runs
    hits = []
    for seed in "12":
        folder = output / "CoOp" / seed
        rule = choose(Predictions.load(folder / "val_predictions.npz"), 0.9)
        for path in folder.glob("corruptions/*/*.npz"):
            worse = Predictions.load(path)
            hits.append(rule.sets(worse.probabilities)[np.arange(120), worse.labels].mean())
    text = parse(output, "--table", "corruptions").stdout
    line = next(line for line in text.splitlines() if line.startswith("| CoOp"))
    assert f" {100 * np.mean(hits):.2f} " in line
    line = next(line for line in text.splitlines() if line.startswith("| Zero-shot"))
    assert line.count("–") == 2  # it has no validation images


def test_each_method_has_a_row_per_kind_with_its_levels(runs, parse):
    output, errors = runs
    text = parse(output, "--table", "corruptions", "--method", "ZeroShot").stdout
    (line,) = [line for line in text.splitlines() if line.startswith("| motion blur")]
    at = errors["ZeroShot", 1]["motion_blur"]
    assert [cell.strip() for cell in line.split("|")[2:4]] == [f"{value:.2f}" for value in at]
    assert f"{np.mean(at):.2f} [" in line and "level 3" in text and "relative" not in text


def test_a_folder_without_such_tests_names_the_command(runs, parse):
    done = parse(runs[0] / "OGKD", "--table", "corruptions")
    assert done.returncode == 2 and "corrupt" in done.stderr


def test_the_page_draws_errors_over_levels_and_shows_prediction_sets(runs, tmp_path):
    copy = shutil.copytree(runs[0], tmp_path / "runs")
    (copy / "ZeroShot" / "1" / FOLDER / SETTINGS).write_text("{")
    page = write(copy, tmp_path / "page.html").read_text()
    assert "What if the images are worse?" in page and "motion blur" in page
    assert "Prediction sets" in page and "90 % of all images" in page
    assert "Could not be read" in page


def test_a_kind_with_more_levels_counts_no_more_than_the_others_in_the_mean_over_kinds(runs, parse, tmp_path):
    run = shutil.copytree(runs[0] / "CoOp" / "1", tmp_path / "run")
    before = parse(run, "--table", "corruptions").stdout
    shutil.copy(path_of(run, "gaussian_noise", 3), path_of(run, "gaussian_noise", 5))
    after = parse(run, "--table", "corruptions").stdout
    of = [line_of(text, "CoOp") for text in (before, after)]
    assert of[0] == of[1] and "levels 1 and 3; the drop" in after
    assert "mean over kinds is over levels 1 and 3" in after and "not comparable" not in after
