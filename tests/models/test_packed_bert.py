"""PackedBert: the function of the plain tower in fp32, to rounding, with its gradient and its dropout."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from ogkd.features.precision import at_precision, has_bf16
from ogkd.models.packed_bert import PackedBert
from ogkd.tuning.prompt_learner import PromptLearner

needs_bf16 = pytest.mark.skipif(not has_bf16(torch.device("cpu")), reason="this CPU has no bf16")
NAMES = st.lists(st.sampled_from(["cyst", "normal brain", "glioma of the brain", "x"]), min_size=1, unique=True)


def features_and_gradient(encode_text, learner, rate=0.0):
    """Text features (C, D) and the context's gradient (n, width) of a fixed linear function of them."""
    ctx = learner.ctx.detach().requires_grad_()
    sentences = learner.assemble(ctx.expand(learner.n_cls, -1, -1))
    torch.manual_seed(0)
    features = encode_text(sentences, learner.mask, dropout=rate)
    weights = torch.linspace(-1, 1, features.numel()).view_as(features)
    return features.detach(), torch.autograd.grad((features * weights).sum(), ctx)[0]


def packed(model):
    """The same model with a PackedBert in fp32."""
    return at_precision(model, "fp32", packed=True)


def assert_near(mine, theirs, tolerance):
    assert float((mine - theirs).norm()) <= tolerance * float(theirs.norm())


@pytest.fixture
def model(of_format):
    return of_format("biomedclip")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=NAMES)
def test_in_fp32_features_and_gradient_are_those_of_the_plain_tower(model, names):
    learner = PromptLearner(model, names)
    mine, theirs = (features_and_gradient(one.encode_text, learner) for one in (packed(model), model))
    assert_near(mine[0], theirs[0], 1e-5)
    assert_near(mine[1], theirs[1], 1e-5)


def test_dropout_changes_features_as_much_as_the_plain_towers_and_only_for_the_call(model):
    learner = PromptLearner(model, ["cyst", "normal brain"])
    sentences, mask = learner()
    spread = []
    for one in (packed(model), model):
        exact = one.encode_text(sentences, mask)
        torch.manual_seed(0)
        drawn = torch.stack([one.encode_text(sentences, mask, dropout=0.1) for _ in range(100)])
        spread.append(float((drawn - exact).norm(dim=-1).mean().detach()))
        assert torch.equal(one.encode_text(sentences, mask), exact)
    assert spread[0] == pytest.approx(spread[1], rel=0.1)


@needs_bf16
def test_bf16_steps_are_near_fp32_and_the_same_each_time(model):
    learner, low = PromptLearner(model, ["cyst", "normal brain"]), at_precision(model, "bf16", packed=True)
    once, again = (features_and_gradient(low.encode_text, learner, 0.1) for _ in range(2))
    assert all(torch.equal(*pair) for pair in zip(once, again, strict=True))
    mine, theirs = (features_and_gradient(one.encode_text, learner) for one in (low, model))
    assert_near(mine[0], theirs[0], 0.02)
    assert_near(mine[1], theirs[1], 0.05)


def test_without_a_gradient_and_with_vectors_at_layers_and_in_an_edited_copy_it_is_the_plain_tower(model):
    learner, one = PromptLearner(model, ["cyst", "normal brain"]), packed(model)
    sentences, mask = learner()
    with torch.no_grad():
        assert torch.equal(one.encode_text(sentences, mask), model.encode_text(sentences, mask))
    deep = {1: torch.zeros(1, model.context_width)}
    assert torch.equal(one.encode_text(sentences, mask, deep), model.encode_text(sentences, mask, deep))
    features_and_gradient(one.encode_text, learner)  # its weights are arranged now
    double = nn.Module()
    double.forward = lambda weight: 2 * weight
    name = next(name for name in model.linear_layers() if "intermediate" in name)
    mine, theirs = (each.edited({name: double}).encode_text(sentences, mask) for each in (one, model))
    assert torch.equal(mine, theirs) and not torch.allclose(mine, one.encode_text(sentences, mask))


def test_towers_that_are_no_bert_stay_as_they_are(of_format):
    assert not any(PackedBert.supports(of_format(name).text_tower) for name in ("open_clip", "transformers"))
