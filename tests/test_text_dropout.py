"""TEXT_DROPOUT: in the student's text tower, in training steps, and nowhere else."""

import pytest
import torch

from ogkd import models
from ogkd.cli import train
from ogkd.core import UserError
from ogkd.runs.registry import method_class
from ogkd.tuning.prompt_learner import PromptLearner
from tests.support import tiny_models
from tests.support.runs import configured, learned, same, trainer_of
from tests.test_methods import PROMPT_METHODS

pytestmark = pytest.mark.slow

NAMES = ["cyst", "glioma tumor"]
METHODS = [name for name in PROMPT_METHODS if "TEXT_DROPOUT" in method_class(name).options]  # VPT learns no text


def rate(method, value):
    return (f"TRAINER.{method.upper()}.TEXT_DROPOUT", str(value))


@pytest.mark.parametrize("method", METHODS)
def test_the_methods_that_were_published_with_dropout_have_it_and_the_others_do_not(method):
    published = {"BiomedCoOp": 0.1, "BiomedDPT": 0.1, "OGKD": 0.1}
    assert method_class(method).options["TEXT_DROPOUT"].default == published.get(method, 0.0)


@pytest.mark.parametrize("value", [-0.1, 1.0, float("nan")])
def test_a_rate_that_is_none_is_refused(arguments, value):
    with pytest.raises(UserError, match="TEXT_DROPOUT"):
        train.main(configured(arguments, "CoOp", *rate("CoOp", value)))


def test_a_cold_and_a_warm_feature_cache_and_any_number_of_loader_processes_give_the_same_bits(arguments, tmp_path):
    cache = str(tmp_path / "cache")
    for method in ("BiomedCoOp", "OGKD"):
        runs = {"cold": cache, "warm": cache, "none": ""}
        for number, (name, folder) in enumerate(runs.items()):
            pairs = (*rate(method, 0.3), "FEATURES.CACHE_DIR", folder)
            if method == "OGKD":  # its crops are encoded in groups between the steps
                pairs += ("DATALOADER.NUM_WORKERS", str(number))
            train.main(configured(arguments, method, *pairs, output=tmp_path / method / name))
        assert same(learned(tmp_path / method / "cold"), learned(tmp_path / method / "warm"))
        assert same(learned(tmp_path / method / "cold"), learned(tmp_path / method / "none"))


@pytest.mark.parametrize("method", METHODS)
def test_a_test_and_what_the_teacher_says_have_no_dropout(arguments, method):
    one = prepared(arguments, method, 0.5)
    images = torch.randn(3, one.clip_model.embed_dim)
    one.train()
    classify = one.classifier()
    with torch.no_grad():
        torch.testing.assert_close(classify(images), classify(images), rtol=0, atol=0)
        one.train()
        if method != "CoCoOp":
            assert not torch.equal(one.text_features(), one.text_features())
    other = prepared(arguments, method, 0.0)
    for frozen in ("zero_shot", "frozen", "prototypes"):
        if hasattr(one, frozen):
            assert torch.equal(getattr(one, frozen), getattr(other, frozen))


def prepared(arguments, method, value):
    """A method in train mode, ready for its first step."""
    trainer = trainer_of(configured(arguments, method, *rate(method, value), "FEATURES.CACHE_DIR", ""))
    trainer.method.train()
    trainer.method.prepare(trainer.task)
    return trainer.method


def test_a_text_tower_without_dropout_says_so_once(tmp_path, capsys):
    tiny_models.native_clip(tmp_path / "clip")
    model = models.load(str(tmp_path / "clip"))
    for _ in range(2):
        PromptLearner(model, NAMES, dropout=0.1).train()
    PromptLearner(model, NAMES, dropout=0.0)
    assert capsys.readouterr().out.count("has no dropout") == 1


def test_a_tower_with_dropout_says_nothing(tmp_path, capsys):
    model = models.load(str(tiny_models.biomedclip(tmp_path / "bert")))
    PromptLearner(model, NAMES, dropout=0.1)
    assert "dropout" not in capsys.readouterr().out
