"""PubMedCLIP's, PMC-CLIP's and KEEP's formats: the same interface, the features of the public implementations."""

import pytest
import torch

from ogkd import models
from tests.support import tiny_models

TEXTS = ["the cyst", "a scan of the brain with a large dark mass", "of"]


def images_for(model, count=3):
    return torch.randn(count, 3, model.image_size, model.image_size, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def pubmedclip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pubmedclip")
    plain = tiny_models.transformers_clip(folder)
    return models.load(folder), plain, folder


@pytest.fixture(scope="module")
def pmc(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pmc")
    plain = tiny_models.pmc_clip(folder)
    return models.load(folder), plain, folder


def test_pubmedclip_gradients_reach_the_embeddings_of_real_tokens_alone(pubmedclip):
    model, *_ = pubmedclip
    tokens = model.tokenize(TEXTS)
    embeddings = model.embed(tokens.ids).requires_grad_()
    model.encode_text(embeddings, tokens.mask).sum().backward()
    assert embeddings.grad[tokens.mask].abs().sum() > 0
    assert embeddings.grad[~tokens.mask].abs().sum() == 0


def test_pubmedclip_patches_get_final_norm_and_projection(pubmedclip):
    model, plain, _ = pubmedclip
    images = images_for(model)
    with torch.no_grad():
        out = model.encode_image(images, patches=True)
        vision = plain.vision_model
        tokens = vision.post_layernorm(vision(pixel_values=images).last_hidden_state)
        expected = plain.visual_projection(tokens)
    torch.testing.assert_close(out.global_token, expected[:, 0], rtol=0, atol=1e-5)
    torch.testing.assert_close(out.patch_tokens, expected[:, 1:], rtol=0, atol=1e-5)


def test_pmc_clip_has_the_features_of_its_training(pmc):
    model, plain, _ = pmc
    images, tokens = images_for(model), model.tokenize(TEXTS)
    with torch.no_grad():
        hidden = plain.text_encoder(tokens.ids, attention_mask=tokens.mask.long()).last_hidden_state
        expected = hidden[:, 0] @ plain.text_projection
        text = model.encode_text(model.embed(tokens.ids), tokens.mask)
        image = model.encode_image(images).global_token
        torch.testing.assert_close(image, plain.visual(images), rtol=0, atol=1e-5)
    torch.testing.assert_close(text, expected, rtol=0, atol=1e-5)
    assert model.logit_scale == pytest.approx(plain.logit_scale.exp().item())
    assert (model.context_length, model.embed_dim, model.vision_layers) == (77, 24, 0)


def test_a_resnets_patch_is_what_its_pool_gives_for_that_position_alone(pmc):
    model, plain, _ = pmc
    images = images_for(model)
    with torch.no_grad():
        out = model.encode_image(images, patches=True)
        features = plain.visual.forward_intermediates(images, indices=1)["image_intermediates"][-1]
        pool = plain.visual.attnpool
        # queries and keys of zero: the pool attends to all positions and to their mean alike
        for projection in (pool.q_proj, pool.k_proj):
            projection.weight.zero_()
            projection.bias.zero_()
        pooled = pool(features)
        mean_position = features.flatten(2).mean(dim=2) + pool.positional_embedding[0]
        first = pool.c_proj(pool.v_proj(mean_position))
    count = out.patch_tokens.shape[1]
    assert count == features.shape[2] * features.shape[3] == 4
    expected = (first + out.patch_tokens.sum(dim=1)) / (count + 1)
    torch.testing.assert_close(pooled, expected, rtol=0, atol=1e-5)


def test_keep_has_the_features_of_its_own_code(tmp_path):
    plain = tiny_models.keep(tmp_path)
    model = models.load(tmp_path)
    images, tokens = images_for(model), model.tokenize(TEXTS)
    with torch.no_grad():
        out = model.encode_image(images, patches=True)
        tokens_of_images = plain.visual_head(plain.visual.forward_features(images))
        text = plain.text(tokens.ids, attention_mask=tokens.mask.long()).pooler_output
        torch.testing.assert_close(out.global_token, plain.visual_head(plain.visual(images)), rtol=0, atol=1e-5)
        torch.testing.assert_close(out.patch_tokens, tokens_of_images[:, 1:], rtol=0, atol=1e-5)
        torch.testing.assert_close(model.encode_text(model.embed(tokens.ids), tokens.mask), text, rtol=0, atol=1e-5)
    assert model.logit_scale == pytest.approx(1 / 0.04, rel=1e-3)
    assert models.image_spec(tmp_path)[:2] == (32, (0.485, 0.456, 0.406))


def test_a_checkpoint_of_something_else_is_not_taken_for_pmc_clip(tmp_path):
    torch.save({"state_dict": {"weight": torch.zeros(2)}}, tmp_path / "checkpoint.pt")
    with pytest.raises(models.ModelError, match=r"not weights of PMC-CLIP: text_projection is missing"):
        models.load(tmp_path)


def test_the_published_pmc_clip_wants_clips_images():
    assert models.image_spec("PMC-CLIP") == models.image_spec("CLIP")
    assert models.image_spec("PMC-CLIP").size == 224
