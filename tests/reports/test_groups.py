"""Tables by draw, and by group of the images."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ogkd.evaluation.predictions import Predictions
from ogkd.reports.page import write
from ogkd.reports.recompute import recompute
from tests import report_runs
from tests.support.tables import line_of, rows_of, write_run


def test_runs_of_another_draw_are_never_in_the_same_table(tmp_path, parse):
    for draw, accuracy in (("balanced", 60), ("proportional", 80)):
        for method in ("CoOp", "OGKD"):
            folder = tmp_path / draw / method
            write_run(folder, "few_shot", "BTMRI", method, 1, accuracy, draw=draw, balanced_accuracy=accuracy - 10)
    both = parse(tmp_path, "--table", "few_shot")
    assert both.returncode == 2 and "balanced, proportional with --draw" in both.stderr
    done = parse(tmp_path, "--table", "few_shot", "--draw", "proportional")
    assert "few-shot, proportional draw" in done.stdout and "by label share" in done.stdout
    assert line_of(done.stdout, "CoOp") == ["**70.00**", "80.00"]
    csv = parse(tmp_path, "--table", "few_shot", "--draw", "proportional", "--format", "csv").stdout
    rows = rows_of(csv, "btmri few-shot, proportional draw")
    assert (rows["CoOp"]["balanced, 16 shots mean"], rows["CoOp"]["16 shots mean"]) == ("70.0000", "80.0000")
    timed = parse(tmp_path, "--table", "few_shot", "--draw", "proportional", "--seconds")
    assert line_of(timed.stdout, "CoOp") == ["**70.00**", "80.00", "2.00"]
    alone = parse(tmp_path / "balanced", "--table", "few_shot")
    assert "draw" not in alone.stdout and line_of(alone.stdout, "CoOp") == ["**60.00**"]
    published = parse(tmp_path / "proportional", "--table", "few_shot", "--published")
    assert published.returncode == 2 and "balanced draws" in published.stderr
    page = write(tmp_path, tmp_path / "page.html").read_text()
    assert "with BiomedCLIP</small>" in page and "with BiomedCLIP, proportional draw</small>" in page


@pytest.fixture
def moles(tmp_path) -> Path:
    """Two methods with two seeds on 60 images of 30 patients at two sites."""
    for method, skill in (("CoOp", 1), ("OGKD", 3)):
        for seed in (1, 2):
            images = [f"{row:02d}.png" for row in range(60)]
            answers = report_runs.random_predictions(images, np.arange(60) % 2, ("mole", "cyst"), skill, [seed, skill])
            sites = {"site": ["Bern" if row < 36 else "Basel" for row in range(60)]}
            known = Predictions(images, answers.labels, answers.logits, answers.classnames, np.arange(60) // 2, sites)
            report_runs.write_run(tmp_path / "out" / method / f"{seed}", "few_shot", method, seed, known)
    return tmp_path / "out"


def test_the_table_of_groups_has_means_over_seeds_by_group_and_the_gap(moles, parse):
    done = parse(moles, "--table", "groups", "--format", "csv")
    assert done.returncode == 0, done.stderr
    rows = pd.read_csv(pd.io.common.StringIO(done.stdout)).set_index("method, group")
    assert set(rows["table"]) == {"phantom few-shot, 16 shots, by site"}
    for method in ("CoOp", "OGKD"):
        seeds = [Predictions.load(moles / method / str(seed) / "predictions.npz") for seed in (1, 2)]
        frame = pd.DataFrame({"site": seeds[0].subgroups["site"], "right": np.mean([one.correct for one in seeds], 0)})
        accuracy = 100 * frame.groupby("site")["right"].mean()
        for site, images in (("Bern", 36), ("Basel", 24)):
            row = rows.loc[f"{method}, {site}"]
            assert (row["images mean"], row["patients mean"]) == (images, images / 2)
            assert row["accuracy mean"] == pytest.approx(accuracy[site], abs=1e-3)
            assert row["accuracy low"] < row["accuracy mean"] <= row["accuracy high"]
        gap = rows.loc[f"{method}, largest gap", "accuracy mean"]
        assert gap == pytest.approx(accuracy.max() - accuracy.min(), abs=1e-3)
    one = parse(moles, "--table", "groups", "--metric", "brier").stdout
    assert "Brier" in one and "NLL" not in one and "Seeds 1, 2; 16 shots" in one
    assert parse(moles, "--table", "groups", "--metric", "expected_cost").returncode == 2


def test_the_table_of_groups_says_which_seeds_each_method_has(moles, parse):
    results = moles / "OGKD" / "2" / "results.json"
    facts = json.loads(results.read_text())
    results.write_text(json.dumps(facts | {"diverged": {"epoch": 3, "term": "loss"}}))
    text = parse(moles, "--table", "groups").stdout
    assert line_of(text, "CoOp, Bern")[-1] == "1, 2" and line_of(text, "OGKD, Bern")[-1] == "1"
    assert "1 of 2 runs diverged (seed 2)" in text


def test_the_page_shows_the_groups_of_the_best_method_with_the_numbers_of_the_table(moles, parse):
    page = write(moles, moles / "page.html").read_text()
    assert "Is it equally good for all?" in page and "Bern" in page and "Largest gap in accuracy" in page
    text = parse(moles, "--table", "groups").stdout
    for cell in line_of(text, "OGKD, Basel")[2:-1]:  # with its interval: "0.212 [0.100, 0.324]"
        value, low, high = re.findall(r"[\d.]+", cell)
        digits = 3 if len(value.partition(".")[2]) > 2 else 1
        assert value in page and f"{float(low):.{digits}f} to {float(high):.{digits}f}" in page
    assert "on few images" in text and page.count("on few images") >= 2


def test_groups_that_a_folder_records_later_are_added_to_a_finished_run(tmp_path, parse):
    folder = tmp_path / "data" / "moles"
    folder.mkdir(parents=True)
    images = [f"{row}.png" for row in range(40)]
    answers = report_runs.random_predictions(images, np.arange(40) % 2, ("a", "b"), 2, 0)
    root = tmp_path / "data"
    run = report_runs.write_run(tmp_path / "out", "few_shot", "CoOp", 1, answers, dataset="moles", root=root)
    results = json.loads((run / "results.json").read_text())
    results["config"]["DATASET"]["FOLDER"] = "moles"
    (run / "results.json").write_text(json.dumps(results))
    none = parse(run, "--table", "groups")
    assert none.returncode == 2 and "--group-column" in none.stderr
    sexes = {image: {"sex": "fm"[row % 3 == 0]} for row, image in enumerate(images)}
    (folder / "groups_moles.json").write_text(json.dumps(sexes))
    before = recompute(run)
    assert before == recompute(run)
    assert line_of(parse(run, "--table", "groups").stdout, "CoOp, f")[0] == "26"
