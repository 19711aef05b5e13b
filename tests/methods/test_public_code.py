"""Methods on features against values that their authors' code computed of the same features.

The code ran as published, unchanged, at mrflogs/ICLR24@560fe21 (few-shot and base-to-novel), jusiro/CLAP@dbdf409,
jusiro/SS-Text@4ff4897 and astra-vision/ProLIP@b43e795.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from yacs.config import CfgNode

from ogkd.models import ImageFeatures, image_spec
from ogkd.runs.config import defaults
from tests.support.toy_clip import ToyCLIP
from trainers.clap import CLAP, ZSLP
from trainers.gda import gaussians
from trainers.prolip import ProLIP
from trainers.ss_text import SSText, SSTextPlus, prototypes

NAMES, WIDTH, INNER, SHOTS, SCALE = "abcd", 16, 24, 6, 100.0
LABELS = torch.arange(len(NAMES)).repeat(SHOTS)
UNEVEN = torch.tensor([row for row in range(len(LABELS)) if LABELS[row] != 3 or row <= 10])
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def drawn():
    """Text (C, D), tokens before the projection (N, W), a projection (D, W) and the features of the images (N, D)."""
    random = np.random.RandomState(25)  # whose numbers are the same in every version
    text, centres, noise, projection = (
        torch.from_numpy(random.standard_normal(shape)).float()
        for shape in ((4, WIDTH), (4, INNER), (len(LABELS), INNER), (WIDTH, INNER))
    )
    tokens, projection = 0.7 * centres[LABELS] + noise, projection / INNER**0.5
    return text, tokens, projection, F.normalize(tokens @ projection.t(), dim=-1)


TEXT, TOKENS, PROJECTION, IMAGES = drawn()
UNIT = F.normalize(TEXT, dim=-1)


def toy():
    model = ToyCLIP({f"a photo of a {name}.": row for name, row in zip(NAMES, TEXT, strict=True)}, WIDTH,
                    image_spec("PhantomCLIP"), SCALE)  # fmt: skip
    model.image_tower.projection = torch.nn.Linear(INNER, WIDTH, bias=False).requires_grad_(False)
    model.image_tower.projection.weight.data = PROJECTION.clone()
    return model


def trained(kind, batches, epochs, **optim):
    """The losses of each step, and the method that learned in them."""
    method = kind(CfgNode(kind.options.defaults()), toy(), list(NAMES))
    task = SimpleNamespace(
        samples=lambda _: (IMAGES, LABELS), train_labels=LABELS,
        cfg=SimpleNamespace(TEST=SimpleNamespace(FINAL_MODEL="last_step")),
    )  # fmt: skip
    method.prepare(task)
    optim = dict(defaults()["OPTIM"]) | {"MAX_EPOCH": epochs, "WARMUP_EPOCH": 0, "WEIGHT_DECAY": 0.0} | optim
    optimiser, schedule = method.optimiser(CfgNode(optim), len(batches))
    losses = []
    for _ in range(epochs):
        for inputs, label in batches:
            terms, _ = method.losses(ImageFeatures(inputs, None), label)
            losses.append(sum(terms.values()).item())
            method.zero_grad()
            method.backward(terms)
            optimiser.step()
        schedule.step()
    return losses, method


def assert_close(values, recorded):
    torch.testing.assert_close(torch.as_tensor(values).detach().float(), torch.tensor(recorded), **CLOSE)


@pytest.mark.parametrize(
    ("shrinkage", "recorded"),
    [("ks", [36.99881, 11.43029, -18.81949, -11.70845]), ("none", [100.78537, -229.34592, 24.55305, 3.70736])],
)
def test_gda_gives_the_logits_of_its_few_shot_and_base_to_novel_code(shrinkage, recorded):
    weight, bias = gaussians(IMAGES, LABELS, len(NAMES), shrinkage)
    alpha = 1.0
    logits = SCALE * IMAGES @ UNIT.t() + alpha * (IMAGES @ weight + bias)
    torch.testing.assert_close(logits[0], torch.tensor(recorded), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("kind", "some_losses", "last", "first_prototype"),
    [
        (ZSLP, [13.68358, 0.56822, 0.00528, 0.00023], 0.0, [3.20692, 2.48608, 2.34254, -2.11624]),
        (CLAP, [13.68358, 2.77184, 5.83328, 4.82427], 2.65902, [0.8021, 1.35359, -0.19084, -0.91308]),
    ],
)
def test_zs_lp_and_clap_learn_what_their_code_learns_in_twenty_steps(kind, some_losses, last, first_prototype):
    batches = [(IMAGES[:14], LABELS[:14]), (IMAGES[14:], LABELS[14:])]
    losses, method = trained(kind, batches, 10, LR=0.1, LR_SCHEDULER="single_step")
    assert_close(losses[::5], some_losses)
    assert losses[-1] == pytest.approx(last, abs=1e-4)
    assert_close(method.prototypes[0, :4], first_prototype)


@pytest.mark.parametrize(
    ("weights", "repel", "recorded"),
    [
        ("total", False, [14.26353, 66.22234, 20.16007, 19.97074]),
        ("shots", True, [1.30413, 6.74438, 2.17366, 2.23291]),
        ("confidence", False, [1.44844, 7.05347, 2.24979, 2.35225]),
    ],
)
def test_ss_texts_prototypes_of_uneven_classes_are_those_of_its_code(weights, repel, recorded):
    got = prototypes(IMAGES[UNEVEN], LABELS[UNEVEN], UNIT, SCALE, weights, repel)
    assert_close(got[3, :4], recorded)
    assert (SSText.options["WEIGHTS"].default, SSText.options["REPEL"].default) == ("total", False)
    assert (SSTextPlus.options["WEIGHTS"].default, SSTextPlus.options["REPEL"].default) == ("shots", True)


@pytest.mark.parametrize("weights", ["total", "shots", "confidence"])
def test_a_class_without_images_keeps_its_text_as_ss_texts_prototype(weights):
    there = LABELS != 2
    got = prototypes(IMAGES[there], LABELS[there], UNIT, SCALE, weights)
    assert torch.equal(got[2], UNIT[2])
    assert (got[there[:4].nonzero()] != UNIT[there[:4].nonzero()]).any()


def test_prolip_learns_what_its_code_learns_in_twenty_steps():
    losses, method = trained(ProLIP, [(TOKENS, LABELS)], 20, NAME="adam", LR=0.01, ADAM_EPS=1e-4, LR_SCHEDULER="cosine")
    assert_close(losses[::5], [14.28636, 1.86172, 0.23549, 0.2715])
    assert losses[-1] == pytest.approx(0.27592, abs=1e-4)
    assert_close(method.projection.weight[0, :4], [0.03775, 0.17684, 0.44046, -0.14525])
