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

CLASSES, SKILL = ("benign", "malignant", "normal"), {"ZeroShot": 1.0, "CoOp": 2.0}
LEVELS = {"gaussian_noise": 0.8, "motion_blur": 0.3}


def corrupted_run(folder, method, seed, skill, levels, number=60):
    """A run of so many images with a skill on clean ones, and with those of `levels` by kind and level; returns its
    balanced errors."""
    labels = np.random.default_rng(0).choice(3, number, p=[0.6, 0.3, 0.1])
    images = [f"{place}.png" for place in range(number)]

    def error(one) -> float:
        return 100 - 100 * balanced_accuracy_score(labels, one.predicted)

    clean = random_predictions(images, labels, CLASSES, skill, seed)
    run = write_run(folder, "few_shot", method, seed, clean)
    errors = {"clean": [error(clean)]}
    for kind, of_kind in levels.items():
        for level, left in of_kind.items():
            worse = random_predictions(images, labels, CLASSES, left, [seed, level])
            worse.save(path_of(run, kind, level))
            errors.setdefault(kind, []).append(error(worse))
    settings = {"modality": "CT", "seed": 0, "size": [8, 8], "predictions": predictions_hash(run)}
    write_json(settings, run / FOLDER / SETTINGS)
    return errors


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Zero-shot and two seeds of CoOp, worse on corrupted images; and what their errors are."""
    output, errors = tmp_path_factory.mktemp("runs"), {}
    for method, seed in (("ZeroShot", 1), ("CoOp", 1), ("CoOp", 2)):
        levels = {kind: {level: SKILL[method] * left / level for level in (1, 3)} for kind, left in LEVELS.items()}
        folder = output / method / str(seed)
        errors[method, seed] = corrupted_run(folder, method, seed, SKILL[method], levels, 120)
        if method == "CoOp":
            clean = Predictions.load(folder / "predictions.npz")
            random_predictions(clean.images[:40], clean.labels[:40], CLASSES, 2.0, [seed, 7]).save(
                folder / "val_predictions.npz"
            )
    write_run(output / "OGKD", "few_shot", "OGKD", 1, clean)
    return output, errors


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


def test_zero_shot_that_is_better_on_corrupted_images_leaves_the_relative_drop_empty(tmp_path, parse):
    corrupted_run(tmp_path / "ZeroShot", "ZeroShot", 1, 0.0, {"gaussian_noise": {1: 3.0}})
    corrupted_run(tmp_path / "CoOp", "CoOp", 1, 2.0, {"gaussian_noise": {1: 1.0}})
    for form in ("markdown", "csv", "latex"):
        done = parse(tmp_path, "--table", "corruptions", "--format", form)
        assert done.returncode == 0, done.stderr
    done = parse(tmp_path, "--table", "corruptions", "--format", "csv")
    row = next(row for row in csv.DictReader(io.StringIO(done.stdout)) if row["row"] == "CoOp")
    assert row["relative error, % mean"] and not row["relative drop, % mean"]


def test_kinds_count_alike_whatever_their_number_of_levels(tmp_path, parse):
    levels = {"gaussian_noise": {1: 1.0, 3: 0.5, 5: 0.1}, "motion_blur": {1: 2.0, 2: 1.0}}
    for method in ("ZeroShot", "CoOp"):
        corrupted_run(tmp_path / method, method, 1, 2.0 if method == "CoOp" else 1.5, levels)
    done = parse(tmp_path, "--table", "corruptions", "--format", "csv", "--method", "CoOp")
    rows = {row["row"]: row for row in csv.DictReader(io.StringIO(done.stdout))}
    of_kinds = [float(rows[kind]["mean mean"]) for kind in ("gaussian noise", "motion blur")]
    assert float(rows["CoOp"]["error, % mean"]) == pytest.approx(np.mean(of_kinds), abs=1e-3)
    assert float(rows["mean over kinds"]["mean mean"]) == pytest.approx(np.mean(of_kinds), abs=1e-3)
    text = parse(tmp_path, "--table", "corruptions").stdout
    assert "relative error" in text and "not comparable" not in text  # both methods have these levels


def test_a_seed_that_was_tested_on_other_kinds_is_left_out_and_counted(tmp_path, parse):
    for seed, kind in ((1, "gaussian_noise"), (2, "motion_blur")):
        corrupted_run(tmp_path / str(seed), "CoOp", seed, 2.0, {kind: {1: 1.0}})
    done = parse(tmp_path, "--table", "corruptions")
    assert done.returncode == 0, done.stderr
    assert "gaussian noise" in done.stdout and "CoOp: 1 of 2 seeds left out" in done.stdout
    assert "Seed 1;" in done.stdout


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
