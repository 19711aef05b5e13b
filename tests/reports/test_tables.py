"""Tables over finished runs, against figures computed here."""

import csv
import io
import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

from ogkd.core import UserError
from ogkd.evaluation.collect import collect, runs_in
from ogkd.evaluation.metrics import METRICS, compute
from ogkd.evaluation.predictions import Predictions
from ogkd.reports.tables import average, base2new_tables, few_shot_tables
from tests.conftest import ROOT
from tests.support.tables import METHODS, TITLES, line_of, rows_of, write_run

# What a table holds


def test_the_average_is_of_the_data_sets_and_both_definitions_of_hm_have_a_column(output, parse):
    folder, accuracy = output
    done = parse(folder, "--table", "base2new", "--format", "csv")
    assert (done.returncode, done.stderr) == (0, "")
    rows = rows_of(done.stdout, "average base2new")
    assert tuple(rows) == TITLES
    for method, row in zip(METHODS, rows.values(), strict=True):
        of_sets = [
            [np.mean(accuracy[d, method, kind, 16]) for d in ("BTMRI", "Kvasir")] for kind in ("train_base", "test_new")
        ]
        base, novel = map(np.mean, of_sets)
        assert float(row["base mean"]) == pytest.approx(base, abs=1e-3)
        assert float(row["novel mean"]) == pytest.approx(novel, abs=1e-3)
        assert float(row["HM of means mean"]) == pytest.approx(2 / (1 / base + 1 / novel), abs=1e-3)
        means_of_sets = [2 / (1 / b + 1 / n) for b, n in zip(*of_sets, strict=True)]
        assert float(row["mean of HM mean"]) == pytest.approx(np.mean(means_of_sets), abs=1e-3)


def test_cells_are_mean_and_population_deviation_and_the_caption_says_so(output, parse):
    folder, accuracy = output
    done = parse(folder, "--table", "few_shot", "--dataset", "btmri", "--seconds")
    for method, title in zip(METHODS, TITLES, strict=True):
        *cells, _ = line_of(done.stdout, title)
        for shots, cell in zip((1, 16), cells, strict=True):
            values = accuracy["BTMRI", method, "few_shot", shots]
            assert f"{np.mean(values):.2f} ± {np.std(values):.2f}" in cell
    assert "Accuracy in %, mean ± population standard deviation over seeds." in done.stdout and done.stderr == ""
    of_both = parse(folder, "--table", "base2new", "--dataset", "btmri", "--seconds")  # training and novel test
    assert [line_of(one.stdout, "OGKD")[-1] for one in (done, of_both)] == ["2.00", "4.00"]


def test_a_method_without_a_novel_head_has_no_novel_figure(tmp_path, parse):
    write_run(tmp_path / "run", "train_base", "BTMRI", "LinearProbe", 1, 80.0)
    done = parse(tmp_path, "--table", "base2new")
    assert line_of(done.stdout, "Linear probe")[1:] == ["–", "–"]
    assert done.stderr == ""


# Metrics


def test_a_lower_calibration_error_is_the_better_one_and_has_no_hm(output, parse):
    folder, accuracy = output
    metric = ("--metric", "expected_calibration_error")
    done = parse(folder, "--table", "base2new", "--dataset", "btmri", *metric)
    best = max(METHODS, key=lambda method: np.mean(accuracy["BTMRI", method, "train_base", 16]))
    shown = f"{100 - np.mean(accuracy['BTMRI', best, 'train_base', 16]):.2f}"
    assert f"**{shown} " in done.stdout
    assert "HM" not in done.stdout


def test_a_metric_that_results_do_not_hold_is_computed_from_the_predictions(tmp_path, parse):
    rng = np.random.default_rng(1)
    folders = [write_run(tmp_path / str(seed), "few_shot", "BTMRI", "CoOp", seed, 50.0) for seed in (1, 2)]
    values = {name: [] for name in METRICS}
    for folder in folders:
        names = tuple(f"{i}.png" for i in range(12))
        kept = Predictions(names, rng.integers(0, 3, 12), rng.normal(size=(12, 3)), ("a", "b", "c"))
        kept.save(folder / "predictions.npz")
        for name in METRICS:
            values[name].append(compute(name, kept))
    held = json.loads((folders[0] / "results.json").read_text())
    for name in METRICS.keys() - held.keys():
        done = parse(tmp_path, "--table", "few_shot", "--metric", name, "--format", "csv")
        mean = rows_of(done.stdout, "btmri few-shot")["CoOp"]["16 shots mean"]
        if values[name][0] is None:
            assert mean == ""
            assert name in done.stderr
        else:
            assert float(mean) == pytest.approx(np.mean(values[name]), abs=1e-4)


@pytest.mark.parametrize("content", [None, b"PK"])
def test_a_run_without_predictions_has_a_dash_and_is_named(tmp_path, parse, content):
    folder = write_run(tmp_path / "run", "few_shot", "BTMRI", "CoOp", 1, 50.0)
    if content:
        (folder / "predictions.npz").write_bytes(content)
    done = parse(tmp_path, "--table", "few_shot", "--metric", "nll")
    assert done.returncode == 0 and str(folder) in done.stderr
    assert line_of(done.stdout, "CoOp") == ["–"]


# Run folders carry their own truth


def test_tables_are_the_same_from_any_folder_after_a_move_and_under_other_names(output, parse, tmp_path_factory):
    folder, _ = output
    words = ("--table", "few_shot", "--dataset", "kvasir", "--method", "OGKD")
    before = parse(folder, *words).stdout
    deep = folder / "few_shot" / "Kvasir" / "shots_16"
    runs = sorted(path.parent for path in (folder / "few_shot" / "Kvasir").rglob("results.json"))
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for number, run in enumerate(runs):
        shutil.copytree(run, elsewhere / f"run {number}")
    assert parse(elsewhere, *words).stdout == before
    for path in (deep, deep / "OGKD", deep / "OGKD" / "seed1"):
        done = parse(path, "--table", "few_shot", "--method", "OGKD")
        assert done.returncode == 0
        assert done.stderr == ""


def test_the_data_set_is_called_as_on_the_command_line_and_a_backbone_by_its_last_part(tmp_path):
    for number, (dataset, backbone) in enumerate(
        [
            ("COVID_19", "BiomedCLIP"),
            ("Phantom", "/models/mine/"),
            ("moles", "hf-hub:some/model"),
            ("BTMRI", "D:\\m\\x"),
        ]
    ):
        write_run(tmp_path / str(number), "few_shot", dataset, "CoOp", 1, 50.0, backbone=backbone)
    found = [(run.dataset, run.backbone) for run in collect(tmp_path)]
    assert found == [("covid", "BiomedCLIP"), ("phantom", "mine"), ("moles", "model"), ("btmri", "x")]


def test_a_folder_of_own_images_keeps_its_name(tmp_path):
    config = {"DATASET": {"NAME": "ImageFolder", "FOLDER": "BTMRI"}}
    write_run(tmp_path / "run", "few_shot", "BTMRI", "CoOp", 1, 50.0, config=config)
    assert collect(tmp_path)[0].dataset == "BTMRI"


@pytest.mark.parametrize("recorded", [True, False])
def test_a_run_that_was_trained_on_the_novel_classes_is_not_the_novel_column(tmp_path, parse, recorded):
    write_run(tmp_path / "base", "train_base", "BTMRI", "CoOp", 1, 80.0)
    novel = write_run(tmp_path / "new", "test_new", "BTMRI", "CoOp", 1, 90.0, **({"trained": True} if recorded else {}))
    if not recorded:  # as runs did before they wrote it down, this one only left its parameters
        (novel / "prompt_learner").mkdir()
        (novel / "prompt_learner" / "model.pth.tar-2").write_bytes(b"")
    done = parse(tmp_path, "--table", "base2new")
    assert line_of(done.stdout, "CoOp") == ["80.00", "–", "–"]
    assert str(novel) in done.stderr


def test_runs_in_reads_the_given_folders_alone(output):
    folder, _ = output
    runs = sorted(path.parent for path in folder.rglob("results.json"))
    assert [run.path for run in runs_in(runs[:3])] == runs[:3]
    assert runs_in([folder]) == []


def test_a_method_from_elsewhere_has_its_own_title_and_stands_last(output, parse):
    folder, _ = output
    write_run(folder / "a", "few_shot", "BTMRI", "AMethod", 1, 50.0, title="My method")
    done = parse(folder, "--table", "few_shot", "--dataset", "btmri")
    names = [line.split("|")[1].strip() for line in done.stdout.splitlines() if line.startswith("| ")]
    assert names == ["method", *TITLES, "My method"]


# What is wrong is said, on stderr


BROKEN = [
    ("{", "Expecting"),
    ("[" * 100_000, "nested"),
    (b"\xff\xfe{}", "decode"),
    ({"accuracy": float("nan")}, "NaN"),
    ('{"method": "CoOp"}', "no dataset"),
    *(({key: value}, key) for key, value in
      [("accuracy", True), ("subsample", "some"), ("config", []), ("changed", "OPTIM.LR"),
       ("fingerprints", "x"), ("macro_f1", "high")]),
]  # fmt: skip


@pytest.mark.parametrize(("content", "reason"), BROKEN, ids=lambda value: str(value)[:30])
def test_a_corrupt_result_is_named_with_its_reason_and_the_table_is_printed(tmp_path, parse, content, reason):
    write_run(tmp_path / "sound", "few_shot", "BTMRI", "CoOp", 1, 50.0)
    bad = write_run(tmp_path / "corrupt", "few_shot", "BTMRI", "CoOp", 2, 60.0) / "results.json"
    if isinstance(content, dict):
        content = json.dumps(json.loads(bad.read_text()) | content)
    bad.write_bytes(content if isinstance(content, bytes) else content.encode())
    done = parse(tmp_path, "--table", "few_shot", "--format", "csv")
    assert done.returncode == 0, done.stderr
    assert f"{bad} is corrupt (" in done.stderr
    assert reason in done.stderr
    assert float(rows_of(done.stdout, "btmri few-shot")["CoOp"]["16 shots mean"]) == 50.0


def test_unfinished_and_uneven_runs_are_named_and_the_csv_stays_a_csv(output, parse):
    folder, _ = output
    waiting = folder / "few_shot" / "seed9"
    (waiting / "prompt_learner").mkdir(parents=True)
    (waiting / "config.yaml").write_text("")
    (waiting / "prompt_learner" / "model.pth.tar-7").write_bytes(b"")
    shutil.rmtree(folder / "few_shot" / "Kvasir" / "shots_16" / "OGKD" / "seed3")
    done = parse(folder, "--table", "few_shot", "--format", "csv")
    assert done.returncode == 0
    assert "seed9, after epoch 7" in done.stderr
    assert "kvasir few-shot: OGKD, 16 shots: fewer seeds than others, which have 1, 2, 3 (seeds 1, 2)" in done.stderr
    lines = list(csv.reader(io.StringIO(done.stdout)))
    parts = ("1 shot mean", "1 shot population std", "16 shots mean", "16 shots population std")
    assert lines[0] == ["table", "method", *parts, "n", "seeds", "data sets", "shots", "backbone"]
    assert len(lines) == 1 + 3 * 3
    assert {len(line) for line in lines} == {11}


def test_nothing_finished_is_one_sentence(tmp_path, parse):
    done = parse(tmp_path, "--table", "base2new")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_several_backbones_are_not_mixed(output):
    folder, _ = output
    write_run(folder / "a", "few_shot", "BTMRI", "CoOp", 1, 50.0, backbone="PubMedCLIP")
    with pytest.raises(UserError, match="BiomedCLIP, PubMedCLIP"):
        few_shot_tables(collect(folder))
    assert len(base2new_tables(collect(folder))) == 2


def test_an_average_leaves_out_data_sets_that_lack_a_method_and_variants_that_lack_data_sets(output):
    folder, accuracy = output
    shutil.rmtree(folder / "few_shot" / "Kvasir" / "shots_16" / "CoOp")
    shutil.rmtree(folder / "few_shot" / "Kvasir" / "shots_1" / "CoOp")
    write_run(folder / "a", "few_shot", "BUSI", "OGKD", 1, 50.0, options={"GAMMA": 0.9})
    tables = few_shot_tables(collect(folder))
    assert [table.title for table in tables] == ["btmri few-shot", "busi few-shot", "kvasir few-shot"]
    mean, notes = average(tables, "few_shot")
    assert [row.name for row in mean.rows] == list(TITLES)
    assert mean.rows[2].cells["1 shot"].mean == pytest.approx(np.mean(accuracy["BTMRI", "OGKD", "few_shot", 1]))
    assert sum("kvasir few-shot is not in the average" in note for note in notes) == 1


def test_no_average_is_printed_where_no_data_set_has_every_method(tmp_path, parse):
    write_run(tmp_path / "a", "few_shot", "BTMRI", "CoOp", 1, 50.0)
    write_run(tmp_path / "b", "few_shot", "Kvasir", "OGKD", 1, 50.0)
    done = parse(tmp_path, "--table", "few_shot", "--format", "csv")
    assert rows_of(done.stdout, "average few_shot") == {}
    assert done.stderr.count("is not in the average") == 2
    with pytest.raises(UserError, match="no table"):
        average([], "few_shot")


# A program that is light to start


def test_a_table_needs_no_torch_and_no_model_library(output):
    script = (
        "import sys, parse_test_res\n"
        "parse_test_res.main(sys.argv[1:])\n"
        "heavy = {'torch', 'open_clip', 'transformers', 'timm', 'sklearn', 'scipy', 'matplotlib'}\n"
        "print('heavy:', sorted(heavy & set(sys.modules)))\n"
    )
    words = (str(output[0]), "--table", "few_shot", "--metric", "macro_f1")
    done = subprocess.run([sys.executable, "-c", script, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("heavy: []\n")
