"""Tables of prediction sets, from the runs' own validation images."""

import csv
import io
import shutil

import numpy as np
import pytest

from ogkd.evaluation.predictions import Predictions
from ogkd.evaluation.sets import choose
from tests.report_runs import random_predictions, write_run

CLASSES = ("benign", "malignant")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two seeds with 40 validation images, another method with 4, and a test of novel classes."""
    output, labels = tmp_path_factory.mktemp("runs"), np.arange(60) % 2
    used = {"train": [16, 16], "val": [4, 4], "chosen": ["the best epoch"]}
    for method, seed, number in (("CoOp", 1, 40), ("CoOp", 2, 40), ("OGKD", 1, 4)):
        test = random_predictions(map(str, range(60)), labels, CLASSES, 1.5, [seed, 0])
        folder = write_run(output / method / str(seed), "train_base", method, seed, test, labelled=used)
        held = np.arange(number) % 2 if method == "CoOp" else np.zeros(number, int)
        random_predictions(map(str, range(number)), held, CLASSES, 1.5, [seed, 1]).save(folder / "val_predictions.npz")
    write_run(output / "novel", "test_new", "CoOp", 1, test)
    return output


def test_coverage_and_size_are_means_over_seeds_with_thresholds_of_each_run(runs, parse):
    done = parse(runs, "--table", "sets", "--coverage", "0.8", "--sets", "LAC", "APS", "--format", "csv")
    assert done.returncode == 0, done.stderr
    rows = {row["table"]: row for row in csv.DictReader(io.StringIO(done.stdout)) if row["method"] == "CoOp"}
    for score in ("LAC", "APS"):
        hits, sizes = [], []
        for seed in "12":
            validation, test = (
                Predictions.load(runs / "CoOp" / seed / f"{part}predictions.npz") for part in ("val_", "")
            )
            inside = choose(validation, 0.8, score).sets(test.probabilities)
            hits.append(inside[np.arange(60), test.labels])
            sizes.append(inside.sum(1))
        row, of_class = (
            rows[f"phantom base, {score} sets of 80 %"],
            rows[f"phantom base, {score} sets of 80 %: each class"],
        )
        assert float(row["coverage, % mean"]) == pytest.approx(100 * np.mean(hits), abs=1e-3)
        assert float(row["coverage, % population std"]) == pytest.approx(100 * np.mean(hits, 1).std(), abs=1e-3)
        assert float(row["classes per set mean"]) == pytest.approx(np.mean(sizes), abs=1e-3)
        assert float(of_class["malignant mean"]) == pytest.approx(100 * np.mean(np.array(hits)[:, 1::2]), abs=1e-3)
    assert "novel classes have no validation images" in done.stderr.lower()


def test_runs_with_too_few_validation_images_are_dashes_and_the_reasons_are_footnotes(runs, parse):
    done = parse(runs, "--table", "sets", "--intervals", "--coverage", "0.9")
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("| OGKD")][:1]
    assert line.count("–") == 5 and "[" in done.stdout
    assert "at least 9, but there are 4" in done.stdout and "With 40 validation images" in done.stdout
    (chosen,) = [line for line in done.stdout.splitlines() if "were used to choose the best epoch" in line]
    assert chosen.startswith("CoOp, base: ") and chosen.endswith("(seeds 1, 2).")
    per_class = parse(runs, "--table", "sets", "--sets", "lac", "--per-class", "--coverage", "0.8").stdout
    assert "each class needs at least 4, but malignant has 0" in per_class
    assert parse(runs, "--table", "sets", "--coverage", "8").returncode == 2


def test_a_seed_without_validation_images_is_named_and_not_among_the_seeds_of_the_mean(runs, parse, tmp_path):
    copy = shutil.copytree(runs, tmp_path / "runs")
    (copy / "CoOp" / "2" / "val_predictions.npz").unlink()
    for more in ([], ["--intervals"]):
        text = parse(copy, "--table", "sets", "--method", "CoOp", *more).stdout
        assert "CoOp, base: no predictions of validation images are stored (seed 2)." in text
        assert "Seed 1; 16 shots" in text and "1-2" not in text


def test_a_reason_that_several_methods_share_is_said_once(runs, parse, tmp_path):
    copy = shutil.copytree(runs, tmp_path / "runs")
    for folder in ("CoOp/1", "CoOp/2", "OGKD/1"):
        (copy / folder / "val_predictions.npz").unlink()
    text = parse(copy, "--table", "sets").stdout
    (line,) = [line for line in text.splitlines() if "no predictions of validation images are stored" in line]
    assert "CoOp" in line and "OGKD" in line
