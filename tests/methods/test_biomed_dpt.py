"""Biomed-DPT: its sentences, and image features with zero tokens, which are cached beside the plain ones."""

import pytest
import torch
import torch.nn.functional as F
from yacs.config import CfgNode

from ogkd import models
from ogkd.core import UserError
from tests.support import tiny_models
from tests.support.check_method import SmallRuns
from trainers.biomed_dpt import BiomedDPT, ModalityPromptLearner

NAMES = ["cyst", "glioma tumor", "lung squamous cell carcinoma"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return models.load(str(tiny_models.biomedclip(tmp_path_factory.mktemp("weights"))))


def made(model, **options):
    return BiomedDPT(CfgNode(BiomedDPT.options.defaults() | options), model, NAMES)


@pytest.mark.parametrize(("words", "n_ctx"), [("a photo of a", 4), ("a chest photo of a", 3)])
@pytest.mark.parametrize("position", ["end", "middle", "front", "published"])
def test_an_untrained_prompt_is_its_sentence_whose_first_tokens_alone_are_learned(model, words, n_ctx, position):
    learner = ModalityPromptLearner(model, NAMES, n_ctx, words, position=position, ending="{} in the lung.")
    embedded, mask = learner()
    places = learner.context_positions()
    for row, name in enumerate(NAMES):
        start, *pieces, end = model.tokenize([f"{words} {name} in the lung."]).ids[0].tolist()
        context, rest = pieces[:n_ctx], pieces[n_ctx:]
        spare, length = len(words.split()) - n_ctx, int(model.tokenize([name]).mask.sum()) - 2
        moved = {"end": [], "published": rest[:1]}.get(position, rest[spare : spare + length])
        at = 0 if position == "front" else n_ctx // 2
        left = [*rest[1:]] if position == "published" else [*rest[:spare], *rest[spare + len(moved) :]]
        ids = torch.tensor([[start, *context[:at], *moved, *context[at:], *left, end]])
        torch.testing.assert_close(embedded[row, : int(mask[row].sum())], model.embed(ids)[0], rtol=0, atol=0)
        torch.testing.assert_close(embedded[row, places[row]], learner.ctx, rtol=0, atol=0)


def test_the_method_reads_the_words_behind_the_class_name(model):
    options = BiomedDPT.options.defaults()
    learner = ModalityPromptLearner.of(model, NAMES, CfgNode(options), ending="{} in the lung.")
    embedded = made(model, ENDING="{} in the lung.").prompt_learner()[0]
    torch.testing.assert_close(embedded, learner()[0], rtol=0, atol=0)
    assert embedded.shape[1] > made(model).prompt_learner()[0].shape[1]


def test_zeros_stand_in_place_of_the_first_patches_before_each_layer(model):
    images = torch.randn(2, 3, model.image_size, model.image_size, generator=torch.Generator().manual_seed(0))
    trunk, projection = model.image_tower.visual.trunk, model.image_projection
    with torch.no_grad():
        hidden = trunk.norm_pre(trunk._pos_embed(trunk.patch_embed(images)))
        for block in trunk.blocks:
            hidden[:, 1:5] = 0
            hidden = block(hidden)
        expected = F.normalize(projection(trunk.fc_norm(trunk.norm(hidden)[:, 0])), dim=-1)
    method = made(model)
    got = method.encode(images, patches=True)
    torch.testing.assert_close(got.global_token, expected, rtol=1e-5, atol=1e-6)
    plain = F.normalize(model.encode_image(images).global_token, dim=-1)
    assert not torch.allclose(plain, expected, atol=1e-3)
    assert torch.equal(made(model, ZERO_TOKENS=0).encode(images).global_token, plain)
    appended = made(model, REPLACE=False).encode(images, patches=True)
    assert not torch.allclose(appended.global_token, expected, atol=1e-4)
    assert appended.patch_tokens.shape == got.patch_tokens.shape


def test_features_with_zero_tokens_are_cached_beside_the_plain_ones(tmp_path, data):
    runs = SmallRuns("BiomedDPT", tmp_path, data, tmp_path / "cache")
    short = ("OPTIM.MAX_EPOCH", "1")
    assert runs.run("first", *short)["novel"]
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").glob("*.safetensors")}
    runs.run("second", *short)
    assert files == {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").glob("*.safetensors")}
    runs.run("plain", *short, "TRAINER.BIOMEDDPT.ZERO_TOKENS", "0")
    assert (runs.predictions("plain").logits != runs.predictions("first").logits).all()


def test_what_does_not_fit_is_refused_with_the_remedy(tmp_path, model):
    tiny_models.pmc_clip(tmp_path)
    with pytest.raises(UserError, match="ZERO_TOKENS 0"):
        made(models.load(str(tmp_path)))
    with pytest.raises(UserError, match="ENDING"):
        BiomedDPT.options.check(BiomedDPT.options.defaults() | {"ENDING": "in the lung."})
    with pytest.raises(UserError, match="CTX_INIT"):
        made(model, N_CTX=5)
