"""PromptSRC, IVLP and VPT: vectors in both towers, and a mean over epochs."""

import pytest
import torch
import torch.nn.functional as F
from yacs.config import CfgNode

from ogkd import models
from ogkd.core import UserError
from tests.support import tiny_models
from trainers.prompt_src import IVLP, VPT, PromptSRC

NAMES = ["cyst", "glioma tumor", "normal"]


def made(kind, model, **options):
    return kind(CfgNode(kind.options.defaults() | options), model, NAMES)


def test_the_first_vectors_pass_the_norm_before_the_layers_as_the_patches_do(tmp_path):
    tiny_models.native_clip(tmp_path)
    model = models.load(str(tmp_path))
    method = made(VPT, model, N_CTX_VISION=3, DEPTH_VISION=2)
    first, second = method.prompt_learner.visual_prompts.vectors
    images = torch.randn(2, 3, model.image_size, model.image_size, generator=torch.Generator().manual_seed(0))
    tower = model.image_tower.visual
    with torch.no_grad():
        patches = tower.conv1(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([tower.class_embedding.expand(2, 1, -1), patches], dim=1) + tower.positional_embedding
        hidden = tower.ln_pre(torch.cat([tokens, first.expand(2, -1, -1)], dim=1))
        for number, block in enumerate(tower.transformer.resblocks):
            if number == 1:
                hidden = torch.cat([hidden[:, :-3], second.expand(2, -1, -1)], dim=1)
            hidden = block(hidden)
        expected = F.normalize(model.image_projection(tower.ln_post(hidden[:, 0])), dim=-1)
        torch.testing.assert_close(method.encode(images).global_token, expected, rtol=1e-5, atol=1e-6)


def test_words_beyond_the_context_stay_in_the_sentence(tmp_path):
    tiny_models.native_clip(tmp_path)
    model = models.load(str(tmp_path))
    sentences, mask = made(IVLP, model, N_CTX=2).prompt_learner()
    tokens = model.tokenize([f"a photo of a {name}." for name in NAMES])
    torch.testing.assert_close(sentences, model.embed(tokens.ids))
    assert torch.equal(mask, tokens.mask)


@pytest.mark.parametrize(("epochs", "mean", "std"), [(20, 15, 1), (50, 30, 30), (1, 15, 1), (3, 900, 0.5)])
def test_epochs_weigh_in_the_mean_by_a_normal_density_also_far_from_its_centre(tmp_path, epochs, mean, std):
    tiny_models.native_clip(tmp_path)
    method = made(PromptSRC, models.load(str(tmp_path)), GPA_MEAN=mean, GPA_STD=std)
    weights = torch.tensor([method.epoch_weight(epoch, epochs) for epoch in range(epochs)]).double()
    exponents = -((torch.arange(1, epochs + 1).double() - mean) ** 2) / (2 * std**2)
    torch.testing.assert_close(weights, exponents.softmax(0), rtol=1e-5, atol=1e-9)


def test_a_tower_without_layers_for_prompts_is_refused(tmp_path):
    tiny_models.pmc_clip(tmp_path)
    with pytest.raises(UserError, match="not a ViT"):
        made(IVLP, models.load(str(tmp_path)))
