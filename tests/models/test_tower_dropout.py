"""Dropout in the frozen text tower: what transformers' train mode computes, for one call, and nothing left behind."""

import copy
import math

import pytest
import torch
from transformers import BertConfig, BertModel

from ogkd import models
from ogkd.models.hooks import TextDropout
from ogkd.models.towers import TransformersText
from tests.support import tiny_models

TEXTS = ["a photo of a cyst.", "an axial scan of the brain with a large irregular mass, dark at its centre"]


@pytest.fixture(params=["biomedclip", "pmc_clip"])
def bert_model(request, of_format):
    return of_format(request.param)


def own_bert(model, kernel, rate=0.1):
    """transformers' own BertModel with the weights of the model's text tower, attention `kernel` and dropout `rate`."""
    source = model.text_tower.transformer
    config = copy.deepcopy(source.config)
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = rate
    bert = BertModel._from_config(config, attn_implementation=kernel, add_pooling_layer=False)
    bert.load_state_dict(source.state_dict())
    return bert


def encode(model, seed=0, texts=TEXTS, **options):
    tokens = model.tokenize(texts)
    torch.manual_seed(seed)
    with torch.no_grad():
        return model.encode_text(model.embed(tokens.ids), tokens.mask, **options)


def state_of(model):
    """All that dropout could leave behind: each module's mode and its plain attributes, such as rates."""
    return [
        (name, module.training, {k: v for k, v in vars(module).items() if isinstance(v, (int, float))})
        for name, module in model.named_modules()
    ]


@pytest.mark.parametrize(("kernel", "rate"), [("sdpa", 0.1), ("eager", 0.5)])
def test_the_same_seed_gives_the_values_of_transformers_in_train_mode(bert_model, kernel, rate):
    model, tower = copy.deepcopy(bert_model), bert_model.text_tower
    model.text_tower = TransformersText(own_bert(model, kernel), tower.pooler, tower.projection)
    model.requires_grad_(False).train(False)
    tokens, bert = model.tokenize(TEXTS), own_bert(model, kernel, rate).train()
    torch.manual_seed(3)
    with torch.no_grad():
        hidden = bert(inputs_embeds=model.embed(tokens.ids), attention_mask=tokens.mask.long()).last_hidden_state
        expected = model.text_projection(hidden[:, 0])
    assert torch.equal(encode(model, 3, dropout=rate), expected)
    assert not torch.equal(encode(model, 4, dropout=rate), expected)


def test_a_bert_base_has_37_dropouts():
    with torch.device("meta"):
        assert len(TextDropout(BertModel(BertConfig())).modules) == 37


def test_without_dropout_no_random_number_is_drawn(bert_model):
    plain = encode(bert_model)
    before = torch.get_rng_state()
    assert torch.equal(encode(bert_model, dropout=0.0), plain)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_rate_is_the_arguments_whatever_the_configuration_says(tmp_path):
    folder = tiny_models.biomedclip(tmp_path)
    plain = models.load(folder)
    tiny_models.write_text_config(folder, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0)
    other = models.load(folder)
    assert other.has_text_dropout
    assert torch.equal(encode(other, 5, dropout=0.2), encode(plain, 5, dropout=0.2))


def test_gradients_reach_the_word_embeddings_through_dropout(bert_model):
    tokens = bert_model.tokenize(TEXTS)
    embeddings = bert_model.embed(tokens.ids).requires_grad_()
    bert_model.encode_text(embeddings, tokens.mask, dropout=0.1).square().sum().backward()
    assert embeddings.grad[tokens.mask].abs().sum() > 0
    assert embeddings.grad[~tokens.mask].abs().sum() == 0


def test_the_model_is_as_before_after_a_call_and_after_an_exception(bert_model):
    before = state_of(bert_model)
    encode(bert_model, dropout=0.4)
    assert state_of(bert_model) == before
    with pytest.raises((RuntimeError, NotImplementedError, ValueError)):
        encode(bert_model, deep={1: torch.zeros(2, bert_model.context_width, device="meta")}, dropout=0.4)
    assert state_of(bert_model) == before


def test_a_copy_of_a_model_has_its_own_dropout(bert_model):
    other = copy.deepcopy(bert_model)
    assert set(other.text_tower.dropout.modules).isdisjoint(bert_model.modules())
    assert torch.equal(encode(other, 1, dropout=0.1), encode(bert_model, 1, dropout=0.1))


@pytest.mark.parametrize("name", ["open_clip", "transformers"])
def test_clips_own_towers_have_none_and_compute_without(of_format, name):
    model = of_format(name)
    assert not model.has_text_dropout
    assert torch.equal(encode(model, dropout=0.5), encode(model))


def test_transformers_clip_with_attention_dropout_drops_as_in_train_mode(tmp_path):
    plain = tiny_models.transformers_clip(tmp_path, attention_dropout=0.3)
    model = models.load(tmp_path)
    assert model.has_text_dropout
    plain.text_model.train()
    torch.manual_seed(2)
    with torch.no_grad():
        hidden = plain.text_model(input_ids=model.tokenize(TEXTS[:1]).ids).last_hidden_state[:, -1]
        expected = plain.text_projection(hidden)
    torch.testing.assert_close(encode(model, 2, TEXTS[:1], dropout=0.3), expected, rtol=0, atol=1e-5)
    assert not torch.equal(expected, encode(model, 2, TEXTS[:1]))


@pytest.mark.parametrize("rate", [-0.1, 1.0, math.nan])
def test_a_rate_outside_0_to_1_is_refused(of_format, rate):
    with pytest.raises(models.ModelError, match="at least 0 and below 1"):
        encode(of_format("open_clip"), dropout=rate)
