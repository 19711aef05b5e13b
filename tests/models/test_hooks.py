"""What a method may change in a frozen model: vectors at layers, the projection, weight matrices."""

import pytest
import torch
from torch import nn

from ogkd import models
from ogkd.features.keys import model_key

TEXTS = ["a photo of a cyst.", "a scan of the brain with a large dark mass"]
UNFIT = (RuntimeError, NotImplementedError, ValueError)


def hooks(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def vectors(layers, count, width, seed=1):
    """Vectors for some layers, by the layer's number."""
    generator = torch.Generator().manual_seed(seed)
    return {layer: torch.randn(count, width, generator=generator) for layer in layers}


def images_for(model):
    return torch.randn(2, 3, model.image_size, model.image_size, generator=torch.Generator().manual_seed(0))


def texts_of(model):
    tokens = model.tokenize(TEXTS)
    return model.embed(tokens.ids), tokens.mask


def bert_reference(model, embeddings, mask, deep):
    bert = model.text_tower.transformer
    hidden = bert.embeddings(inputs_embeds=embeddings)
    extended = torch.zeros(mask.shape).masked_fill(~mask, float("-inf"))[:, None, None, :]
    for number, layer in enumerate(bert.encoder.layer):
        if number in deep:
            hidden = hidden.clone()
            hidden[:, 1 : 1 + deep[number].shape[-2]] = deep[number]
        hidden = layer(hidden, extended)
        hidden = hidden[0] if isinstance(hidden, tuple) else hidden
    return model.text_projection(hidden[:, 0])


def timm_reference(model, images, prompts):
    trunk = model.image_tower.visual.trunk
    hidden = trunk.norm_pre(trunk.patch_drop(trunk._pos_embed(trunk.patch_embed(images))))
    real = hidden.shape[1]
    for number, block in enumerate(trunk.blocks):
        if number in prompts:
            hidden = torch.cat([hidden[:, :real], prompts[number].expand(len(images), -1, -1)], dim=1)
        hidden = block(hidden)
    return model.image_projection(trunk.norm(hidden[:, :real]))


# Vectors at layers


@pytest.mark.parametrize("layers", [(0,), (1, 2), (2,)])
@torch.no_grad()
def test_text_vectors_replace_the_first_positions_of_any_layers(of_format, layers):
    model = of_format("biomedclip")
    embeddings, mask = texts_of(model)
    deep = vectors(layers, 3, model.context_width)
    expected = bert_reference(model, embeddings, mask, deep)
    torch.testing.assert_close(model.encode_text(embeddings, mask, deep), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("layers", [(0,), (0, 1, 2), (2, 4)])
@torch.no_grad()
def test_image_vectors_are_appended_replaced_and_dropped(of_format, layers):
    model, images = of_format("biomedclip"), images_for(of_format("biomedclip"))
    prompts = vectors(layers, 4, model.vision_width)
    out = model.encode_image(images, patches=True, prompts=prompts)
    expected = timm_reference(model, images, prompts)
    torch.testing.assert_close(out.global_token, expected[:, 0], rtol=0, atol=1e-5)
    torch.testing.assert_close(out.patch_tokens, expected[:, 1:], rtol=0, atol=1e-5)


@torch.no_grad()
def test_every_text_and_image_may_have_its_own_vectors(with_vit):
    embeddings, mask = texts_of(with_vit)
    own = torch.randn(2, 3, with_vit.context_width)
    places = torch.tensor([[1, 2, 3], [2, 3, 4]])
    together = with_vit.encode_text(embeddings, mask, {1: own}, places)
    images, prompts = images_for(with_vit), torch.randn(2, 3, with_vit.vision_width)
    seen = with_vit.encode_image(images, prompts={1: prompts}).global_token
    for row in range(2):
        one = slice(row, row + 1)
        text = with_vit.encode_text(embeddings[one], mask[one], {1: own[row]}, places[one])
        torch.testing.assert_close(text[0], together[row], rtol=0, atol=1e-5)
        image = with_vit.encode_image(images[one], prompts={1: prompts[row]}).global_token
        torch.testing.assert_close(image[0], seen[row], rtol=0, atol=1e-5)


@torch.no_grad()
def test_a_function_changes_what_a_layer_sees(with_vit):
    embeddings, mask = texts_of(with_vit)
    vector = {1: torch.randn(2, with_vit.context_width)}

    def put(hidden):
        return torch.cat([hidden[:, :1], vector[1].expand(len(hidden), -1, -1), hidden[:, 3:]], dim=1)

    by_function = with_vit.encode_text(embeddings, mask, {1: put})
    torch.testing.assert_close(by_function, with_vit.encode_text(embeddings, mask, vector))
    images = images_for(with_vit)
    doubled = with_vit.encode_image(images, prompts={2: lambda hidden: hidden.flip(0)}).global_token
    assert not torch.allclose(doubled, with_vit.encode_image(images).global_token)


def test_vectors_of_every_layer_get_a_gradient_and_no_hook_stays(with_vit):
    deep = vectors(range(1, with_vit.text_layers), 2, with_vit.context_width)
    prompts = vectors(range(with_vit.vision_layers), 2, with_vit.vision_width)
    everything = [part.requires_grad_() for part in (*deep.values(), *prompts.values())]
    features = with_vit.encode_text(*texts_of(with_vit), deep)
    out = with_vit.encode_image(images_for(with_vit), patches=True, prompts=prompts)
    assert out.patch_tokens.shape == with_vit.encode_image(images_for(with_vit), patches=True).patch_tokens.shape
    # vectors of one layer are no input of the next, but what they did to the other tokens is
    (features.square().sum() + out.global_token.square().sum()).backward()
    assert all(part.grad.abs().sum() > 0 for part in everything)
    assert hooks(with_vit) == 0


def test_an_error_inside_a_tower_leaves_no_hook(with_vit):
    with pytest.raises(UNFIT):
        with_vit.encode_text(*texts_of(with_vit), {1: torch.zeros(2, with_vit.context_width, device="meta")})
    with pytest.raises(UNFIT):
        with_vit.encode_image(images_for(with_vit), prompts={0: torch.zeros(2, with_vit.vision_width, device="meta")})
    assert hooks(with_vit) == 0


def test_vectors_that_do_not_fit_are_refused(of_format):
    model = of_format("biomedclip")
    embeddings, mask = texts_of(model)
    for deep, words in (
        ({1: torch.zeros(2, 7)}, "shape"),
        (vectors([model.text_layers], 2, model.context_width), "lower the prompt depth"),
        (vectors([1], embeddings.shape[1], model.context_width), "do not fit"),
    ):
        with pytest.raises(models.ModelError, match=words):
            model.encode_text(embeddings, mask, deep)
    with pytest.raises(models.ModelError, match="lower the prompt depth"):
        model.encode_image(images_for(model), prompts=vectors([model.vision_layers], 2, model.vision_width))
    resnet = of_format("pmc_clip")
    with pytest.raises(models.ModelError, match="not a ViT"):
        resnet.encode_image(images_for(resnet), prompts=vectors([0], 2, resnet.vision_width))


# The projection and the weights


@torch.no_grad()
def test_features_before_the_projection_give_those_after_it(any_model):
    images, text = images_for(any_model), texts_of(any_model)
    after, before = (any_model.encode_image(images, patches=True, projected=way) for way in (True, False))
    for projected, plain in zip(after, before, strict=True):
        assert plain.shape[-1] == any_model.vision_width
        torch.testing.assert_close(any_model.image_projection(plain), projected, rtol=1e-5, atol=1e-5)
    pooled = any_model.encode_text(*text, projected=False)
    assert torch.equal(any_model.text_projection(pooled), any_model.encode_text(*text))


class Scaled(nn.Module):
    """W -> s W with a learned s, 1 at first."""

    def __init__(self):
        super().__init__()
        self.s = nn.Parameter(torch.ones(()))

    def forward(self, weight):
        return self.s * weight


def test_every_matrix_of_both_towers_can_be_edited_in_a_copy(any_model):
    images, text = images_for(any_model), texts_of(any_model)
    plain = any_model.encode_image(images, patches=True).global_token, any_model.encode_text(*text)
    edits = nn.ModuleDict({name.replace(".", "/"): Scaled() for name in any_model.linear_layers()})
    edited = any_model.edited({name.replace("/", "."): edit for name, edit in edits.items()})

    def encode(model):
        return model.encode_image(images, patches=True).global_token, model.encode_text(*text)

    for before, same in zip(plain, encode(edited), strict=True):
        torch.testing.assert_close(same, before)
    sum(part.square().sum() for part in encode(edited)).backward()
    used = {name for name, edit in edits.items() if edit.s.grad is not None}
    assert all("pooler" in name for name in edits.keys() - used)  # transformers' pooler, which no tower uses
    with torch.no_grad():
        for edit in edits.values():
            edit.s.fill_(2)
        assert not torch.allclose(encode(edited)[0], plain[0])
        assert all(torch.equal(*pair) for pair in zip(encode(any_model), plain, strict=True))
    shared = {id(part) for part in any_model.parameters()}
    assert {id(part) for part in edited.parameters()} - shared == {id(edit.s) for edit in edits.values()}
    with pytest.raises(ValueError, match="cannot be cached"):
        model_key(edited)
