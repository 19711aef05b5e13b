"""Deep prompts: hooks that do what a rewritten forward would do, and leave nothing behind."""

import pytest
import torch

from ogkd import models
from tests.support import tiny_models

TEXTS = ["a photo of a cyst.", "a scan of the brain with a large dark mass"]


@pytest.fixture(scope="module", params=["timm and BERT", "open_clip", "transformers"])
def model(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    if request.param == "timm and BERT":
        tiny_models.biomedclip(folder)
    elif request.param == "open_clip":
        tiny_models.native_clip(folder)
    else:
        tiny_models.transformers_clip(folder)
    return models.load(folder)


def hooks(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def prompts(count, depth, width, seed=1):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(count, width, generator=generator) for _ in range(depth)]


def images_for(model):
    return torch.randn(2, 3, model.image_size, model.image_size, generator=torch.Generator().manual_seed(0))


def bert_reference(model, embeddings, mask, deep):
    bert = model.text_tower.transformer
    hidden = bert.embeddings(inputs_embeds=embeddings)
    extended = torch.zeros(mask.shape).masked_fill(~mask, float("-inf"))[:, None, None, :]
    for index, layer in enumerate(bert.encoder.layer):
        if 0 < index <= len(deep):
            prompt = deep[index - 1]
            hidden = hidden.clone()
            hidden[:, 1 : 1 + len(prompt)] = prompt
        hidden = layer(hidden, extended)
        hidden = hidden[0] if isinstance(hidden, tuple) else hidden
    return model.text_tower.projection(hidden[:, 0])


def timm_reference(model, images, deep):
    trunk = model.image_tower.visual.trunk
    hidden = trunk.norm_pre(trunk.patch_drop(trunk._pos_embed(trunk.patch_embed(images))))
    real = hidden.shape[1]
    for index, block in enumerate(trunk.blocks):
        if index < len(deep):
            hidden = torch.cat([hidden[:, :real], deep[index].expand(len(images), -1, -1)], dim=1)
        hidden = block(hidden)
    return model.image_tower.visual.head(trunk.norm(hidden[:, :real]))


@pytest.mark.parametrize("depth", [1, 2])
def test_text_prompts_replace_the_first_positions_of_later_layers(tmp_path, depth):
    model = models.load(tiny_models.biomedclip(tmp_path))
    tokens = model.tokenize(TEXTS)
    deep = prompts(3, depth, model.context_width)
    with torch.no_grad():
        embeddings = model.embed(tokens.ids)
        expected = bert_reference(model, embeddings, tokens.mask, deep)
        torch.testing.assert_close(model.encode_text(embeddings, tokens.mask, deep), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("depth", [1, 3, 6])
def test_image_prompts_are_appended_replaced_and_dropped(tmp_path, depth):
    model = models.load(tiny_models.biomedclip(tmp_path))
    images = images_for(model)
    deep = prompts(4, depth, model.vision_width)
    with torch.no_grad():
        out = model.encode_image(images, patches=True, deep_prompts=deep)
        expected = timm_reference(model, images, deep)
    torch.testing.assert_close(out.global_token, expected[:, 0], rtol=0, atol=1e-5)
    torch.testing.assert_close(out.patch_tokens, expected[:, 1:], rtol=0, atol=1e-5)


def test_prompts_of_every_layer_get_a_gradient_and_no_hook_stays(model):
    tokens = model.tokenize(TEXTS)
    text = [p.requires_grad_() for p in prompts(2, model.text_layers - 1, model.context_width)]
    image = [p.requires_grad_() for p in prompts(2, model.vision_layers, model.vision_width)]
    features = model.encode_text(model.embed(tokens.ids), tokens.mask, text)
    out = model.encode_image(images_for(model), patches=True, deep_prompts=image)
    # prompts of one layer are no input of the next, but what they did to the other tokens is
    (features.square().sum() + out.global_token.square().sum()).backward()
    assert all(prompt.grad.abs().sum() > 0 for prompt in [*text, *image])
    assert hooks(model) == 0


def test_the_number_of_tokens_and_the_features_without_prompts_stay(model):
    images, tokens = images_for(model), model.tokenize(TEXTS)
    with torch.no_grad():
        before = model.encode_image(images, patches=True)
        text = model.encode_text(model.embed(tokens.ids), tokens.mask)
        prompted = model.encode_image(images, patches=True, deep_prompts=prompts(2, 2, model.vision_width))
        deep = model.encode_text(model.embed(tokens.ids), tokens.mask, prompts(2, 1, model.context_width))
        after = model.encode_image(images, patches=True)
        empty = model.encode_text(model.embed(tokens.ids), tokens.mask, [])
    assert prompted.patch_tokens.shape == before.patch_tokens.shape
    assert (prompted.global_token - before.global_token).abs().max() > 1e-4
    assert (deep - text).abs().max() > 1e-4
    assert torch.equal(before.global_token, after.global_token)
    assert torch.equal(text, empty)


def test_an_error_inside_a_tower_leaves_no_hook(model):
    tokens = model.tokenize(TEXTS)
    elsewhere = [torch.zeros(2, model.context_width, device="meta")]
    with pytest.raises((RuntimeError, NotImplementedError, ValueError)):
        model.encode_text(model.embed(tokens.ids), tokens.mask, elsewhere)
    with pytest.raises((RuntimeError, NotImplementedError, ValueError)):
        model.encode_image(images_for(model), deep_prompts=[torch.zeros(2, model.vision_width, device="meta")])
    assert hooks(model) == 0


def test_prompts_that_do_not_fit_are_refused(model):
    tokens = model.tokenize(TEXTS)
    embeddings = model.embed(tokens.ids)
    with pytest.raises(models.ModelError, match=r"one shape \(n, \d+\)"):
        model.encode_text(embeddings, tokens.mask, [torch.zeros(2, 7)])
    with pytest.raises(models.ModelError, match="lower the prompt depth"):
        model.encode_text(embeddings, tokens.mask, prompts(2, model.text_layers, model.context_width))
    with pytest.raises(models.ModelError, match="do not fit into texts"):
        model.encode_text(embeddings, tokens.mask, prompts(embeddings.shape[1], 1, model.context_width))
    with pytest.raises(models.ModelError, match="lower the prompt depth"):
        model.encode_image(images_for(model), deep_prompts=prompts(2, model.vision_layers + 1, model.vision_width))
