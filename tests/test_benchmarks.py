"""The benchmarks' history, and how they project a whole training from a few epochs."""

import datetime

import pytest

from benchmarks import machine
from benchmarks.own_images import whole_training


def test_the_history_is_one_table_with_a_line_for_each_result(tmp_path):
    history = tmp_path / "RESULTS.md"
    machine.record("step", "2 classes: 0.81 s a step", path=history)
    machine.record("own_images", "CoOp: bf16 2.1x", path=history)
    header, rule, *lines = [line for line in history.read_text().splitlines() if line.startswith("|")]
    assert [line.count("|") for line in (rule, *lines)] == [header.count("|")] * 3
    assert [line.split("|")[2].strip() for line in lines] == ["step", "own_images"]
    assert all(datetime.date.fromisoformat(line.split("|")[1].strip()) for line in lines)
    assert "torch " in lines[0]


@pytest.mark.parametrize(
    ("seconds", "whole"),
    [
        ([90.0, 2.0, 4.0, 3.0], 90 + 49 * 3),  # crops are encoded in the first epoch alone
        ([10.0] * 50, 500.0),
        ([20.0, *[2.0] * 49], 118.0),
    ],
)
def test_a_training_is_its_first_epoch_and_the_others_as_their_median(seconds, whole):
    assert whole_training(seconds, 50) == whole
