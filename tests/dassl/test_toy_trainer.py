"""A trainer written for CoOp's code base runs through train.py as it is."""

import json

from ogkd.cli import train
from tests import toy_trainer

GIVEN = ("TRAINER.COOP.N_CTX", "4")  # what CoOp's train.py would make of its own


def test_a_trainer_written_for_coops_code_base_trains_tests_and_is_loaded_again(arguments, tmp_path):
    assert toy_trainer.ToyCoOp.__mro__[1].__module__ == "dassl.engine.trainer"
    results = train.main(arguments("ToyCoOp", *GIVEN))
    assert results["num_test"] == 48
    assert results["method"] == "ToyCoOp"
    words = ["--eval-only", "--model-dir", str(tmp_path / "run"), "--load-epoch", "3"]
    again = train.main([*words, *arguments("ToyCoOp", *GIVEN, output=tmp_path / "again")])
    assert again["confusion_matrix"] == results["confusion_matrix"]
    split = json.loads((tmp_path / "run" / "split.json").read_text())
    assert len(split["train"]) == 24
    assert split["train"][0][2] == "smooth mass"
    assert (tmp_path / "run" / "log.txt").read_text().count("=> result") == 1
