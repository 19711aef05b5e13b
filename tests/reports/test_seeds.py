"""CoOp's use of parse_test_res.py: folders of seed folders."""

import numpy as np
import pytest

from ogkd.core import UserError
from ogkd.reports.seeds import seeds_report
from tests.support.tables import write_run

RESULT = "=> result\n* total: 10\n* accuracy: {0}%\n* error: {1}%\n* macro_f1: 1.0%\n"


def write_log(folder, *lines):
    folder.mkdir(parents=True)
    (folder / "log.txt").write_text("\n".join(lines))


def result(accuracy):
    return RESULT.format(accuracy, 100 - accuracy)


@pytest.mark.parametrize("signal", ["Finish training", "Finished training"])
def test_logs_count_once_training_is_finished(tmp_path, signal):
    for seed, accuracy in ((1, 70.0), (2, 80.0)):
        write_log(tmp_path / f"seed{seed}", "epoch 1", result(10.0), signal, result(accuracy))
    write_log(tmp_path / "seed3", "epoch 1", result(99.0))
    report = seeds_report(tmp_path)
    assert "* accuracy: 75.00% +- 5.00%" in report
    assert "seed3: not finished" in report
    assert f"+- {1.96 * np.std([70, 80]) / np.sqrt(2):.2f}%" in seeds_report(tmp_path, ci95=True)


def test_logs_of_test_only_runs_need_test_log(tmp_path, parse):
    for seed, accuracy in ((1, 70.0), (2, 80.0)):
        write_log(tmp_path / f"seed{seed}", "Evaluate on the *test* set", result(10.0), result(accuracy))
    done = parse(tmp_path)
    assert done.returncode == 2
    assert "--test-log" in done.stderr
    assert "* accuracy: 75.00% +- 5.00%" in parse(tmp_path, "--test-log").stdout


def test_results_are_preferred_to_logs_and_have_their_units(tmp_path):
    for seed, accuracy in ((1, 60.0), (2, 70.0)):
        folder = write_run(tmp_path / f"seed{seed}", "few_shot", "BTMRI", "CoOp", seed, accuracy, nll=0.5 * seed)
        (folder / "log.txt").write_text("Finish training\n" + result(1.0))
    report = seeds_report(tmp_path)
    assert "* accuracy: 65.00% +- 5.00%" in report
    assert "* nll: 0.75 +- 0.25\n" in report + "\n"


def test_a_corrupt_run_is_named_and_left_out(tmp_path, parse):
    write_run(tmp_path / "seed1", "few_shot", "BTMRI", "CoOp", 1, 60.0)
    (tmp_path / "seed2").mkdir()
    (tmp_path / "seed2" / "results.json").write_text("{")
    done = parse(tmp_path)
    assert "* accuracy: 60.00%" in done.stdout
    assert "seed2/results.json is corrupt" in done.stderr


def test_experiments_are_averaged_over_a_metric(tmp_path):
    for name, accuracy in (("a", 60.0), ("b", 80.0)):
        write_run(tmp_path / name / "seed1", "few_shot", "BTMRI", "CoOp", 1, accuracy)
    assert seeds_report(tmp_path, multi_exp=True).endswith("Average accuracy: 70.00%")
    with pytest.raises(UserError, match="no metric 'acc'"):
        seeds_report(tmp_path, multi_exp=True, keyword="acc")
