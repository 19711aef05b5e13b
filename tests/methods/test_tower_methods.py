"""Methods that edit both towers, against values of their authors' code and against computations in float64.

The code ran unchanged at MaxZanella/CLIP-LoRA@358f0d7, HealthX-Lab/CLIP-SVD@022b1ed and HealthX-Lab/Evi-Steer@4e03284,
on the same numbers (tests/support/numbered.py) and without dropout in the text tower, with its attention classes and
adapters in timm's and transformers' layers; CLIP-LoRA with the same masks of its own dropout.
"""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.func import functional_call

from ogkd import models
from ogkd.core import UserError
from ogkd.features.precision import at_precision
from ogkd.models import image_spec
from tests.methods.test_prolip import needs_bf16
from tests.support import numbered, tiny_models
from tests.support.toy_clip import ToyCLIP
from tests.test_trainings import adam, gradient_of
from trainers.clip_lora import CLIPLoRA
from trainers.clip_svd import CLIPSVD
from trainers.evi_steer import EviSteer
from trainers.zeroshot import ZeroShot

KINDS = [CLIPLoRA, CLIPSVD, EviSteer]
LONGEST = 128  # tokens


class Masks:
    """A dropout whose n-th mask is of RandomState(n)."""

    def __init__(self):
        self.count = 0

    def __call__(self, x, rate=0.5, training=True, inplace=False):
        if not training or rate == 0:
            return x
        self.count += 1
        rows, length, width = x.shape
        numbers = np.random.RandomState(self.count).random_sample((rows, width, LONGEST))
        return x * torch.from_numpy(numbers > rate).transpose(1, 2)[:, :length] / (1 - rate)


@pytest.fixture(scope="module")
def model_of(tmp_path_factory):
    made = {}

    def of(name):
        if name not in made:
            made[name] = numbered.MAKERS[name](tmp_path_factory.mktemp(name) / "model")
        return made[name]

    return of


RECORDED = {
    ("biomedclip", CLIPLoRA): (
        [1.22908, 1.12170, 1.02612, 0.94711, 0.94090], 0.95382,
        [-0.015537, 0.016002, -0.013647, 0.041713], [0.040503, 0.020519, -0.02223, -0.016649],
    ),
    ("clip", CLIPLoRA): (
        [1.66788, 0.81846, 0.42195, 0.26844, 0.21784], 0.17974,
        [0.039185, -0.045997, 0.003173, -0.018076], [-0.011383, -0.036031, 0.050268, 0.042864],
    ),
    ("biomedclip", CLIPSVD): (
        [1.22908, 1.07965, 1.00679, 0.95047, 0.91899], 0.94475,
        [0.031665, 0.026498, 0.01556, 0.020266], [-0.049528, 0.024317, -0.00949, 0.036325],
    ),
    ("clip", CLIPSVD): (
        [1.66787, 0.80289, 0.49800, 0.38028, 0.33834], 0.21997,
        [-0.015354, 0.027137, -0.003621, 0.039367], [0.032702, 0.030477, -0.036726, 0.015034],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("towers", "kind"), RECORDED, ids=lambda part: getattr(part, "__name__", part))
def test_twenty_steps_are_those_of_the_authors_code(model_of, monkeypatch, towers, kind):
    losses, last, *learned = RECORDED[towers, kind]
    method = numbered.method_of(kind, model_of(towers))
    monkeypatch.setattr(F, "dropout", Masks())
    mine = numbered.trained(method, LR=0.005, WEIGHT_DECAY=0.01 if kind is CLIPLoRA else 0.0)
    assert mine[::4] == pytest.approx(losses, abs=5e-5)
    assert mine[-1] == pytest.approx(last, abs=5e-5)
    ends = [value for name, value in method.state_dict().items() if not name.endswith(".a")]
    for value, recorded in zip((ends[0], ends[-1]), learned, strict=True):
        torch.testing.assert_close(value.flatten()[:4], torch.tensor(recorded), rtol=1e-3, atol=1e-4)


# In float64, with whole matrices


class Both(torch.nn.Module):
    """A model's logits as a function of its weights."""

    def __init__(self, model, tokens):
        super().__init__()
        self.model, self.tokens = model, tokens

    def forward(self, images):
        text = self.model.encode_text(self.model.embed(self.tokens.ids), self.tokens.mask)
        image = self.model.encode_image(images).global_token
        return self.model.logit_scale * F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).t()


def low_rank(method, weights, learned):
    scale = method.options.ALPHA / math.sqrt(method.options.RANK)
    for name in method.edits.names:
        key = f"of.{name.replace('.', '/')}"
        change = torch.cat([b @ a for a, b in zip(learned[f"{key}.a"], learned[f"{key}.b"], strict=True)])
        yield name, weights[name] + scale * change


def other_singular_values(method, weights, learned):
    for name in method.edits.names:
        rows = []
        for part, delta in zip(
            weights[name].chunk(3 if "qkv" in name else 1), learned[f"of.{name.replace('.', '/')}.delta"], strict=True
        ):
            u, s, v = np.linalg.svd(part.numpy(), full_matrices=False)
            rows.append(torch.from_numpy(u) * (torch.from_numpy(s) + delta) @ torch.from_numpy(v))
        yield name, torch.cat(rows)


@pytest.mark.parametrize(
    ("kind", "options", "weights_of"),
    [
        (CLIPLoRA, {"DROPOUT": 0.0, "RANK": 3, "ALPHA": 2.0}, low_rank),
        (CLIPSVD, {"FIRST_LAYER": 1}, other_singular_values),
    ],
)
def test_both_towers_learn_as_whole_matrices_do_in_float64(tmp_path, kind, options, weights_of):
    model = numbered.biomedclip(tmp_path / "model")
    method = numbered.method_of(kind, model, **options)
    start = {name: value.detach().clone() for name, value in method.state_dict().items()}
    assert ("blocks.0." in "".join(method.edits.names)) == (kind is CLIPLoRA)
    data, steps = numbered.batches(model), 6
    numbered.trained(method, epochs=3, LR=0.01, WEIGHT_DECAY=0.1)

    whole = Both(model.double(), method.tokens)
    weights = {name.removeprefix("model."): value for name, value in whole.named_parameters()}

    def loss(learned, images, label):
        changed = {f"model.{name}": value for name, value in weights_of(method, weights, learned)}
        return F.cross_entropy(functional_call(whole, changed, (images,)), label)

    least = 1e-6
    rates = [least + (0.01 - least) / 2 * (1 + math.cos(math.pi * step / steps)) for step in range(steps)]
    expected = adam(start, rates, gradient_of(loss), data, decay=0.1, by_step=True)
    for name, value in method.state_dict().items():
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-3, atol=1e-4)
        assert (value - start[name]).abs().max() > 1e-3


# Promises beside the losses


@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=needs_bf16)])
@pytest.mark.parametrize("towers", ["biomedclip", "native_clip", "transformers_clip", "transformers_siglip"])
@pytest.mark.parametrize("kind", KINDS)
def test_untrained_it_is_the_zero_shot_classifier_in_every_tower(tmp_path, kind, towers, precision):
    getattr(tiny_models, towers)(tmp_path / "model")
    model = at_precision(models.load(tmp_path / "model"), precision)
    images = numbered.numbers(1, 3, 3, model.image_size, model.image_size)
    numbered.assert_zero_shot(numbered.method_of(kind, model), numbered.method_of(ZeroShot, model), images, precision)


@pytest.mark.parametrize("kind", KINDS)
def test_after_a_step_it_answers_by_what_it_learned_also_without_gradients(model_of, kind):
    method = numbered.method_of(kind, model_of("clip"), **({"DROPOUT": 0.0} if kind is CLIPLoRA else {}))
    images, label = numbered.batches(method.clip_model)[0]

    def tested():
        with torch.no_grad():
            classify = method.classifier()
            return classify(method.encode(images).global_token)

    before, start = tested(), {name: value.clone() for name, value in method.state_dict().items()}
    numbered.trained(method, epochs=2, LR=0.01)
    assert (tested() - before).abs().max() > 0.02
    torch.testing.assert_close(tested(), method.losses(images, label)[1].detach(), rtol=1e-4, atol=1e-4)
    learned = tested()
    method.load_state_dict(start)
    assert torch.equal(tested(), before)
    assert not torch.equal(learned, before)


@pytest.mark.parametrize(("shots", "steps", "most", "epochs"), [(16, 6, 8000, 1334), (1, 1, 8000, 500), (4, 3, 5, 5)])
def test_clip_lora_trains_five_hundred_steps_per_shot_in_whole_epochs(model_of, shots, steps, most, epochs):
    method = numbered.method_of(CLIPLoRA, model_of("clip"))
    method.prepare(SimpleNamespace(train_labels=torch.zeros(3 * shots)))
    assert method.epochs(most, steps) == epochs


@pytest.mark.parametrize("kind", KINDS)
def test_towers_without_attention_layers_are_refused(tmp_path, kind):
    tiny_models.pmc_clip(tmp_path)
    for model in (models.load(tmp_path), ToyCLIP({}, 6, image_spec("PhantomCLIP"))):
        with pytest.raises(UserError, match=r"image tower .* no attention layers for (CLIP|Evi)-"):
            numbered.method_of(kind, model)


def test_layers_that_a_tower_lacks_are_refused(model_of):
    with pytest.raises(UserError, match="FIRST_LAYER is 3"):
        numbered.method_of(CLIPSVD, model_of("clip"), FIRST_LAYER=3)


def test_a_matrix_that_its_layer_uses_in_another_way_is_not_silently_left_as_it_is(model_of):
    method = numbered.method_of(CLIPLoRA, model_of("biomedclip"))
    for module in method.changed.image_tower.modules():
        module._forward_hooks.clear()
    with pytest.raises(UserError, match=r"CLIP-LoRA cannot change image_tower"):
        numbered.trained(method, epochs=1)


# Evi-Steer


def evi_steer(model, names=numbered.NAMES, **options):
    """With every part at work: B and b are not 0."""
    method = numbered.method_of(EviSteer, model, names, LAMBDA_KL=0.1, **options)
    with torch.no_grad():
        for seed, (name, value) in enumerate(sorted(method.named_parameters()), start=400):
            if name.endswith("up.weight"):
                value.copy_(0.3 * numbered.numbers(seed, *value.shape))
            elif name.endswith(".b"):
                value.fill_(0.2)
    return method


@pytest.mark.parametrize(
    ("t_max", "losses", "last", "image", "text"),
    [
        (
            0, [2.00512, 1.58397, 1.40162, 1.28206, 1.22369], 1.21888,
            [0.050713, 0.371692, 0.122755, 0.222931], [-0.142454, -0.162969, 0.096757, 0.253091],
        ),
        (
            8, [2.00512, 1.61072, 1.54467, 1.51471, 1.33501], 1.18252,
            [0.057469, 0.378661, 0.122307, 0.23154], [-0.140919, -0.160782, 0.091581, 0.260009],
        ),
    ],
)  # fmt: skip
def test_twenty_steps_of_evi_steer_are_those_of_its_code(model_of, t_max, losses, last, image, text):
    method = evi_steer(model_of("biomedclip"), T_MAX=t_max)
    mine = numbered.trained(method, LR=0.005)
    assert mine[::4] == pytest.approx(losses, abs=5e-5)
    assert mine[-1] == pytest.approx(last, abs=5e-5)
    for tower, recorded in (("image", image), ("text", text)):
        adapter = method.adapters[tower]["2"]
        learned = torch.cat([adapter.up.weight.flatten()[:3], adapter.b]).detach()
        torch.testing.assert_close(learned, torch.tensor(recorded), rtol=1e-3, atol=1e-4)


def test_evi_steers_images_depend_on_the_names_of_the_classes_and_its_cosine_ends_with_the_training(model_of):
    model = model_of("biomedclip")
    images, _ = numbered.batches(model)[0]
    method, other = evi_steer(model), evi_steer(model, names=[*numbered.NAMES, "edema"])
    other.load_state_dict(method.state_dict())
    with torch.no_grad():
        few, more = (one.eval().encode(images).global_token for one in (method, other))
        assert torch.equal(few, method.encode(images).global_token)
    assert 1e-5 < (few - more).abs().max() < 0.1
    for t_max, last in ((0, 1e-6), (4, 0.01)):
        optim = numbered.defaults()["OPTIM"] | {"NAME": "adamw", "MAX_EPOCH": 4, "WARMUP_EPOCH": 0, "LR": 0.01}
        optimiser, schedule = evi_steer(model, T_MAX=t_max).optimiser(numbered.CfgNode(optim), 2)
        for _ in range(8):
            optimiser.step()
            schedule.step()
        assert schedule.get_last_lr()[0] == pytest.approx(last)
