"""Context vectors are in the right place in every class's sentence."""

import pytest
import torch

from ogkd import models
from ogkd.core import UserError
from ogkd.tuning.prompt_learner import PromptLearner
from tests.support import tiny_models

NAMES = ["cyst", "glioma_tumor", "lung squamous cell carcinoma"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return models.load(str(tiny_models.biomedclip(tmp_path_factory.mktemp("weights"))))


def sentence(model, words):
    tokens = model.tokenize([words])
    return model.embed(tokens.ids)[0]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("position", "words"), [("end", "a photo of a {}."), ("middle", "a photo {} of a."), ("front", "{} a photo of a.")]
)
def test_an_untrained_prompt_is_the_embedded_sentence(model, position, words, name):
    learner = PromptLearner(model, NAMES, position=position)
    embedded, mask = learner()
    row = NAMES.index(name)
    expected = sentence(model, words.format(name.replace("_", " ")))
    assert int(mask[row].sum()) == len(expected)
    torch.testing.assert_close(embedded[row, : len(expected)], expected, rtol=0, atol=0)


@pytest.mark.parametrize("position", ["end", "middle", "front"])
@pytest.mark.parametrize("csc", [False, True])
def test_contexts_stand_at_their_positions_and_get_the_gradient(model, position, csc):
    learner = PromptLearner(model, NAMES, position=position, csc=csc)
    embedded, mask = learner()
    places = learner.context_positions()
    for row in range(len(NAMES)):
        ctx = learner.ctx[row] if csc else learner.ctx
        torch.testing.assert_close(embedded[row, places[row]], ctx, rtol=0, atol=0)
    model.encode_text(embedded, mask).sum().backward()
    assert learner.ctx.grad.shape == learner.ctx.shape
    assert (learner.ctx.grad != 0).any()


def test_the_state_holds_the_context_alone(model):
    assert list(PromptLearner(model, NAMES, position="front").state_dict()) == ["ctx"]


def test_class_specific_contexts_are_small_random_numbers(model):
    ctx = PromptLearner(model, NAMES, n_ctx=16, csc=True).ctx
    assert ctx.shape == (3, 16, model.context_width)
    assert 0.015 < ctx.std() < 0.025


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"n_ctx": 5}, "CTX_INIT"),
        ({"n_ctx": 0}, "N_CTX"),
        ({"position": "left"}, "CLASS_TOKEN_POSITION"),
        ({"n_ctx": 200, "ctx_init": ""}, "tokens"),
    ],
)
def test_settings_that_do_not_fit_are_named(model, arguments, words):
    with pytest.raises(UserError, match=words):
        PromptLearner(model, NAMES, **arguments)
