"""Runs that are killed, repeated or changed."""

import pytest
import torch

from ogkd.cli import train
from ogkd.core import UserError
from ogkd.runs.spec import RunSpec
from tests.support.runs import killed_at, learned, same

pytestmark = pytest.mark.slow


def test_a_run_killed_three_times_in_the_middle_of_an_epoch_ends_with_the_same_prompt(arguments, tmp_path):
    options = ("DATALOADER.TRAIN_X.BATCH_SIZE", "4", "OPTIM.MAX_EPOCH", "4", "TRAIN.PRINT_FREQ", "1")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    uninterrupted = train.main(arguments("OGKD", *options, output=whole))
    words = arguments("OGKD", *options, output=broken)
    for epoch, batch in [(1, 2), (2, 4), (4, 1)]:
        killed_at(RunSpec.parse(words), f"epoch [{epoch}/4] batch [{batch}/6]")
        assert not (broken / "results.json").exists()
    results = train.main(words)
    assert same(learned(broken), learned(whole))
    for key in ("accuracy", "macro_f1", "expected_calibration_error", "confusion_matrix"):
        assert results[key] == uninterrupted[key]
    (checkpoint,) = (broken / "prompt_learner").glob("model.pth.tar-*")
    assert checkpoint.stat().st_size < 100_000  # the learned parameters alone
    assert list(torch.load(checkpoint, weights_only=True)["state_dict"]) == ["ctx"]


def test_a_complete_run_is_not_repeated_and_another_configuration_in_its_folder_is_an_error(
    arguments, tmp_path, capsys
):
    results = tmp_path / "run" / "results.json"
    results.parent.mkdir()
    (results.parent / "log.txt").write_text("Finish training\n")  # without results it is none
    first = train.main(arguments("CoOp"))
    written = results.stat().st_mtime_ns
    assert train.main(arguments("CoOp")) == first
    assert "is complete" in capsys.readouterr().out
    assert results.stat().st_mtime_ns == written
    for what in ("was made with a different configuration", "has an unfinished run"):
        with pytest.raises(UserError, match=rf"{what}.*OPTIM.LR 0.0025 -> 0.01"):
            train.main(arguments("CoOp", "OPTIM.LR", "0.01"))
        results.unlink(missing_ok=True)


@pytest.mark.parametrize("method", ["ZeroShot", "TipAdapter"])
def test_options_of_training_do_not_refuse_a_run_of_a_method_without_epochs(arguments, method):
    first = train.main(arguments(method))
    assert train.main(arguments(method, "OPTIM.MAX_EPOCH", "2", "TEST.FINAL_MODEL", "best_val")) == first


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
