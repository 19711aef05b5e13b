"""Dropout in the frozen text tower: what transformers' train mode computes, for one call, and nothing left behind."""

import copy
import math

import pytest
import torch
from transformers import BertConfig, BertModel

from ogkd.models import load
from ogkd.models.text_dropout import TextDropout
from ogkd.models.text_towers import TransformersText
from tests.support import tiny_models

TEXTS = ["a photo of a cyst.", "an axial scan of the brain with a large irregular mass, dark at its centre"]
MAKERS = {
    "biomedclip": tiny_models.biomedclip,
    "pmc_clip": tiny_models.pmc_clip,
    "open_clip": tiny_models.native_clip,
    "transformers": tiny_models.transformers_clip,
}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """One model per format, by the names of MAKERS."""
    folders = {name: tmp_path_factory.mktemp(name) for name in MAKERS}
    for name, make in MAKERS.items():
        make(folders[name])
    return {name: load(folder) for name, folder in folders.items()}


@pytest.fixture
def model(models):
    return models["biomedclip"]


@pytest.fixture(params=["biomedclip", "pmc_clip"])
def bert_model(request, models):
    return models[request.param]


def own_bert(model, kernel, rate=0.1):
    """transformers' own BertModel with the weights of the model's text tower, attention `kernel` and dropout `rate`."""
    source = model.text_tower.transformer
    config = copy.deepcopy(source.config)
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = rate
    bert = BertModel._from_config(config, attn_implementation=kernel, add_pooling_layer=False)
    bert.load_state_dict(source.state_dict())
    return bert


def attention(model, kernel):
    """A copy of the model whose text tower has attention `kernel`."""
    other = copy.deepcopy(model)
    tower = other.text_tower
    other.text_tower = TransformersText(own_bert(model, kernel), tower.pooler, tower.projection)
    return other.requires_grad_(False).train(False)


def encode(model, texts=TEXTS, **options):
    tokens = model.tokenize(texts)
    with torch.no_grad():
        return model.encode_text(model.embed(tokens.ids), tokens.mask, **options)


def seeded(model, seed, **options):
    torch.manual_seed(seed)
    return encode(model, **options)


def in_train_mode(model, rate, seed, texts=TEXTS, kernel="sdpa"):
    """The features as transformers computes them in train mode."""
    tokens = model.tokenize(texts)
    bert = own_bert(model, kernel, rate).train()
    torch.manual_seed(seed)
    with torch.no_grad():
        hidden = bert(inputs_embeds=model.embed(tokens.ids), attention_mask=tokens.mask.long()).last_hidden_state
        return model.text_tower.projection(hidden[:, 0])


def state_of(model):
    """All that dropout could leave behind: each module's mode and its plain attributes, such as rates."""
    return [
        (name, module.training, {k: v for k, v in vars(module).items() if isinstance(v, (int, float))})
        for name, module in model.named_modules()
    ]


@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_the_same_generator_state_gives_the_values_of_transformers_in_train_mode(bert_model, kernel, rate):
    model = attention(bert_model, kernel)
    assert torch.equal(seeded(model, 3, dropout=rate), in_train_mode(model, rate, seed=3, kernel=kernel))


def test_a_bert_has_one_dropout_after_the_embeddings_and_three_per_layer(bert_model):
    assert len(bert_model.text_tower.dropout.modules) == 1 + 3 * bert_model.text_layers


def test_a_bert_base_has_37():
    with torch.device("meta"):
        assert len(TextDropout(BertModel(BertConfig())).modules) == 37


def test_without_dropout_features_and_gradients_are_those_of_the_bare_tower(bert_model):
    tokens = bert_model.tokenize(TEXTS)
    results = []
    for call in (
        lambda e: bert_model.encode_text(e, tokens.mask),
        lambda e: bert_model.encode_text(e, tokens.mask, dropout=0.0),
        lambda e: bert_model.text_tower(e, tokens.mask, None),
    ):
        encode(bert_model, dropout=0.3)  # a call with dropout in between changes nothing
        embeddings = bert_model.embed(tokens.ids).clone().requires_grad_()
        features = call(embeddings)
        features.square().sum().backward()
        results.append((features.detach(), embeddings.grad))
    for features, gradient in results[:2]:
        assert torch.equal(features, results[2][0])
        assert torch.equal(gradient, results[2][1])


def test_without_dropout_no_random_number_is_drawn(bert_model):
    before = torch.get_rng_state()
    encode(bert_model, dropout=0.0)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_seed_gives_its_features_again_and_another_seed_others(bert_model):
    first = seeded(bert_model, 1, dropout=0.1)
    assert torch.equal(first, seeded(bert_model, 1, dropout=0.1))
    assert (first - seeded(bert_model, 2, dropout=0.1)).abs().max() > 1e-3


def test_the_generators_seed_is_the_callers(bert_model):
    """Two calls in a row draw different numbers: no seed is set inside."""
    torch.manual_seed(1)
    first, second = encode(bert_model, dropout=0.1), encode(bert_model, dropout=0.1)
    assert not torch.equal(first, second)


def test_mean_and_variance_are_those_of_train_mode(model):
    """Over N = 4000 passes each, of independent seeds and per feature (32 of them).

    Bounds: means differ by at most 5 standard errors. A sample variance of a bell-shaped variable has the relative
    standard error sqrt(2 / N), a ratio of two sqrt(4 / N) = 0.032; with 5 of them, and half as much again for heavier
    tails, the ratio is within 1 +- 0.24. Dropout's mean lies near the value without it: within the spread of one pass.
    """
    passes, repeats = 4000, 2000
    text = TEXTS[:1] * repeats

    def many(draw):
        return torch.cat([draw(seed) for seed in range(passes // repeats)]).double()

    def ours_of(seed):
        torch.manual_seed(100 + seed)
        return encode(model, text, dropout=0.1)

    ours, theirs = many(ours_of), many(lambda seed: in_train_mode(model, 0.1, 200 + seed, text))
    error = ((ours.var(dim=0) + theirs.var(dim=0)) / passes).sqrt()
    assert ((ours.mean(dim=0) - theirs.mean(dim=0)).abs() / error).max() < 5
    ratio = ours.var(dim=0) / theirs.var(dim=0)
    assert (ratio - 1).abs().max() < 1.5 * 5 * math.sqrt(4 / passes)
    assert ((ours.mean(dim=0) - encode(model, text[:1])[0]).abs() / ours.std(dim=0)).max() < 1


def test_the_rate_is_the_arguments_whatever_the_configuration_says(tmp_path):
    rates = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0}
    folder = tiny_models.biomedclip(tmp_path)
    plain = load(folder)
    tiny_models.write_text_config(folder, **rates)
    other = load(folder)
    assert other.has_text_dropout
    assert torch.equal(seeded(other, 5, dropout=0.2), seeded(plain, 5, dropout=0.2))
    assert torch.equal(encode(other), encode(plain))


def test_gradients_reach_the_word_embeddings_through_dropout(bert_model):
    tokens = bert_model.tokenize(TEXTS)
    embeddings = bert_model.embed(tokens.ids).requires_grad_()
    bert_model.encode_text(embeddings, tokens.mask, dropout=0.1).square().sum().backward()
    assert embeddings.grad[tokens.mask].abs().sum() > 0
    assert embeddings.grad[~tokens.mask].abs().sum() == 0
    assert all(parameter.grad is None for parameter in bert_model.parameters())


def test_deep_prompts_and_dropout_work_together(model):
    deep = [torch.randn(2, model.context_width)]
    assert torch.equal(
        seeded(model, 1, deep_prompts=deep, dropout=0.1), seeded(model, 1, deep_prompts=deep, dropout=0.1)
    )
    assert not torch.equal(seeded(model, 1, deep_prompts=deep, dropout=0.1), seeded(model, 1, dropout=0.1))


def test_the_model_is_as_before_after_a_call_and_after_an_exception(bert_model):
    before = state_of(bert_model)
    encode(bert_model, dropout=0.4)
    assert state_of(bert_model) == before
    elsewhere = [torch.zeros(2, bert_model.context_width, device="meta")]
    with pytest.raises((RuntimeError, NotImplementedError, ValueError)):
        encode(bert_model, deep_prompts=elsewhere, dropout=0.4)
    assert state_of(bert_model) == before
    assert not any(module.training for module in bert_model.modules())


def test_only_the_modules_that_drop_are_in_train_mode_meanwhile(bert_model):
    inside = []
    layer = bert_model.text_tower.transformer.encoder.layer[0]
    handle = layer.register_forward_pre_hook(lambda *_: inside.extend(m for m in bert_model.modules() if m.training))
    encode(bert_model, dropout=0.1)
    handle.remove()
    assert {m for m in inside if isinstance(m, torch.nn.Dropout)} == set(bert_model.text_tower.dropout.modules)
    for module in inside:
        drops = isinstance(module, torch.nn.Dropout)
        assert drops or any(isinstance(child, torch.nn.Dropout) for child in module.children())


def test_a_copy_of_a_model_has_its_own_dropout(model):
    other = copy.deepcopy(model)
    assert set(other.text_tower.dropout.modules).isdisjoint(model.modules())
    assert torch.equal(seeded(other, 1, dropout=0.1), seeded(model, 1, dropout=0.1))


@pytest.mark.parametrize("name", ["open_clip", "transformers"])
def test_clips_own_towers_have_none_and_compute_without(models, name):
    model = models[name]
    assert not model.has_text_dropout
    assert torch.equal(encode(model, dropout=0.5), encode(model))


def test_a_berts_tower_has_it(bert_model):
    assert bert_model.has_text_dropout


def test_transformers_clip_with_attention_dropout_drops_as_in_train_mode(tmp_path):
    plain = tiny_models.transformers_clip(tmp_path, attention_dropout=0.3)
    model = models.load(tmp_path)
    assert model.has_text_dropout
    tokens = model.tokenize(TEXTS[:1])
    plain.text_model.train()
    torch.manual_seed(2)
    with torch.no_grad():
        hidden = plain.text_model(input_ids=tokens.ids).last_hidden_state[:, -1]
        expected = plain.text_projection(hidden)
    torch.testing.assert_close(seeded(model, 2, texts=TEXTS[:1], dropout=0.3), expected, rtol=0, atol=1e-5)
    assert not torch.equal(expected, encode(model, TEXTS[:1]))


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1, 2.5, math.nan, math.inf])
@pytest.mark.parametrize("name", ["biomedclip", "open_clip"])
def test_a_rate_outside_0_to_1_is_refused(models, name, rate):
    with pytest.raises(models.ModelError, match="rate must be at least 0 and below 1"):
        encode(models[name], dropout=rate)
