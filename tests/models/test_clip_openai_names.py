"""OpenAI's clip package under its own names: the models compute what open_clip computes with the same weights."""

import html
import pickle

import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.model import build_model_from_openai_state_dict, convert_weights_to_fp16
from PIL import Image
from torch import nn

import clip as openai
from clip import clip
from clip.model import CLIP, ModifiedResNet, VisionTransformer, build_model, convert_weights
from clip.simple_tokenizer import SimpleTokenizer
from ogkd import models as package
from ogkd.core import UserError
from ogkd.models.hooks import in_image, in_text
from tests.support.forked import python
from tests.support.openai_clip import PUBLISHED_CONSTANTS, RESNET, RESOLUTION, VIT, published, tiny

TEXTS = ["a photo of a cat.", "an MRI scan of the brain, &lt;axial&gt;", "x"]
IVLP = {"trainer": "IVLP", "vision_depth": 2, "language_depth": 3, "vision_ctx": 4, "language_ctx": 2}
MAPLE = {"trainer": "MaPLe", "maple_length": 2, **dict.fromkeys(list(IVLP)[1:], 0)}
TOKENIZER = SimpleTokenizer()


@pytest.fixture(scope="module", params=[VIT, RESNET], ids=["ViT", "ResNet"])
def state(request):
    torch.manual_seed(0)
    return published(tiny(request.param))


@pytest.fixture(scope="module")
def vit_state():
    torch.manual_seed(0)
    return published(tiny(VIT))


@pytest.fixture
def images():
    return torch.randn(2, 3, RESOLUTION, RESOLUTION)


def reference(state):
    """open_clip's model of a state dict."""
    return build_model_from_openai_state_dict(dict(state))


def dtypes(model):
    return {name: value.dtype for name, value in model.state_dict().items()}


@pytest.mark.parametrize("precision, tolerance", [(torch.float32, 1e-5), (torch.float16, 1e-2)], ids=["fp32", "fp16"])
@torch.no_grad()
def test_both_towers_and_the_logits_are_those_of_open_clip(state, images, precision, tolerance):
    ours, theirs = build_model(state), reference(state)
    if precision is torch.float32:
        ours.float(), theirs.float()
    tokens = clip.tokenize(TEXTS)
    found = ours.encode_image(images), ours.encode_text(tokens)
    expected = theirs.encode_image(images.to(precision)), theirs.encode_text(tokens)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype is precision and one.shape == other.shape
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance * other.abs().max().item())
    per_image, per_text = ours(images, tokens)
    image_features, text_features = theirs.float()(images, tokens)[:2]
    cosines = theirs.logit_scale.exp() * image_features @ text_features.t()
    torch.testing.assert_close(per_image.float(), cosines, rtol=0, atol=tolerance * cosines.abs().max().item() * 2)
    assert torch.equal(per_image.t(), per_text)


def test_fp16_is_where_open_clip_has_it(state):
    ours, theirs = build_model(state), reference(state)
    assert dtypes(ours) == dtypes(theirs)
    assert ours.dtype is torch.float16
    converted, expected = ours.float(), theirs.float()
    convert_weights(converted), convert_weights_to_fp16(expected)
    assert {p.dtype for p in converted.parameters()} == {torch.float16, torch.float32}
    assert dtypes(converted) == dtypes(expected)


def test_every_size_is_read_from_the_state_dict(state):
    model = build_model(state)
    assert list(model.state_dict()) == [key for key in state if key not in PUBLISHED_CONSTANTS]
    assert model.visual.input_resolution == RESOLUTION and model.context_length == 77
    assert isinstance(model.visual, (VisionTransformer, ModifiedResNet)) and not model.training
    assert set(PUBLISHED_CONSTANTS) <= set(state), "the caller's dict stays as it was"


def test_shorter_texts_than_the_context_length_have_the_same_features(vit_state):
    model = build_model(vit_state).float()
    tokens = clip.tokenize(TEXTS)
    length = int((tokens > 0).sum(1).max())
    torch.testing.assert_close(model.encode_text(tokens), model.encode_text(tokens[:, :length]), rtol=1e-4, atol=1e-5)


class TextEncoder(nn.Module):
    """A text tower as trainers of CoOp's code base take it from a model and call it, sequence first."""

    def __init__(self, clip_model):
        super().__init__()
        self.transformer = clip_model.transformer
        self.positional_embedding = clip_model.positional_embedding
        self.ln_final = clip_model.ln_final
        self.text_projection = clip_model.text_projection
        self.dtype = clip_model.dtype

    def forward(self, prompts, tokens):
        x = prompts + self.positional_embedding.type(self.dtype)
        x = self.transformer(x.permute(1, 0, 2)).permute(1, 0, 2)
        x = self.ln_final(x).type(self.dtype)
        return x[torch.arange(x.shape[0]), tokens.argmax(dim=-1)] @ self.text_projection


@pytest.mark.parametrize("details", [None, {"trainer": "CoOp", "vision_depth": 0, "language_depth": 0}])
def test_a_trainer_that_drives_the_text_tower_gets_its_features_and_gradients(vit_state, details):
    model = build_model(vit_state, details)
    tokens = clip.tokenize(TEXTS)
    embeddings = model.token_embedding(tokens).type(model.dtype)
    assert torch.equal(TextEncoder(model)(embeddings, tokens), model.encode_text(tokens))
    model.float().requires_grad_(False)
    context = embeddings[:, 1:5].detach().float().requires_grad_()
    prompts = torch.cat([embeddings[:, :1], context, embeddings[:, 5:]], dim=1).float()
    TextEncoder(model)(prompts, tokens).square().sum().backward()
    assert context.grad.abs().sum(dim=(1, 2)).all()


@torch.no_grad()
def test_prompts_of_a_towers_own_stand_where_deep_prompts_do(vit_state, images):
    model, plain = build_model(vit_state, IVLP).float(), reference(vit_state).float()
    names = [name for name, _ in model.named_parameters() if "VPT" in name]
    assert names == [
        "visual.VPT",
        "visual.transformer.resblocks.1.VPT_shallow",
        "transformer.resblocks.1.VPT_shallow",
        "transformer.resblocks.2.VPT_shallow",
    ]
    first, second, *text = (value.normal_() for name, value in model.named_parameters() if "VPT" in name)
    assert first.shape == second.shape == (4, 128) and text[0].shape == text[1].shape == (2, 128)
    with in_image(plain.visual.transformer.resblocks, {0: plain.visual.ln_pre(first), 1: second}):
        expected = plain.encode_image(images)
    torch.testing.assert_close(model.encode_image(images), expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(expected, plain.encode_image(images), atol=1e-2)
    tokens = clip.tokenize(TEXTS)
    with in_text(plain.transformer.resblocks, dict(enumerate(text, 1))):
        expected = plain.encode_text(tokens)
    torch.testing.assert_close(model.encode_text(tokens), expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(expected, plain.encode_text(tokens), atol=1e-2)


@pytest.mark.parametrize("deeper", [0, 1, 2])
@torch.no_grad()
def test_prompts_that_maple_gives_stand_where_deep_prompts_do(vit_state, images, deeper):
    model, plain = build_model(vit_state, MAPLE).float(), reference(vit_state).float()
    first, *visual = torch.randn(1 + deeper, 2, 128)
    textual = list(torch.randn(deeper, 2, 128))
    with in_image(plain.visual.transformer.resblocks, dict(enumerate([plain.visual.ln_pre(first), *visual]))):
        expected = plain.encode_image(images)
    torch.testing.assert_close(model.visual(images, first, visual), expected, rtol=1e-4, atol=1e-4)
    tokens = clip.tokenize(TEXTS)
    hidden = model.token_embedding(tokens) + model.positional_embedding
    hidden, prompts, used = model.transformer([hidden.permute(1, 0, 2), textual, 0])
    assert prompts is textual and used == deeper
    features = model.ln_final(hidden.permute(1, 0, 2))[torch.arange(3), tokens.argmax(-1)] @ model.text_projection
    with in_text(plain.transformer.resblocks, dict(enumerate(textual, 1))):
        expected = plain.encode_text(tokens)
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4)


def test_prompts_in_half_precision_learn(vit_state, images):
    model = build_model(vit_state, IVLP)
    loss = model.encode_image(images).float().square().mean() + model.encode_text(clip.tokenize(TEXTS)).float().mean()
    loss.backward()
    for name, parameter in model.named_parameters():
        if "VPT" in name:
            assert parameter.dtype is torch.float32 and parameter.grad.abs().sum() > 0, name


def test_prompts_of_the_towers_are_drawn_where_maples_code_draws_them():
    torch.manual_seed(1)
    model = CLIP(32, 32, 4, 64, 16, 16, 300, 64, 1, 3, IVLP)
    # printed by muzairkhattak/PromptSRC's clip/model.py for these arguments, and what the generator gives next
    drawn = [[0.0118050, 0.0061186], [0.0469404, -0.0255536], [0.0030243, 0.0321510], [-0.0194737, -0.0300678]]
    prompts = [value for name, value in model.named_parameters() if "VPT" in name]
    assert torch.stack([prompt[0, :2] for prompt in prompts]).tolist() == [pytest.approx(p, abs=1e-7) for p in drawn]
    assert torch.rand(1).item() == pytest.approx(0.8325, abs=1e-4)


def test_a_state_dict_with_prompts_gives_them_back(vit_state):
    trained = build_model(vit_state, IVLP)
    assert torch.equal(build_model(trained.state_dict(), IVLP).visual.VPT, trained.visual.VPT)


@pytest.mark.parametrize(
    "details, reason",
    [
        ({"trainer": "TCP"}, "the trainer 'TCP'.*model.py"),
        ({"trainer": "IVLP", "text_depth": 3}, "the key 'text_depth'.*model.py"),
    ],
)
def test_a_design_of_another_code_base_names_the_way_to_bring_its_model(vit_state, details, reason):
    with pytest.raises(UserError, match=reason):
        build_model(vit_state, details)


@pytest.mark.parametrize("details", [IVLP, MAPLE])
def test_a_resnet_takes_no_visual_prompts(details):
    with pytest.raises(UserError, match=r"ResNet.*choose a ViT"):
        build_model(tiny(RESNET, 100).state_dict(), details)


@pytest.mark.parametrize(
    "change, reason",
    [
        (lambda state: state.pop("text_projection"), "lacks text_projection"),
        (lambda state: state.pop("visual.ln_pre.bias"), "lacks visual.ln_pre.bias"),
        (lambda state: state.update(extra=torch.zeros(2)), "it has extra"),
        (lambda state: state.update({"visual.ln_pre.bias": torch.zeros(2)}), "size mismatch for visual.ln_pre.bias"),
    ],
)
def test_a_state_dict_of_another_format_is_one_sentence_that_trainers_can_catch(change, reason):
    state = tiny(VIT, 100).state_dict()
    change(state)
    with pytest.raises(RuntimeError, match=reason) as caught:
        build_model(state)
    assert isinstance(caught.value, UserError) and "\n" not in str(caught.value)


# Texts


@settings(max_examples=200)
@given(st.lists(st.text(max_size=60) | st.text("aé &;<>#\t\n'sT09.!漢🫁", max_size=60).map(html.escape), min_size=1))
def test_any_text_has_open_clips_tokens(texts):
    assert torch.equal(clip.tokenize(texts, truncate=True), open_clip.tokenize(texts))


def test_the_special_tokens_have_openais_names_in_texts_too():
    start, end = TOKENIZER.encoder["<|startoftext|>"], TOKENIZER.encoder["<|endoftext|>"]
    assert (start, end, len(TOKENIZER.encoder)) == (49406, 49407, 49408)
    assert TOKENIZER.encode("<|StartOfText|>a<|endoftext|>") == [start, *TOKENIZER.encode("a"), end]
    assert len(TOKENIZER.decoder) == 49408
    assert TOKENIZER.decode(TOKENIZER.encode("An MRI!")).split() == ["an", "mri", "!"]
    assert TOKENIZER.decode([end]) == "<|endoftext|>" and TOKENIZER.bpe("<|endoftext|>") == "<|endoftext|>"
    assert TOKENIZER.encode("<start_of_text>")[0] == TOKENIZER.encode("<")[0], "open_clip's names are ordinary text"


@given(st.integers(3, 20), st.integers(1, 30))
def test_a_text_that_is_too_long_is_refused_or_cut_before_its_end(context_length, words):
    text = " ".join(["a"] * words)
    if words + 2 <= context_length:
        assert (clip.tokenize(text, context_length) > 0).sum() == words + 2
        return
    with pytest.raises(RuntimeError, match=f"{words + 2} tokens.*truncate=True") as caught:
        clip.tokenize(text, context_length)
    assert isinstance(caught.value, UserError)
    row = clip.tokenize(text, context_length, truncate=True)[0]
    assert row.tolist() == [49406, *TOKENIZER.encode("a") * (context_length - 2), 49407]


# The module and its neighbours


@pytest.mark.slow
def test_the_names_are_there_in_any_order_beside_the_projects_own():
    orders = [
        "from clip import clip",
        "import clip; package = clip; from clip import clip; assert package.clip is clip; package.FrozenCLIP",
        "import clip.clip; from clip import clip",
        "from clip.simple_tokenizer import SimpleTokenizer as _Tokenizer; _Tokenizer(); from clip import clip",
        "from clip.model import build_model, CLIP, convert_weights, VisionTransformer; import clip.clip as clip",
        "from clip.clip import *; load, tokenize, available_models; from clip import clip",
    ]
    program = (
        "import sys\n"
        f"for order in {orders!r}:\n"
        "    for name in [name for name in sys.modules if name.split('.')[0] == 'clip']:\n"
        "        del sys.modules[name]\n"
        "    exec(order)\n"
        "    assert clip.load.__module__ == 'clip.clip', order\n"
        "    import clip\n"
        "    assert clip.load.__module__ == 'clip' and clip.tokenize.__module__ == 'clip.clip', order\n"
    )
    done = python(["-c", program])
    assert done.returncode == 0, done.stderr


def test_the_published_models_have_addresses_with_their_sha256():
    names = {"ViT-L/14@336px": "ViT-L-14-336"}
    assert clip.available_models() == list(clip._MODELS) and len(clip._MODELS) == 9
    for name, url in clip._MODELS.items():
        assert url == open_clip.get_pretrained_url(names.get(name, name.replace("/", "-")), "openai")


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(UserError, match=r'no model "ViT-B/8": choose one of RN50, .*ViT-L/14'):
        clip.load("ViT-B/8")
    with pytest.raises(UserError, match="choose one of"):
        clip._MODELS["ViT-B/8"]


def test_the_path_of_a_local_file_is_a_model(vit_state, images, tmp_path):
    path = tmp_path / "own.pt"
    torch.save(vit_state, path)
    assert clip._download(clip._MODELS[str(path)]) == str(path)
    model, preprocess = clip.load(str(path), "cpu")
    assert model.dtype is torch.float32
    assert torch.equal(model.encode_image(images), build_model(vit_state).float().encode_image(images))
    assert preprocess(Image.new("L", (100, 80))).shape == (3, RESOLUTION, RESOLUTION)


def test_images_are_scaled_cut_and_normalised_as_open_clip_does_it():
    pixels = torch.randint(0, 256, (90, 130, 3), dtype=torch.uint8).numpy()
    image = Image.fromarray(pixels)
    transform = pickle.loads(pickle.dumps(clip._transform(RESOLUTION)))
    assert torch.equal(transform(image), open_clip.image_transform(RESOLUTION, is_train=False)(image))


def test_code_of_an_archive_is_not_to_be_had():
    with pytest.raises(UserError, match=r"jit=True.*torch.jit.load"):
        clip.load("ViT-B/32", jit=True)


def test_import_clip_gives_openais_functions_and_warns_where_it_gives_this_projects(vit_state, tmp_path):
    torch.save(vit_state, tmp_path / "own.pt")
    model, preprocess = openai.load(str(tmp_path / "own.pt"), device="cpu")
    assert isinstance(model, CLIP) and preprocess(Image.new("L", (100, 80))).shape == (3, RESOLUTION, RESOLUTION)
    assert openai.available_models() == clip.available_models() and openai.tokenize("a").shape == (1, 77)
    with pytest.warns(DeprecationWarning, match=r"clip\.load is now ogkd\.models\.load"):
        assert isinstance(openai.load("PhantomCLIP"), package.FrozenCLIP)
    assert "ViT-B/16" not in package.available_models()


def test_a_file_of_openais_is_a_frozen_backbone_with_the_same_features(state, images, tmp_path):
    path = tmp_path / "own.pt"
    torch.save(state, path)
    frozen, model = package.load(path), clip.load(path, "cpu")[0]
    assert package.image_spec(path).size == frozen.image_size == RESOLUTION
    model.load_state_dict({key: state[key] for key in model.state_dict()})  # its precision is fp16 before
    torch.testing.assert_close(
        frozen.encode_image(images).global_token, model.encode_image(images), rtol=1e-4, atol=1e-4
    )
    tokens = frozen.tokenize(TEXTS)
    expected = model.encode_text(clip.tokenize(TEXTS))
    torch.testing.assert_close(
        frozen.encode_text(frozen.embed(tokens.ids), tokens.mask), expected, rtol=1e-4, atol=1e-4
    )
