"""Runs that are killed, repeated or changed."""

import json
import os
import signal
import subprocess
import sys

import pytest
import torch

from ogkd.cli import train
from ogkd.core import UserError
from tests.conftest import ROOT

pytestmark = pytest.mark.slow


def prompt(folder):
    (path,) = (folder / "prompt_learner").glob("model.pth.tar-*")
    return torch.load(path, weights_only=True)["state_dict"]["ctx"]


def kill_after(arguments, text, count):
    """Start train.py and kill it (SIGKILL) when `text` has been printed `count` times."""
    words = [sys.executable, "train.py", *arguments]
    process = subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    seen = 0
    for line in process.stdout:
        seen += text in line
        if seen == count:
            process.send_signal(signal.SIGKILL)
            break
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL


@pytest.mark.parametrize("method", ["OGKD", "CoOp"])
def test_a_run_killed_three_times_in_the_middle_of_an_epoch_ends_with_the_same_prompt(arguments, tmp_path, method):
    torch.set_num_threads(1)
    options = ("OPTIM.MAX_EPOCH", "4", "TRAIN.PRINT_FREQ", "1")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    train.main(arguments(method, *options, output=whole))
    for epoch, batch in [(1, 2), (2, 4), (4, 1)]:
        kill_after(arguments(method, *options, output=broken), f"epoch [{epoch}/4] batch [{batch}/6]", 1)
        assert not (broken / "results.json").exists()
    results = train.main(arguments(method, *options, output=broken))
    assert torch.equal(prompt(broken), prompt(whole))
    whole_results = json.loads((whole / "results.json").read_text())
    for key in ("accuracy", "macro_f1", "expected_calibration_error", "confusion_matrix"):
        assert results[key] == whole_results[key]


def test_a_complete_run_is_not_repeated(arguments, tmp_path, capsys):
    first = train.main(arguments("CoOp"))
    written = (tmp_path / "run" / "results.json").stat().st_mtime_ns
    assert train.main(arguments("CoOp")) == first
    assert "is complete" in capsys.readouterr().out
    assert (tmp_path / "run" / "results.json").stat().st_mtime_ns == written


def test_another_configuration_in_the_same_folder_is_an_error_that_says_so(arguments):
    train.main(arguments("CoOp"))
    with pytest.raises(UserError, match=r"OPTIM.LR 0.0025 -> 0.01"):
        train.main(arguments("CoOp", "OPTIM.LR", "0.01"))


def test_an_unfinished_run_of_another_configuration_is_not_continued(arguments, tmp_path):
    train.main(arguments("CoOp"))
    (tmp_path / "run" / "results.json").unlink()
    with pytest.raises(UserError, match=r"unfinished run.*OPTIM.LR"):
        train.main(arguments("CoOp", "OPTIM.LR", "0.01"))


def test_a_folder_without_results_is_no_result(arguments, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "log.txt").write_text("Finish training\n")
    results = train.main(arguments("ZeroShot"))
    assert (tmp_path / "run" / "results.json").is_file()
    assert results["num_test"] == 48


def test_a_truncated_newest_checkpoint_falls_back_to_the_one_before(arguments, tmp_path, capsys):
    options = ("TRAIN.KEEP_CHECKPOINTS", "True")
    train.main(arguments("CoOp", *options))
    newest = tmp_path / "run" / "prompt_learner" / "model.pth.tar-3"
    before = torch.load(newest, weights_only=True)["state_dict"]["ctx"]
    newest.write_bytes(newest.read_bytes()[:100])
    (tmp_path / "run" / "results.json").unlink()
    train.main(arguments("CoOp", *options))
    assert "Resuming after epoch 2" in capsys.readouterr().out
    assert torch.equal(torch.load(newest, weights_only=True)["state_dict"]["ctx"], before)


def test_the_number_of_loader_processes_does_not_change_the_prompt(arguments, tmp_path):
    for workers in ("0", "2"):
        train.main(arguments("CoOp", "DATALOADER.NUM_WORKERS", workers, output=tmp_path / workers))
    assert torch.equal(prompt(tmp_path / "0"), prompt(tmp_path / "2"))


def test_a_checkpoint_is_the_learned_parameters_alone(arguments, tmp_path):
    train.main(arguments("OGKD"))
    (path,) = (tmp_path / "run" / "prompt_learner").glob("model.pth.tar-*")
    assert path.stat().st_size < 100_000
    assert list(torch.load(path, weights_only=True)["state_dict"]) == ["ctx"]
