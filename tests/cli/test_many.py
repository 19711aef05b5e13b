"""What the commands that execute many runs share."""

import pytest

from ogkd.cli import compare, tune


@pytest.mark.parametrize(
    "words", ["--seeds 1 OPTIM.MAX_EPOCH 2 --methods CoOp", "--methods CoOp --seeds 1 -- OPTIM.MAX_EPOCH 2"]
)
@pytest.mark.parametrize("program", [compare, tune])
def test_pairs_that_change_the_configuration_may_follow_any_option(words, program, capsys):
    program.main(["phantom", "--protocol", "few_shot", "--dry-run", *words.split()])
    printed = capsys.readouterr().out
    assert "OPTIM.MAX_EPOCH 2" in printed and "--seed 1" in printed and "--seed 2" not in printed
