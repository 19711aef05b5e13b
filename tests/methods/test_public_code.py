"""Methods on features against values that their authors' code computed of the same features.

The code ran as published, unchanged, at mrflogs/ICLR24@560fe21 (few-shot and base-to-novel), jusiro/CLAP@dbdf409,
jusiro/SS-Text@4ff4897 and astra-vision/ProLIP@b43e795; of tongdiedie/Biomed-prompt-learning@6a87457,
muzairkhattak/PromptSRC@bb95c77 and htyao89/Textual-based_Class-aware_prompt_tuning@bd97bec the forward pass with the
loss, around the same towers and in fp32.
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
from trainers.biomed_dpt import BiomedDPT
from trainers.clap import CLAP, ZSLP
from trainers.gda import gaussians, synthesised
from trainers.prolip import ProLIP
from trainers.prompt_src import PromptSRC
from trainers.ss_text import SSText, SSTextPlus, prototypes
from trainers.tcp import TCP

NAMES, WIDTH, INNER, SHOTS, SCALE = "abcd", 16, 24, 6, 100.0
LABELS = torch.arange(len(NAMES)).repeat(SHOTS)
UNEVEN = torch.tensor([row for row in range(len(LABELS)) if LABELS[row] != 3 or row <= 10])
CLOSE = {"rtol": 1e-4, "atol": 1e-4}


def random_data():
    """Text (C, D), tokens before the projection (N, W), a projection (D, W) and the features of the images (N, D)."""
    random = np.random.RandomState(25)  # whose numbers are the same in every version
    text, centres, noise, projection = (
        torch.from_numpy(random.standard_normal(shape)).float()
        for shape in ((4, WIDTH), (4, INNER), (len(LABELS), INNER), (WIDTH, INNER))
    )
    tokens, projection = 0.7 * centres[LABELS] + noise, projection / INNER**0.5
    return text, tokens, projection, F.normalize(tokens @ projection.t(), dim=-1)


TEXT, TOKENS, PROJECTION, IMAGES = random_data()
UNIT = F.normalize(TEXT, dim=-1)


def toy():
    model = ToyCLIP({f"a photo of a {name}.": row for name, row in zip(NAMES, TEXT, strict=True)}, WIDTH,
                    image_spec("PhantomCLIP"), SCALE)  # fmt: skip
    model.image_tower.projection = torch.nn.Linear(INNER, WIDTH, bias=False).requires_grad_(False)
    model.image_tower.projection.weight.data = PROJECTION.clone()
    return model


PICTURES, SENTENCES = (
    torch.from_numpy(np.random.RandomState(26).standard_normal(shape)).float()
    for shape in ((8, 3, image_spec("PhantomCLIP").size, image_spec("PhantomCLIP").size), (4, 5, WIDTH))
)


def prompted(kind):
    """A method that learns a prompt, its batches and its optimiser, before the first of twenty steps."""
    options = {"TEXT_DROPOUT": 0.0, "N_CTX": 4, "CTX_INIT": ""} | ({"PREC": "fp32"} if "PREC" in kind.options else {})
    method = kind(CfgNode(kind.options.defaults() | options), toy(), list(NAMES))
    random = np.random.RandomState(27)
    with torch.no_grad():
        for _, parameter in sorted(method.named_parameters()):
            parameter.copy_(torch.from_numpy(0.5 * random.standard_normal(parameter.shape)))
    method.prototypes = F.normalize(F.normalize(SENTENCES, dim=-1).mean(1), dim=-1)
    inputs = [ImageFeatures(IMAGES[rows], None) for rows in (slice(0, 8), slice(8, 16))]
    inputs = inputs if method.frozen_images else [PICTURES[:4], PICTURES[4:]]
    labels = (LABELS[:8], LABELS[8:16]) if method.frozen_images else (LABELS[:4], LABELS[4:8])
    return method, list(zip(inputs, labels, strict=True)), torch.optim.SGD(method.parameters(), lr=0.01, momentum=0.9)


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


def test_gda_synthesises_classes_without_images_as_its_base_to_novel_code():
    """Its lines with the width in place of 512."""
    images = F.normalize(torch.cat([IMAGES, IMAGES.flip(1), -IMAGES]) + 0.1, dim=-1)
    text = F.normalize(TEXT[:3].flip(1), dim=-1)
    weight, bias = synthesised(images, text)
    logits = IMAGES[0] @ weight + bias - np.log(3)
    assert_close(logits, [-1.3425, -1.38306, -1.44206])
    assert_close(SCALE * IMAGES[0] @ text.t() + logits, [-32.80447, -25.07603, -36.84272])


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
    ("weights", "repel", "text", "recorded"),
    [
        ("total", False, UNIT, [14.26353, 66.22234, 20.16007, 19.97074]),
        ("shots", True, UNIT, [1.30413, 6.74438, 2.17366, 2.23291]),
        ("confidence", False, UNIT, [1.44844, 7.05347, 2.24979, 2.35225]),
        # Texts of other classes, of which the zero-shot model is sure: at least 0.001 counts.
        ("confidence", False, UNIT.roll(1, 0), [712.40906, 3287.27051, 995.12982, 978.92065]),
    ],
)
def test_ss_texts_prototypes_of_uneven_classes_are_those_of_its_code(weights, repel, text, recorded):
    got = prototypes(IMAGES[UNEVEN], LABELS[UNEVEN], text, SCALE, weights, repel)
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


@pytest.mark.parametrize(
    ("kind", "some_losses", "last", "learned"),
    [
        (BiomedDPT, [15.95026, 14.80628, 10.24502, 10.00518], 9.36348, {"ctx": [2.9338, -0.49957, 0.59609, 0.3681]}),
        (
            PromptSRC, [12.38127, 12.21564, 11.4002, 11.45349], 11.27045,
            {
                "ctx": [0.55837, -0.10463, 0.27535, 0.06869],
                "deep.1": [-0.12185, -0.05152, 0.11458, -0.11959],
                "visual_prompts.vectors.0": [0.49572, -0.21817, -0.76828, 0.67221],
            },
        ),
        (
            TCP, [11.2354, 10.26025, 8.40771, 7.50921], 6.98219,
            {
                "ctx": [0.78749, -0.00796, 0.43837, 0.31253],
                "meta_net.linear1.weight": [-0.12791, -0.41428, -0.04866, -0.70563],
                "meta_net.linear2.bias": [-0.22982, 0.34737, 1.44271, 1.22812],
            },
        ),
    ],
)  # fmt: skip
def test_prompts_are_what_their_code_learns_in_twenty_steps(kind, some_losses, last, learned):
    method, batches, optimiser = prompted(kind)
    if kind is PromptSRC:  # whose code averages features of any length
        method.prototypes = F.normalize(SENTENCES.mean(1), dim=-1)
    losses = []
    for step in range(20):
        terms, _ = method.losses(*batches[step % 2])
        losses.append(sum(terms.values()).item())
        method.zero_grad()
        method.backward(terms)
        optimiser.step()
    assert_close(losses[::5], some_losses)
    assert losses[-1] == pytest.approx(last, abs=1e-4)
    for name, values in learned.items():
        assert_close(method.state_dict()[name].flatten()[:4], values)
