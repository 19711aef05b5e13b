"""TEXT_DROPOUT: in the student's text tower, in training steps, and nowhere else."""

import pytest
import torch
import torch.nn.functional as F

from ogkd import models
from ogkd.cli import train
from ogkd.core import UserError
from ogkd.runs.registry import method_class
from ogkd.runs.spec import RunSpec
from ogkd.tuning.prompt_learner import PromptLearner
from ogkd.tuning.prompt_method import PromptMethod
from tests.support import tiny_models
from tests.support.runs import configured, killed_at, learned, same, trainer_of
from tests.test_methods import PROMPT_METHODS
from trainers.cocoop import CoCoOp
from trainers.maple import MaPLe

pytestmark = pytest.mark.slow

NAMES = ["cyst", "glioma tumor"]


def rate(method, value):
    return (f"TRAINER.{method.upper()}.TEXT_DROPOUT", str(value))


@pytest.mark.parametrize("method", PROMPT_METHODS)
def test_the_methods_that_were_published_with_dropout_have_it_and_the_others_do_not(method):
    published = {"BiomedCoOp": 0.1, "OGKD": 0.1}
    assert method_class(method).options["TEXT_DROPOUT"].default == published.get(method, 0.0)


@pytest.mark.parametrize("method", PROMPT_METHODS)
@pytest.mark.parametrize("value", [-0.1, 1.0, float("nan")])
def test_a_rate_that_is_none_is_refused(arguments, method, value):
    with pytest.raises(UserError, match="TEXT_DROPOUT"):
        train.main(configured(arguments, method, *rate(method, value)))


def without_dropout(monkeypatch, method):
    """Replace the method's text path by one that knows nothing of dropout."""
    if method == "CoCoOp":

        def logits(self, image):
            text = F.normalize(self.clip_model.encode_text(*self.prompt_learner(image)), dim=-1)
            return self.scale * torch.einsum("bd,bcd->bc", image, text.unflatten(0, (len(image), -1)))

        monkeypatch.setattr(CoCoOp, "logits", logits)
    elif method == "MaPLe":

        def text_features(self):
            learner = self.prompt_learner
            places = learner.context_positions()
            encoded = self.clip_model.encode_text(*learner(), dict(enumerate(learner.deep, 1)), places)
            return F.normalize(encoded, dim=-1)

        monkeypatch.setattr(MaPLe, "text_features", text_features)
    else:

        def text_features(self):
            return F.normalize(self.clip_model.encode_text(*self.prompt_learner()), dim=-1)

        monkeypatch.setattr(PromptMethod, "text_features", text_features)


@pytest.mark.parametrize("method", PROMPT_METHODS)
def test_at_rate_0_training_is_bit_for_bit_what_it_is_without_the_option(arguments, tmp_path, monkeypatch, method):
    for name, value in (("zero", 0.0), ("some", 0.3)):
        train.main(configured(arguments, method, *rate(method, value), output=tmp_path / name))
    without_dropout(monkeypatch, method)
    train.main(configured(arguments, method, *rate(method, 0.3), output=tmp_path / "without"))
    assert learned(tmp_path / "zero")
    assert same(learned(tmp_path / "zero"), learned(tmp_path / "without"))
    assert not same(learned(tmp_path / "zero"), learned(tmp_path / "some"))


@pytest.mark.parametrize("method", PROMPT_METHODS)
def test_with_dropout_a_killed_run_ends_with_the_same_parameters(arguments, tmp_path, method):
    torch.set_num_threads(1)
    train.main(configured(arguments, method, *rate(method, 0.3), output=tmp_path / "whole"))
    words = configured(arguments, method, *rate(method, 0.3), "TRAIN.PRINT_FREQ", "1", output=tmp_path / "broken")
    killed_at(RunSpec.parse(words), "epoch [3/3] batch [1/")
    train.main(words)
    assert same(learned(tmp_path / "whole"), learned(tmp_path / "broken"))


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


@pytest.mark.parametrize("method", PROMPT_METHODS)
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
