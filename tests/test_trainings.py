"""What each method learns in a short training against an independent computation in float64, step by step.

The towers are toys (tests/support/toy_clip.py): a prompt's feature is the sum of its context vectors, the n-th divided
by n, and of the class name's vector divided by the next number.
"""

import functools
import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from ogkd.models import ImageFeatures
from tests.support.methods import SPEC, build
from tests.support.toy_clip import deep_sum
from tests.test_baseline_math import np_tip_logits, published_search
from tests.test_ogkd_math import np_select
from trainers.linear_probe import EXPONENTS, steeper_exponent

CLASSES = ["cyst", "glioma tumor", "normal"]
WIDTH, N_CTX, SCALE, EPOCHS = 8, 4, 10.0, 3
CLOSE = {"rtol": 1e-4, "atol": 1e-5}  # float32 against float64


def random_data(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


NAMES, TEMPLATES = random_data(3, WIDTH, seed=1), random_data(3, WIDTH, seed=2)
SENTENCES = {name: [f"{name}, {m}" for m in range(9)] for name in CLASSES}
PROMPTS = random_data(3, 9, WIDTH, seed=3)
WORDS = {
    **{f"{name}.": NAMES[c] for c, name in enumerate(CLASSES)},
    **{f"a photo of a {name}.": TEMPLATES[c] for c, name in enumerate(CLASSES)},
    **{sentence: PROMPTS[c, m] for c, name in enumerate(CLASSES) for m, sentence in enumerate(SENTENCES[name])},
}


def unit(x):
    return x / x.square().sum(-1, keepdim=True).sqrt()


def log_softmax(x):
    return x - x.exp().sum(-1, keepdim=True).log()


def cross_entropy(logits, label):
    return -sum(log_softmax(logits)[i, y] for i, y in enumerate(label)) / len(label)


def kl(p, q):
    """The sum of KL(p || q) of log-probabilities (..., C)."""
    return (p.exp() * (p - q)).sum()


BATCHES = [
    (
        ImageFeatures(unit(random_data(n, WIDTH, seed=10 + n)), unit(random_data(n, 5, WIDTH, seed=20 + n))),
        torch.tensor(label),
    )
    for n, label in ((4, [0, 2, 1, 1]), (3, [2, 0, 1]))
]
PICTURES = [(random_data(len(label), 3, SPEC.size, SPEC.size, seed=30 + len(label)), label) for _, label in BATCHES]


def of_class(ctx):
    """Prompted text features, not normalised, of contexts (..., N_CTX, WIDTH) that all classes share."""
    share = 1 / torch.arange(1, ctx.shape[-2] + 1).double()
    return (ctx * share[:, None]).sum(-2, keepdim=True) + NAMES.double() / (ctx.shape[-2] + 1)


# The losses of each method, as functions of what it learns


def coop(learned, features, label):
    logits = SCALE * features.global_token @ unit(of_class(learned["ctx"])).t()
    return cross_entropy(logits, label)


def cocoop(learned, features, label):
    w1, b1, w2, b2 = (learned[f"meta_net.{name}"] for name in ("0.weight", "0.bias", "2.weight", "2.bias"))
    logits = []
    for image in features.global_token:
        shift = w2 @ (w1 @ image + b1).clamp_min(0) + b2
        logits.append(SCALE * unit(of_class(learned["ctx"] + shift)) @ image)
    return cross_entropy(torch.stack(logits), label)


def kgcoop(learned, features, label, w=8.0):
    cosines = (unit(of_class(learned["ctx"])) * unit(TEMPLATES.double())).sum(-1)
    return coop(learned, features, label) + w * (1 - cosines.sum() / 3)


def tcp(learned, features, label, w=8.0, layer=2):
    template = unit(TEMPLATES.double())
    w1, b1, w2, b2 = (learned[f"meta_net.linear{n}.{part}"] for n in (1, 2) for part in ("weight", "bias"))
    hidden = template @ w1.t() + b1
    vectors = (hidden / (1 + (-1.702 * hidden).exp()) @ w2.t() + b2).reshape(3, N_CTX, WIDTH)
    text = unit(of_class(learned["ctx"]) + layer * vectors.sum(1))
    logits = SCALE * features.global_token @ text.t()
    return cross_entropy(logits, label) + w * (1 - (text * template).sum(-1).mean())


def zero_shot_kl(learned, features, temperature):
    student = SCALE * features.global_token @ unit(of_class(learned["ctx"])).t()
    teacher = SCALE * features.global_token @ unit(TEMPLATES.double()).t()
    divergence = kl(log_softmax(teacher / temperature), log_softmax(student / temperature))
    return temperature**2 * divergence / len(student)


def teacher(image, tau=1.5):
    """Mean and selected prototypes (C, D) for a batch of images."""
    prompts = unit(PROMPTS.double())
    score = np.array([np.mean([max(SCALE * prompts[:, m] @ one) for one in image]) for m in range(9)])
    kept = np_select(score, tau)
    assert 0 < kept.sum() < 9
    return unit(prompts.mean(1)), unit(prompts[:, kept].mean(1))


def biomedcoop(learned, features, label, sccm=0.75, kdsp=0.75):
    image, text = features.global_token, unit(of_class(learned["ctx"]))
    mean, selected = teacher(image)
    logits, taught = SCALE * image @ text.t(), SCALE * image @ selected.t()
    distilled = kl(log_softmax(taught), log_softmax(logits)) / logits.numel()
    return cross_entropy(logits, label) + sccm * (text - mean).square().mean() + kdsp * distilled


def biomed_dpt(learned, features, label, l1=18.75, weight=0.5):
    image, text = features.global_token, unit(of_class(learned["ctx"]))
    mean, _ = teacher(image)
    logits, taught = SCALE * image @ text.t(), SCALE * image @ mean.t()
    distilled = kl(log_softmax(taught), log_softmax(logits)) / logits.numel()
    return cross_entropy(logits, label) + l1 * (text - mean).abs().mean() + weight * distilled


def ogkd(learned, features, label, smoothing="log", sccm=0.75, gad=1.75, lgd=0.75, gamma=0.5, ratio=0.4):
    image, text = features.global_token, unit(of_class(learned["ctx"]))
    mean, selected = teacher(image)
    graph = (4.0 * mean @ mean.t()).softmax(-1)

    def smooth(q):
        if smoothing == "log":
            return (1 - gamma) * q + gamma * q @ graph
        return ((1 - gamma) * q.exp() + gamma * q.exp() @ graph).log()

    logits = SCALE * image @ text.t()
    everywhere = kl(smooth(log_softmax(SCALE * image @ selected.t())), log_softmax(logits)) / logits.numel()
    patches, local = features.patch_tokens, []
    for tokens, y in zip(patches, label, strict=True):
        taught = SCALE * tokens @ selected.t()
        for p in taught[:, y].abs().argsort(descending=True)[: round(ratio * len(tokens))]:
            r, q = smooth(log_softmax(taught[p]))[y], log_softmax(SCALE * tokens[p] @ text.t())[y]
            local.append(r.exp() * (r - q))
    consistent = (text - mean).square().mean()
    return cross_entropy(logits, label) + sccm * consistent + gad * everywhere + lgd * sum(local) / len(local)


def maple(learned, images, label, tower, depth=3):
    deep = [learned["ctx"], *(learned[f"deep.{i}"] for i in range(depth - 1))]
    visual = [p @ learned[f"to_visual.{i}.weight"].t() + learned[f"to_visual.{i}.bias"] for i, p in enumerate(deep)]
    image = unit(tower(images.float(), False, None).global_token.double() + deep_sum(dict(enumerate(visual))))
    text = unit(of_class(learned["ctx"]) + deep_sum(dict(enumerate(deep[1:]))))
    return cross_entropy(SCALE * image @ text.t(), label)


def ivlp(learned, images, tower):
    """The features of images and, unless only the image tower has prompts, of texts."""
    visual = {i: learned[f"visual_prompts.vectors.{i}"] for i in range(3)}
    image = unit(tower(images.float(), False, None).global_token.double() + deep_sum(visual))
    if "ctx" not in learned:
        return image, unit(TEMPLATES.double())
    return image, unit(of_class(learned["ctx"]) + deep_sum({i: learned[f"deep.{i}"] for i in range(2)}))


def prompt_src(learned, images, label, tower, text_weight=25.0, image_weight=10.0, logits_weight=1.0):
    image, text = ivlp(learned, images, tower)
    frozen = unit(tower(images.float(), False, None).global_token.double())
    mean = unit(unit(PROMPTS.double()).mean(1))
    logits, taught = SCALE * image @ text.t(), SCALE * frozen @ mean.t()
    held = text_weight * (text - mean).abs().mean() + image_weight * (image - frozen).abs().mean()
    distilled = kl(log_softmax(taught), log_softmax(logits)) / logits.numel()
    return cross_entropy(logits, label) + held + logits_weight * distilled


# What trains them


def cosine_by_epoch(lr, epochs):
    """The learning rate of each epoch: 1e-5 in the first, then a cosine that counts from there."""
    return [1e-5, *(lr / 2 * (1 + math.cos(math.pi * epoch / epochs)) for epoch in range(epochs - 1))]


def gradient_of(loss):
    def gradient(learned, *batch):
        leaves = {name: value.clone().requires_grad_() for name, value in learned.items()}
        return dict(zip(leaves, torch.autograd.grad(loss(leaves, *batch), list(leaves.values())), strict=True))

    return gradient


def sgd(start, rates, gradient, batches=BATCHES, momentum=0.9, decay=5e-4):
    """Parameters after a step per batch in as many epochs as there are rates."""
    learned = {name: value.detach().double().clone() for name, value in start.items()}
    velocity = {name: torch.zeros_like(value) for name, value in learned.items()}
    for rate in rates:
        for inputs, label in batches:
            for name, slope in gradient(learned, in_double(inputs), label).items():
                velocity[name] = momentum * velocity[name] + slope + decay * learned[name]
                learned[name] = learned[name] - rate * velocity[name]
    return learned


def adam(start, rates, gradient, batches=BATCHES, decay=5e-4, eps=1e-8, decoupled=True, by_step=False):
    """Adam, or AdamW if `decoupled`; `rates` are those of epochs, or of single steps."""
    learned = {name: value.detach().double().clone() for name, value in start.items()}
    first, second = ({name: torch.zeros_like(value) for name, value in learned.items()} for _ in range(2))
    steps = [(rate, batch) for rate in rates for batch in batches] if not by_step else [
        (rate, batches[n % len(batches)]) for n, rate in enumerate(rates)
    ]  # fmt: skip
    for n, (rate, (inputs, label)) in enumerate(steps, start=1):
        for name, slope in gradient(learned, in_double(inputs), label).items():
            slope = slope if decoupled else slope + decay * learned[name]
            first[name] = 0.9 * first[name] + 0.1 * slope
            second[name] = 0.999 * second[name] + 0.001 * slope**2
            move = first[name] / (1 - 0.9**n) / ((second[name] / (1 - 0.999**n)).sqrt() + eps)
            shrunk = learned[name] * (1 - rate * decay) if decoupled else learned[name]
            learned[name] = shrunk - rate * move
    return learned


def in_double(inputs):
    if isinstance(inputs, torch.Tensor):
        return inputs.double()
    return ImageFeatures(*(part.double() for part in inputs))


def ready(method, folder, **options):
    """A method about to train, its contexts large enough to move visibly."""
    built = build(
        method, folder, CLASSES, WORDS, SENTENCES, WIDTH, SCALE, OPTIM__LR=0.1, OPTIM__MAX_EPOCH=EPOCHS, **options
    )
    with torch.no_grad():
        for seed, (name, value) in enumerate(sorted(built.learned.items())):
            if name == "ctx" or name.startswith("deep"):
                value.copy_(random_data(*value.shape, seed=50 + seed))
    return built


def check(built, expected):
    assert built.learned.keys() == expected.keys()
    for name, value in built.learned.items():
        torch.testing.assert_close(value.detach().double(), expected[name], **CLOSE, msg=lambda m, n=name: f"{n}: {m}")


PROMPT = {"CTX_INIT": "", "TEXT_DROPOUT": 0.0}  # `ready` sets the contexts
WITH_CONTEXT = [
    "CoOp", "CoCoOp", "KgCoOp", "ProGrad", "TCP", "MaPLe", "IVLP", "PromptSRC", "BiomedCoOp", "BiomedDPT", "OGKD",
]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "loss", "options"),
    [
        ("CoOp", coop, {}),
        ("CoCoOp", cocoop, {}),
        ("KgCoOp", kgcoop, {}),
        ("KgCoOp", lambda *batch: kgcoop(*batch, w=2.0), {"W": 2.0}),
        ("TCP", tcp, {"OPTIM__NAME": "sgd"}),
        ("TCP", lambda *batch: tcp(*batch, w=2.0, layer=1), {"OPTIM__NAME": "sgd", "W": 2.0, "LAYER": 1}),
        ("BiomedCoOp", biomedcoop, {}),
        ("BiomedDPT", biomed_dpt, {}),
        ("BiomedDPT", lambda *batch: biomed_dpt(*batch, l1=2.0, weight=3.0), {"LAMBDA_L1": 2.0, "LAMBDA_KL": 3.0}),
        ("OGKD", ogkd, {"TOP_K_RATIO": 0.4}),
        ("OGKD", lambda *batch: ogkd(*batch, smoothing="prob"), {"TOP_K_RATIO": 0.4, "SMOOTHING": "prob"}),
    ],
)
def test_a_prompt_is_learned_by_descent_along_the_papers_loss(tmp_path, method, loss, options):
    built = ready(method, tmp_path, **PROMPT, **options)
    expected = sgd(built.learned, cosine_by_epoch(0.1, EPOCHS), gradient_of(loss))
    built.train(BATCHES)
    check(built, expected)
    features, label = BATCHES[0]
    torch.testing.assert_close(built.logits(features.global_token), built.losses(features, label)[1])


def test_maple_learns_the_contexts_of_both_towers(tmp_path):
    built = ready("MaPLe", tmp_path, **PROMPT, N_CTX=2, PREC="fp32")
    tower = built.trainer.clip_model.image_tower
    loss = gradient_of(lambda learned, images, label: maple(learned, images, label, tower))
    expected = sgd(built.learned, cosine_by_epoch(0.1, EPOCHS), loss, PICTURES)
    built.train(PICTURES)
    check(built, expected)


@pytest.mark.parametrize("method", ["IVLP", "VPT"])
def test_prompts_of_both_towers_or_of_one_are_learned_by_cross_entropy(tmp_path, method):
    built = ready(method, tmp_path, **(PROMPT if method == "IVLP" else {}), PREC="fp32")
    tower = built.trainer.clip_model.image_tower

    def loss(learned, images, label):
        image, text = ivlp(learned, images, tower)
        return cross_entropy(SCALE * image @ text.t(), label)

    expected = sgd(built.learned, cosine_by_epoch(0.1, EPOCHS), gradient_of(loss), PICTURES)
    built.train(PICTURES)
    check(built, expected)


def test_promptsrc_is_held_to_the_frozen_model_and_ends_with_a_mean_over_its_epochs(tmp_path):
    weights = {"LAMBDA_TEXT": 2.0, "LAMBDA_IMAGE": 3.0, "LAMBDA_LOGITS": 4.0, "GPA_MEAN": 2.5, "GPA_STD": 0.8}
    built = ready("PromptSRC", tmp_path, **PROMPT, PREC="fp32", **weights)
    tower = built.trainer.clip_model.image_tower
    loss = gradient_of(lambda *batch: prompt_src(*batch, tower, 2.0, 3.0, 4.0))
    rates = cosine_by_epoch(0.1, EPOCHS)
    ends = [sgd(built.learned, rates[:n], loss, PICTURES) for n in range(1, EPOCHS + 1)]
    density = [math.exp(-((n - 2.5) ** 2) / (2 * 0.8**2)) for n in range(1, EPOCHS + 1)]
    expected = {
        name: sum(weight * end[name] for weight, end in zip(density, ends, strict=True)) / sum(density)
        for name in ends[0]
    }
    built.train(PICTURES)
    check(built, expected)


@pytest.mark.parametrize(("weight", "temperature"), [(1.0, 1.0), (0.5, 2.0)])
def test_prograd_steps_along_what_does_not_contradict_the_zero_shot_model(tmp_path, weight, temperature):
    conflicts = []

    def gradient(learned, features, label):
        task = gradient_of(coop)(learned, features, label)["ctx"]
        general = gradient_of(lambda p: zero_shot_kl(p, features, temperature))(learned)["ctx"]
        along = (task * general).sum()
        conflicts.append(bool(along < 0))
        return {"ctx": task - weight * along / general.square().sum() * general if along < 0 else task}

    built = ready("ProGrad", tmp_path, **PROMPT, LAMBDA=weight, T=temperature)
    expected = sgd(built.learned, cosine_by_epoch(0.1, EPOCHS), gradient)
    assert any(conflicts)
    built.train(BATCHES)
    check(built, expected)


@pytest.mark.parametrize("method", WITH_CONTEXT)
def test_the_students_text_tower_has_dropout_in_training_alone(tmp_path, method):
    built = ready(method, tmp_path, CTX_INIT="", TEXT_DROPOUT=0.5)
    built.prepare()
    batch = (BATCHES if built.method.frozen_images else PICTURES)[0]
    assert not torch.equal(built.losses(*batch)[1], built.losses(*batch)[1])
    image = BATCHES[0][0].global_token
    assert torch.equal(built.logits(image), built.logits(image))


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_the_optimiser_and_its_decay_are_those_of_the_configuration(tmp_path, name):
    options = {"OPTIM__NAME": name, "OPTIM__WEIGHT_DECAY": 0.1, "OPTIM__MOMENTUM": 0.5}
    built = ready("CoOp", tmp_path, **PROMPT, **options)
    rates, gradient = cosine_by_epoch(0.1, EPOCHS), gradient_of(coop)
    if name == "sgd":
        expected = sgd(built.learned, rates, gradient, momentum=0.5, decay=0.1)
    else:
        expected = adam(built.learned, rates, gradient, decay=0.1, decoupled=name == "adamw")
    built.train(BATCHES)
    check(built, expected)


@pytest.mark.parametrize(("ratio", "normalize"), [(0.2, True), (0.5, False)])
def test_clip_adapter_learns_its_bottleneck_by_cross_entropy(tmp_path, ratio, normalize):
    def loss(learned, features, label):
        hidden = (features.global_token @ learned["layers.0.weight"].t()).clamp_min(0)
        adapted = (hidden @ learned["layers.2.weight"].t()).clamp_min(0)
        mixed = ratio * adapted + (1 - ratio) * features.global_token
        mixed = unit(mixed) if normalize else mixed
        return cross_entropy(SCALE * mixed @ unit(TEMPLATES.double()).t(), label)

    built = ready("CLIPAdapter", tmp_path, RATIO=ratio, NORMALIZE=normalize, REDUCTION=2)
    assert built.learned["layers.0.weight"].shape == (WIDTH // 2, WIDTH)
    expected = sgd(built.learned, cosine_by_epoch(0.1, EPOCHS), gradient_of(loss))
    before = {name: value.detach().clone() for name, value in built.learned.items()}
    built.train(BATCHES)
    check(built, expected)
    assert all((before[name] - value).abs().max() > 0.01 for name, value in built.learned.items())


IMAGES = {"train": [0, 1, 2, 2, 1, 0, 0], "val": [0, 1, 2, 1, 2, 0, 1, 1], "test": [0, 1, 2]}
GRID = {"MAX_ALPHA": 9.0, "STEPS_ALPHA": 10, "MAX_BETA": 6.0, "STEPS_BETA": 7}


def first_best(features, labels, keys, key_labels):
    """Alpha and beta of the first best pair, alpha running faster, on validation images."""
    found = []
    for beta in [0.1 + i * 5.9 / 7 for i in range(7)]:
        for alpha in [0.1 + i * 8.9 / 10 for i in range(10)]:
            text = unit(TEMPLATES.double()).numpy()
            logits = np_tip_logits(features, keys, key_labels, text, SCALE, alpha, beta)
            found.append(((logits.argmax(1) == labels).sum(), alpha, beta))
    best = max(correct for correct, _, _ in found)
    assert len({correct for correct, _, _ in found}) > 1
    return next((alpha, beta) for correct, alpha, beta in found if correct == best)


def as_numpy(images):
    features, labels = images
    return features.detach().double().numpy(), labels.numpy()


@pytest.mark.parametrize("searched", [True, False])
def test_tip_adapter_keeps_the_training_features_and_chooses_alpha_and_beta(tmp_path, searched):
    options = GRID | {"SEARCH": searched, "ALPHA": 2.0, "BETA": 3.0}
    built = ready("TipAdapter", tmp_path, images=IMAGES, **options)
    built.train([])
    (keys, labels), (features, truth) = (as_numpy(built.images(part)) for part in ("train", "val"))
    alpha, beta = first_best(features, truth, keys, labels) if searched else (2.0, 3.0)
    expected = np_tip_logits(features, keys, labels, unit(TEMPLATES.double()).numpy(), SCALE, alpha, beta)
    np.testing.assert_allclose(built.logits(built.images("val")[0]).detach().numpy(), expected, rtol=1e-4, atol=1e-4)


def test_tip_adapter_f_tunes_the_keys_by_the_step_and_then_searches(tmp_path):
    options = GRID | {"ALPHA": 2.0, "BETA": 3.0, "DATALOADER__TRAIN_X__BATCH_SIZE": 4}
    built = ready("TipAdapterF", tmp_path, images=IMAGES, **options)
    keys, key_labels = built.images("train")
    one_hot = torch.eye(3).double()[key_labels]

    def loss(learned, features, label):
        similar = (-3.0 * (1 - features.global_token @ learned["keys"].t())).exp()
        text = unit(TEMPLATES.double())
        return cross_entropy(SCALE * features.global_token @ text.t() + 2.0 * similar @ one_hot, label)

    steps = EPOCHS * 2
    rates = [0.05 * (1 + math.cos(math.pi * step / steps)) for step in range(steps)]
    expected = adam({"keys": keys}, rates, gradient_of(loss), decay=0.01, eps=1e-4, by_step=True)
    built.train(BATCHES)
    check(built, expected)
    features, truth = as_numpy(built.images("val"))
    found = first_best(features, truth, expected["keys"].numpy(), key_labels.numpy())
    assert (built.state["alpha"].item(), built.state["beta"].item()) == pytest.approx(found)


def test_the_linear_probe_is_the_fit_of_the_c_that_the_published_search_finds(tmp_path):
    # Not separable, so that the fits converge soon; on the training images the search finds another C.
    images = IMAGES | {"train": [0, 1, 2, 1, 0, 2, 2, 0, 1, 1, 2, 0], "val": [2, 1, 2, 2, 2, 0, 2, 0]}
    built = build("LinearProbe", tmp_path, CLASSES, width=2, images=images)
    train, (features, truth) = ([x.numpy() for x in built.images(part)] for part in ("train", "val"))

    @functools.cache
    def fit(exponent):
        return LogisticRegression(C=10**exponent, max_iter=1000).fit(*train)

    exponent, other = (
        published_search(lambda x, of=images, y=labels: (fit(x).predict(of) == y).mean())
        for images, labels in ((features, truth), train)
    )
    assert exponent != other
    shares = {x: torch.from_numpy(fit(x).predict_proba(features)) for x in (exponent, *EXPONENTS)}
    exponent = steeper_exponent(exponent, shares.__getitem__, torch.from_numpy(truth))
    built.train([])
    probability = built.logits(built.images("val")[0]).softmax(-1).detach().numpy()
    np.testing.assert_allclose(probability, fit(exponent).predict_proba(features), atol=1e-3)


def test_the_linear_probe_takes_the_c_that_is_given(tmp_path):
    built = build("LinearProbe", tmp_path, CLASSES, width=WIDTH, images=IMAGES, C=3.0)
    train, (features, _) = as_numpy(built.images("train")), as_numpy(built.images("val"))
    built.train([])
    probability = built.logits(built.images("val")[0]).softmax(-1).detach().numpy()
    expected = LogisticRegression(C=3.0, max_iter=1000).fit(*train).predict_proba(features)
    np.testing.assert_allclose(probability, expected, atol=1e-4)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize(("lr", "momentum", "decay"), [(1.0, 0.9, 0.0), (0.5, 0.0, 0.0), (0.25, 0.5, 0.01)])
def test_lp_plus_plus_descends_by_its_step_sizes_and_updates_the_multipliers_now_and_then(
    tmp_path, lr, momentum, decay, bias
):
    options = {"OPTIM__LR": lr, "OPTIM__MOMENTUM": momentum, "OPTIM__WEIGHT_DECAY": decay, "OPTIM__MAX_EPOCH": 5}
    built = build(
        "LPPlusPlus", tmp_path, CLASSES, WORDS, None, WIDTH, images=IMAGES, ALPHA_EVERY=2, BIAS=bias, **options
    )
    features, labels = as_numpy(built.images("train"))
    text = unit(TEMPLATES.double()).numpy()
    one_hot, agreement = np.eye(3)[labels], features @ text.T
    weight, offset = one_hot.T @ features, np.zeros(3)
    alpha = 250 * np.mean([agreement[labels == k, k].mean() for k in range(3)]) * np.ones(3)
    weight_step = 4 * len(features) / np.linalg.eigvalsh(features.T @ features)[-1]
    alpha_step = len(features) / (4 * (agreement**2).sum(0).max())
    velocity, drift = np.zeros_like(weight), np.zeros(3)
    for epoch in range(1, 6):
        logits = features @ weight.T + alpha * agreement + offset
        probability = np.exp(logits - logits.max(1, keepdims=True))
        error = (probability / probability.sum(1, keepdims=True) - one_hot) / len(features)
        velocity = momentum * velocity + error.T @ features + decay * weight
        drift = momentum * drift + error.sum(0) + decay * offset
        weight = weight - lr * weight_step * velocity
        offset = offset - lr * weight_step * drift if bias else offset
        if epoch % 2 == 0:
            alpha = alpha - lr * alpha_step * (error * agreement).sum(0)
    train = built.images("train")
    built.train([(ImageFeatures(train[0], None), train[1])])
    expected = {"linear.weight": torch.tensor(weight), "alpha": torch.tensor(alpha)}
    check(built, expected | ({"linear.bias": torch.tensor(offset)} if bias else {}))


@pytest.mark.parametrize(("method", "which"), [("TipAdapterF", 0), ("LPPlusPlus", -1)])
def test_the_epoch_that_is_best_on_the_validation_images_is_tested(tmp_path, method, which):
    """The first of the best epochs, or for LP++ the last. The learning rate is constant, so that the state after an
    epoch is that of a training which ends there."""
    options = {"OPTIM__LR_SCHEDULER": "single_step", "OPTIM__LR": 0.3}
    options |= {"SEARCH": False} if method == "TipAdapterF" else {"ALPHA_EVERY": 2}
    arguments = (CLASSES, WORDS, None, WIDTH)

    def trained(epochs, images=IMAGES, **more):
        folder = tmp_path / f"{epochs} {len(more)}"
        folder.mkdir()
        built = build(method, folder, *arguments, images=images, OPTIM__MAX_EPOCH=epochs, **options, **more)
        features, labels = built.images("train")
        built.train([(ImageFeatures(features, None), labels)])
        return built

    ends = [trained(epochs) for epochs in range(1, 9)]
    images = ends[0].images("val")[0]
    answers = [built.logits(images).argmax(1) for built in ends]
    labels = answers[5]
    best = [built for built, answer in zip(ends, answers, strict=True) if torch.equal(answer, labels)]
    assert 1 < len(best) < len(ends)
    parts = IMAGES | {"val": labels.tolist()}
    tested = trained(8, parts, TEST__NO_TEST=False, TEST__FINAL_MODEL="best_val")
    for name, value in best[which].state.items():
        assert torch.equal(tested.state[name], value)
