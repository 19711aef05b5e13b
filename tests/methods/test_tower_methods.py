"""Methods that change both towers, against values of their authors' code and against computations in float64.

The code ran unchanged at MaxZanella/CLIP-LoRA@358f0d7, HealthX-Lab/CLIP-SVD@022b1ed, HealthX-Lab/Evi-Steer@4e03284 and
muzairkhattak/multimodal-prompt-learning@69bce21 (MaPLe), on the same numbers (tests/support/numbered.py) and without
dropout in the text tower, with its attention classes and adapters in timm's and transformers' layers; CLIP-LoRA with
the same masks of its own dropout, MaPLe in fp32.
"""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Gamma, kl_divergence
from torch.func import functional_call
from yacs.config import CfgNode

from ogkd import models
from ogkd.core import UserError
from ogkd.features.cache import FeatureCache
from ogkd.features.precision import at_precision
from ogkd.models import image_spec
from tests.methods.test_prolip import needs_bf16
from tests.support import numbered, tiny_models
from tests.support.toy_clip import ToyCLIP
from tests.test_trainings import adam, gradient_of
from trainers.clip_lora import CLIPLoRA
from trainers.clip_svd import CLIPSVD
from trainers.evi_steer import EviSteer
from trainers.maple import MaPLe
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
    ("clip", MaPLe): (
        [1.26459, 0.61725, 0.80130, 0.31550, 0.27711], 0.27557,
        [-0.118536, 0.147372, 0.078592, -0.00248], [-0.225142, 0.010832, -0.18592, -0.094448],
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


@pytest.mark.parametrize(
    ("shots", "images", "steps", "most", "epochs"),
    [(16, 16, 6, 8000, 1334), (1, 1, 1, 8000, 500), (4, 4, 3, 5, 5), (-1, 1000, 94, 8000, 86), (-1, 4, 2, 8000, 1000)],
)
def test_clip_lora_trains_five_hundred_steps_per_shot_in_whole_epochs(model_of, shots, images, steps, most, epochs):
    method = numbered.method_of(CLIPLoRA, model_of("clip"))
    cfg = CfgNode({"DATASET": {"NUM_SHOTS": shots}})
    method.prepare(SimpleNamespace(cfg=cfg, train_labels=torch.zeros(3 * images)))
    assert method.epochs(most, steps) == epochs


@pytest.mark.parametrize("kind", KINDS)
def test_towers_without_attention_layers_are_refused(tmp_path, kind):
    tiny_models.pmc_clip(tmp_path)
    for model in (models.load(tmp_path), ToyCLIP({}, 6, image_spec("PhantomCLIP"))):
        with pytest.raises(UserError, match=r"image tower .* no attention layers for (CLIP|Evi)-"):
            numbered.method_of(kind, model)


def test_clip_svd_decomposes_a_model_once_and_again_what_was_corrupted(model_of, tmp_path, monkeypatch, capsys):
    cache = FeatureCache(tmp_path)
    options = CfgNode(dict(CLIPSVD.options.defaults()))

    def vectors(cache):
        edits = CLIPSVD(options, model_of("biomedclip"), numbered.NAMES, cache=cache).edits.of.values()
        return [vectors for edit in edits for vectors in (edit.u, edit.v)]

    def alike(some, others):
        return all(torch.equal(a, b) and a.stride() == b.stride() for a, b in zip(some, others, strict=True))

    expected = vectors(FeatureCache(None))
    assert alike(vectors(cache), expected)
    first, *_ = files = sorted(tmp_path.iterdir())
    assert len(files) == len(expected) // 2
    first.write_bytes(first.read_bytes()[:-4] + b"1234")
    assert alike(vectors(cache), expected) and "corrupt" in capsys.readouterr().out
    monkeypatch.delattr(torch.linalg, "svd")
    assert alike(vectors(cache), expected)


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


def of_layers(state, images, ids, learned, rank):
    """Logits and the divergence of Evi-Steer in OpenAI's CLIP, layer by layer, from the paper's formulas: whole towers
    in float64, without the code of models or methods."""

    def norm(x, name):
        return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"])

    def linear(x, name):
        return x @ state[f"{name}.weight"].t() + state[f"{name}.bias"]

    def block(x, name, mask):
        heads = x.shape[-1] // 64
        packed = norm(x, f"{name}.ln_1") @ state[f"{name}.attn.in_proj_weight"].t() + state[f"{name}.attn.in_proj_bias"]
        q, k, v = (part.unflatten(-1, (heads, 64)).transpose(1, 2) for part in packed.chunk(3, -1))
        seen = ((q @ k.mT / 8 + mask).softmax(-1) @ v).transpose(1, 2).flatten(2)
        x = x + linear(seen, f"{name}.attn.out_proj")
        inner = linear(norm(x, f"{name}.ln_2"), f"{name}.mlp.c_fc")
        return x + linear(inner * torch.sigmoid(1.702 * inner), f"{name}.mlp.c_proj")

    def steered(x, tower, layer, text_belief=None):
        part = {name: learned[f"{tower}.{layer}.{name}"] for name in ("down.weight", "up.weight", "gate.weight", "b")}
        low, evidence = (x @ part["down.weight"].t()).split(rank, -1)
        alpha = 1 + torch.log1p(torch.exp(evidence**2)) + 1e-6
        belief = 1 - 1 / alpha
        if text_belief is not None:  # Dempster's rule of the belief "update" and the rest, "unknown"
            conflict = text_belief * (1 - belief) + (1 - text_belief) * belief
            belief = text_belief * belief / (1 - conflict + 1e-6)
        confidence = torch.sigmoid(belief @ part["gate.weight"].t())
        return x + torch.sigmoid(part["b"]) * confidence * (low @ part["up.weight"].t()), alpha

    text = state["token_embedding.weight"][ids] + state["positional_embedding"][: ids.shape[1]]
    ends, rows = ids.argmax(-1), torch.arange(len(ids))
    causal = torch.full((ids.shape[1],) * 2, -math.inf).triu(1)
    kernels = state["visual.conv1.weight"]
    image = F.conv2d(images, kernels, stride=kernels.shape[-1]).flatten(2).transpose(1, 2)
    first = state["visual.class_embedding"].expand(len(image), 1, -1)
    image = norm(torch.cat([first, image], 1) + state["visual.positional_embedding"], "visual.ln_pre")
    alphas = {"image": [], "text": []}
    for layer in range(3):
        if layer:
            text, of_text = steered(text, "text", layer)
            of_text = of_text[rows, ends]
            image, of_image = steered(image, "image", layer, (1 - 1 / of_text).mean(0))
            alphas["text"].append(of_text), alphas["image"].append(of_image)
        text = block(text, f"transformer.resblocks.{layer}", causal)
        image = block(image, f"visual.transformer.resblocks.{layer}", 0)
    text = norm(text, "ln_final")[rows, ends] @ state["text_projection"]
    image = norm(image[:, 0], "visual.ln_post") @ state["visual.proj"]
    logits = state["logit_scale"].exp() * F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).t()
    one = torch.tensor(1.0, dtype=torch.float64)
    divergences = [
        torch.stack([kl_divergence(Gamma(alpha, one), Gamma(one, one)).mean() for alpha in of_tower]).mean()
        for of_tower in alphas.values()
    ]
    return logits, sum(divergences)


def test_evi_steer_learns_and_classifies_in_clip_as_the_papers_formulas_do_in_float64(tmp_path):
    model = numbered.clip(tmp_path)
    state = {name: value.double() for name, value in torch.load(tmp_path / "ViT-tiny.pt").items()}
    method, (images, _) = evi_steer(model, RANK=3), numbered.batches(model)[0]
    start = {name: value.detach().clone() for name, value in method.state_dict().items()}

    def loss(learned, images, label):
        logits, divergence = of_layers(state, images, method.tokens.ids, learned, 3)
        return F.cross_entropy(logits, label) + 0.1 * divergence

    rates = [1e-6 + (0.005 - 1e-6) / 2 * (1 + math.cos(math.pi * step / 6)) for step in range(6)]
    expected = adam(start, rates, gradient_of(loss), numbered.batches(model), decay=0.0, by_step=True)
    numbered.trained(method, epochs=3, LR=0.005)
    for name, value in method.state_dict().items():
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-3, atol=1e-4)
        assert (value - start[name]).abs().max() > (1e-3 if value.numel() > 1 else 0)
    with torch.no_grad():
        logits, _ = of_layers(state, images.double(), method.tokens.ids, expected, 3)
        mine = method.classifier()(method.encode(images).global_token)
    torch.testing.assert_close(mine.double(), logits, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("towers", ["biomedclip", "native_clip", "transformers_siglip", "open_clip_siglip"])
def test_evi_steer_measures_the_evidence_of_the_token_that_is_pooled(tmp_path, towers):
    """A text's feature follows a change of that token before the last layer, and of no other token's output."""
    getattr(tiny_models, towers)(tmp_path / "model")
    model = models.load(tmp_path / "model")
    method = numbered.method_of(EviSteer, model)
    pooled = method.pooled % (model.context_length if "siglip" in towers else method.tokens.ids.shape[1])
    seen = {}

    def change(hidden):
        seen["hidden"] = hidden.detach().requires_grad_()
        return seen["hidden"]

    tower = model.text_tower.blocks[-1]
    handle = tower.register_forward_hook(lambda _module, _args, out: change(out if torch.is_tensor(out) else out[0]))
    method.text_features().sum().backward()
    handle.remove()
    moved = seen["hidden"].grad.abs().amax(-1).nonzero()
    assert moved.tolist() == [[row, int(place)] for row, place in enumerate(pooled)]


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
