"""Models in open_clip's format: the features are open_clip's own, whatever way they were loaded."""

import json
import shutil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.tokenizer import SimpleTokenizer

from ogkd import models
from tests.support import tiny_models

TEXTS = ["a photo of a cyst.", "an axial scan of the brain with a large irregular mass, dark at its centre", "tumor"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_models.biomedclip(tmp_path_factory.mktemp("biomedclip"))


@pytest.fixture(scope="module")
def model(folder):
    return models.load(folder)


@pytest.fixture(scope="module")
def plain(folder, tmp_path_factory):
    return tiny_models.plain_biomedclip(folder, tmp_path_factory.mktemp("bert"))


def images_for(model, count=3, seed=0):
    return torch.randn(count, 3, model.image_size, model.image_size, generator=torch.Generator().manual_seed(seed))


def padded_ids(tokens, length):
    ids = torch.zeros(len(tokens.ids), length, dtype=torch.long)
    ids[:, : tokens.ids.shape[1]] = tokens.ids
    return ids


def test_patches_come_in_the_same_forward_after_final_norm_and_projection(model, plain):
    images = images_for(model)
    with torch.no_grad():
        out = model.encode_image(images, patches=True)
        tokens = plain.visual.trunk.forward_features(images)
        expected = plain.visual.head(tokens)
        torch.testing.assert_close(model.encode_image(images), (plain.encode_image(images), None), rtol=0, atol=0)
    torch.testing.assert_close(out.global_token, expected[:, 0], rtol=0, atol=1e-6)
    torch.testing.assert_close(out.patch_tokens, expected[:, 1:], rtol=0, atol=1e-6)


def test_text_cut_to_its_length_has_the_features_of_text_padded_to_the_context(model, plain):
    tokens = model.tokenize(TEXTS)
    assert tokens.ids.shape[1] < model.context_length
    with torch.no_grad():
        expected = plain.encode_text(padded_ids(tokens, model.context_length))
        torch.testing.assert_close(model.encode_text(model.embed(tokens.ids), tokens.mask), expected, rtol=0, atol=1e-5)


def test_attributes_describe_the_checkpoint(model, folder):
    assert (model.embed_dim, model.context_width, model.context_length, model.text_layers) == (32, 64, 64, 3)
    assert (model.vision_width, model.vision_layers, model.image_size) == (64, 6, 160)
    assert model.logit_scale == pytest.approx(1 / 0.07)
    assert model.name == folder.name
    assert (model.dtype, model.device.type) == (torch.float32, "cpu")
    assert models.image_spec(folder)[:3] == (model.image_size, model.mean, model.std)


def test_a_loaded_model_is_frozen_and_stays_in_eval_mode(model):
    assert not any(parameter.requires_grad for parameter in model.parameters())
    model.train()
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize("file_format", ["bin", "fp16"])
def test_every_file_format_holds_the_same_model(tmp_path, folder, model, file_format):
    state = tiny_models.biomedclip_state(folder)
    if file_format == "fp16":
        state = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    loaded = models.load(tiny_models.with_state(folder, tmp_path / "other", state))
    assert loaded.dtype == torch.float32
    images = images_for(model)
    with torch.no_grad():
        tolerance = 0 if file_format == "bin" else 0.05
        torch.testing.assert_close(
            loaded.encode_image(images).global_token, model.encode_image(images).global_token, rtol=0, atol=tolerance
        )
    assert loaded.fingerprint != model.fingerprint


def test_the_folders_own_config_of_the_text_tower_is_used(tmp_path, folder, model):
    other = tmp_path / "two-heads"
    shutil.copytree(folder, other)
    (other / "config.json").write_text(json.dumps({"model_type": "bert", **tiny_models.BERT, "num_attention_heads": 2,
                                                   "max_position_embeddings": 64}))  # fmt: skip
    loaded = models.load(other)
    tokens = model.tokenize(TEXTS)
    with torch.no_grad():
        ours = model.encode_text(model.embed(tokens.ids), tokens.mask)
        theirs = loaded.encode_text(loaded.embed(tokens.ids), tokens.mask)
    assert loaded.fingerprint != model.fingerprint
    assert (ours - theirs).abs().max() > 1e-4


def test_the_pooler_that_some_published_files_have_is_not_needed(tmp_path, folder):
    state = tiny_models.biomedclip_state(folder)
    state["text.transformer.pooler.dense.weight"] = torch.zeros(64, 64)
    state["text.transformer.pooler.dense.bias"] = torch.zeros(64)
    content = {"epoch": 1, "state_dict": {f"module.{key}": value for key, value in state.items()}}
    models.load(tiny_models.with_state(folder, tmp_path / "pooler", content))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("visual.head.proj.weight"), "1 missing, first visual.head.proj.weight"),
        (lambda s: s.update(extra=torch.zeros(1)), "1 unexpected, first extra"),
        (lambda s: s.update({"visual.head.proj.weight": torch.zeros(3, 3)}), "1 of another shape, first visual.head"),
    ],
)
def test_weights_of_another_model_are_refused_with_the_first_difference(tmp_path, folder, change, message):
    state = tiny_models.biomedclip_state(folder)
    change(state)
    other = tiny_models.with_state(folder, tmp_path / "other", state)
    with pytest.raises(models.ModelError, match=message):
        models.load(other)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text(max_size=20), min_size=1, max_size=4))
def test_any_text_has_tokens_and_its_neighbours_do_not_change_them(model, texts):
    tokens = model.tokenize(texts)
    assert tokens.mask.any(dim=1).all()
    assert tokens.mask.sum(dim=1).max() == tokens.ids.shape[1]
    for row, text in enumerate(texts):
        alone = model.tokenize([text])
        assert tokens.ids[row, tokens.mask[row]].tolist() == alone.ids[0].tolist()


def test_a_text_beyond_the_context_is_reported_by_name(model):
    with pytest.raises(models.ModelError, match=r'"cyst cyst .*has 102 tokens .* at most 64: shorten it'):
        model.tokenize(["fine", "cyst " * 100])


def test_what_has_another_size_is_refused(model):
    with pytest.raises(models.ModelError, match=r"takes images of shape \(B, 3, 160, 160\), not \(2, 3, 64, 64\)"):
        model.encode_image(torch.zeros(2, 3, 64, 64))
    with pytest.raises(models.ModelError, match=r"65 tokens .* at most 64"):
        model.encode_text(torch.zeros(1, 65, 64), torch.ones(1, 65, dtype=torch.bool))
    assert model.tokenize([]).ids.shape == (0, 0)


def test_the_fingerprint_changes_with_weights_and_with_configuration(tmp_path, folder, model):
    assert models.load(folder).fingerprint == model.fingerprint
    reseeded = models.load(tiny_models.biomedclip(tmp_path / "seed", seed=1))
    other = tmp_path / "mean"
    shutil.copytree(folder, other)
    tiny_models.edit(other / "open_clip_config.json", preprocess_cfg={"mean": [0.5, 0.5, 0.5]})
    assert len({model.fingerprint, reseeded.fingerprint, models.load(other).fingerprint}) == 3


@pytest.fixture(scope="module", params=[False, True], ids=["vit", "resnet"])
def native(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("native")
    plain = tiny_models.native_clip(folder, resnet=request.param)
    return models.load(folder), plain


def test_clips_own_towers_have_open_clips_features(native):
    model, plain = native
    images = images_for(model)
    padded = SimpleTokenizer()(TEXTS)
    tokens = model.tokenize(TEXTS)
    assert tokens.ids.tolist() == padded[:, : tokens.ids.shape[1]].tolist()
    with torch.no_grad():
        # nn.MultiheadAttention takes another way when nothing requires a gradient, hence no equality to the bit
        torch.testing.assert_close(
            model.encode_image(images).global_token, plain.encode_image(images), rtol=0, atol=2e-6
        )
        features = model.encode_text(model.embed(tokens.ids), tokens.mask)
        torch.testing.assert_close(features, plain.encode_text(padded), rtol=0, atol=1e-5)
    assert model.mean == tuple(tiny_models.PREPROCESS["mean"])


def test_patches_of_clips_own_vit_get_final_norm_and_projection(tmp_path):
    plain = tiny_models.native_clip(tmp_path)
    model = models.load(tmp_path)
    images = images_for(model)
    with torch.no_grad():
        out = model.encode_image(images, patches=True)
        visual = plain.visual
        expected = visual.ln_post(visual.transformer(visual._embeds(images))) @ visual.proj
    torch.testing.assert_close(out.global_token, expected[:, 0], rtol=0, atol=1e-6)
    torch.testing.assert_close(out.patch_tokens, expected[:, 1:], rtol=0, atol=1e-6)
