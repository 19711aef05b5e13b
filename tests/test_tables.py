"""Tables over finished runs, against figures computed here."""

import csv
import io
import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openpyxl import load_workbook

from tables.protocols import PUBLISHED
from tables.render import Table, render
from tables.seeds import seeds_report
from tables.statistics import Cell, harmonic_mean
from tests.conftest import ROOT

METHODS = ("ZeroShot", "CoOp", "OGKD")


def write_run(output, kind, dataset, method, seed, accuracy, shots=16, backbone="BiomedCLIP", **changes):
    folder = output / kind / dataset / f"shots_{shots}" / method / backbone / f"seed{seed}"
    folder.mkdir(parents=True)
    results = {
        "method": method, "subsample": "base", "shots": shots, "seed": seed, "accuracy": accuracy, "macro_f1": 1.0,
        "expected_calibration_error": 100 - accuracy, "seconds": 2.0, "config": {"SEED": seed},
        "fingerprints": {"dataset": "d", "weights": "w"}, **changes,
    }  # fmt: skip
    (folder / "results.json").write_text(json.dumps(results))
    return folder


@pytest.fixture
def output(tmp_path):
    """Three methods on two data sets with three seeds, and what their accuracies are."""
    rng = np.random.default_rng(0)
    accuracy = {}
    for dataset in ("btmri", "kvasir"):
        for method in METHODS:
            for kind in ("train_base", "test_new"):
                values = rng.uniform(40, 90, 3).round(3)
                accuracy[dataset, method, kind] = values
                for seed, value in enumerate(values, 1):
                    write_run(tmp_path / "base2new", kind, dataset, method, seed, value)
            for shots in (1, 16):
                for seed, value in enumerate(rng.uniform(40, 90, 3), 1):
                    accuracy.setdefault((dataset, method, shots), []).append(value)
                    write_run(tmp_path, "few_shot", dataset, method, seed, value, shots)
    return tmp_path, accuracy


def parse(*words):
    return subprocess.run(
        [sys.executable, "parse_test_res.py", *map(str, words)], cwd=ROOT, capture_output=True, text=True
    )


def test_the_average_is_of_the_data_sets_and_hm_is_of_the_averages(output):
    folder, accuracy = output
    done = parse(folder, "--table", "base2new", "--format", "csv")
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(io.StringIO(done.stdout.split("average base2new\n\n")[1])))
    assert [row["method"] for row in rows] == ["Zero-shot", "CoOp", "OGKD"]
    for row, method in zip(rows, METHODS, strict=True):
        base, novel = (
            np.mean([np.mean(accuracy[d, method, kind]) for d in ("btmri", "kvasir")])
            for kind in ("train_base", "test_new")
        )
        assert float(row["base mean"]) == pytest.approx(base, abs=1e-3)
        assert float(row["novel mean"]) == pytest.approx(novel, abs=1e-3)
        assert float(row["HM mean"]) == pytest.approx(2 * base * novel / (base + novel), abs=1e-3)


def test_a_data_sets_cells_are_mean_and_population_deviation(output):
    folder, accuracy = output
    done = parse(folder, "--table", "few_shot", "--dataset", "btmri")
    for method, name in zip(METHODS, ("Zero-shot", "CoOp", "OGKD"), strict=True):
        (line,) = [line for line in done.stdout.splitlines() if line.startswith(f"| {name} ")]
        for shots in (1, 16):
            values = accuracy["btmri", method, shots]
            assert f"{np.mean(values):.2f} ± {np.std(values):.2f}" in line


@given(st.lists(st.floats(0, 100), min_size=2, max_size=8))
def test_the_best_is_bold_and_the_second_underlined(values):
    table = Table("t", ["method", "x"], [(f"m{i}", [Cell(v)]) for i, v in enumerate(values)], [True])
    shown = [line.split("|")[2].strip() for line in render(table).splitlines()[2:]]
    rounded = [round(v, 2) for v in values]
    order = sorted(set(rounded), reverse=True)
    for value, text in zip(rounded, shown, strict=True):
        assert text.startswith("**") == (value == order[0])
        assert text.startswith("<u>") == (len(order) > 1 and value == order[1])


def test_a_lower_calibration_error_is_the_better_one(output):
    folder, accuracy = output
    metric = ("--metric", "expected_calibration_error")
    done = parse(folder, "--table", "few_shot", "--dataset", "btmri", *metric)
    best = max(METHODS, key=lambda method: np.mean(accuracy["btmri", method, 16]))
    shown = f"{100 - np.mean(accuracy['btmri', best, 16]):.2f}"
    assert f"**{shown} " in done.stdout


def test_a_spreadsheet_marks_best_and_second_by_font(output, tmp_path):
    folder, _ = output
    path = tmp_path / "table.xlsx"
    done = parse(folder, "--table", "base2new", "--format", "xlsx", "-o", path)
    assert done.returncode == 0, done.stderr
    book = load_workbook(path)
    assert len(book.sheetnames) == 3
    for sheet in book:
        fonts = [[cell.font for cell in row[1:]] for row in sheet.iter_rows(min_row=2)]
        for column in zip(*fonts, strict=True):
            assert sum(font.bold for font in column) == 1
            assert sum(font.underline == "single" for font in column) == 1


def test_latex_has_its_own_marks(output):
    folder, _ = output
    done = parse(folder, "--table", "base2new", "--format", "latex", "--dataset", "btmri")
    assert done.stdout.count(r"\textbf{") == 3
    assert done.stdout.count(r"\underline{") == 3
    assert r"$\pm$" in done.stdout


def test_published_averages_stand_beside_ours_with_the_difference(output):
    folder, accuracy = output
    done = parse(folder, "--table", "base2new", "--published", "--format", "csv")
    rows = {r["method"]: r for r in csv.DictReader(io.StringIO(done.stdout.split("average base2new\n\n")[1]))}
    base = np.mean([np.mean(accuracy[d, "CoOp", "train_base"]) for d in ("btmri", "kvasir")])
    assert float(rows["CoOp"]["base published mean"]) == PUBLISHED["base2new"]["CoOp"][0] == 73.85
    assert float(rows["CoOp"]["base difference mean"]) == pytest.approx(base - 73.85, abs=1e-3)
    assert rows["OGKD"]["base published mean"] == ""


def test_a_method_without_a_novel_head_has_no_novel_figure(tmp_path):
    write_run(tmp_path, "train_base", "btmri", "LinearProbe", 1, 80.0)
    done = parse(tmp_path, "--table", "base2new")
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("| Linear probe")]
    assert [cell.strip() for cell in line.split("|")[3:5]] == ["–", "–"]


def test_unfinished_damaged_and_uneven_runs_are_named(output):
    folder, _ = output
    waiting = folder / "few_shot" / "btmri" / "shots_16" / "CoOp" / "BiomedCLIP" / "seed9"
    (waiting / "prompt_learner").mkdir(parents=True)
    (waiting / "config.yaml").write_text("")
    (waiting / "prompt_learner" / "model.pth.tar-7").write_bytes(b"")
    damaged = folder / "few_shot" / "kvasir" / "shots_16" / "OGKD" / "BiomedCLIP" / "seed3" / "results.json"
    damaged.write_text("{")
    done = parse(folder, "--table", "few_shot")
    assert done.returncode == 0
    assert str(damaged) in done.stdout
    assert "seed9, after epoch 7" in done.stderr
    assert "2 seeds, others have 3" in done.stderr


def test_runs_with_different_weights_are_not_averaged_silently(tmp_path):
    for seed in (1, 2):
        prints = {"dataset": "d", "weights": f"w{seed}"}
        write_run(tmp_path, "few_shot", "btmri", "CoOp", seed, 50.0, fingerprints=prints)
    assert "different weights" in parse(tmp_path, "--table", "few_shot").stderr


def test_nothing_finished_is_one_sentence(tmp_path):
    done = parse(tmp_path, "--table", "base2new")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "Traceback" not in done.stderr


def test_coops_use_reads_seed_folders_and_coops_own_logs(tmp_path):
    for seed, accuracy in ((1, 70.0), (2, 80.0)):
        (tmp_path / f"seed{seed}").mkdir()
        text = f"=> result\n* total: 10\n* accuracy: {accuracy}%\n* error: {100 - accuracy}%\n* macro_f1: 1.0%\n"
        (tmp_path / f"seed{seed}" / "log.txt").write_text("epoch 1\n" + text)
    (tmp_path / "seed3").mkdir()
    (tmp_path / "seed3" / "log.txt").write_text("epoch 1\n")
    report = seeds_report(tmp_path)
    assert "* accuracy: 75.00% +- 5.00%" in report
    assert "seed3: not finished" in report
    assert "+- 6.93%" in seeds_report(tmp_path, ci95=True)


@given(st.floats(0, 100), st.floats(0, 100))
def test_the_harmonic_mean_lies_between(a, b):
    assert min(a, b) - 1e-9 <= harmonic_mean(a, b) <= max(a, b) + 1e-9
