"""The loss or update rule of each baseline against an independent computation."""

import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ogkd import models
from tests.support import tiny_models
from trainers.clip_adapter import Adapter
from trainers.cocoop import ConditionalPromptLearner
from trainers.linear_probe import best_exponent, logistic_regression, steeper_exponent
from trainers.lp_plus_plus import Probe, initial_multiplier, multiplier_step, weight_step
from trainers.maple import CoupledPromptLearner
from trainers.prograd import project, tempered_kl
from trainers.tip_adapter import CacheModel, grid, search

NAMES = ["cyst", "glioma tumor", "lung squamous cell carcinoma"]
vectors = arrays(np.float64, 6, elements=st.floats(-10, 10).filter(lambda x: x == 0 or abs(x) > 1e-3))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return models.load(str(tiny_models.biomedclip(tmp_path_factory.mktemp("weights"))))


def np_log_softmax(x):
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


@given(vectors, vectors)
def test_prograd_takes_away_what_contradicts_the_zero_shot_gradient(task, general):
    got = project(torch.tensor(task), torch.tensor(general)).numpy()
    if task @ general >= 0 or np.linalg.norm(general) <= 5e-7 * np.linalg.norm(task):
        np.testing.assert_array_equal(got, task)
    else:
        np.testing.assert_allclose(got, task - (task @ general) / (general @ general) * general, atol=1e-9)
        assert abs(got @ general) < 1e-6 * max(1, np.linalg.norm(general))


@pytest.mark.parametrize("ratio", [8e-7, 2e-6, 8e-6, 1e-3, 1.0])
def test_prograds_rule_holds_from_the_second_step_on_whose_zero_shot_gradient_is_small_but_real(ratio):
    rng = np.random.default_rng(0)
    task, general = rng.normal(size=(2, 4, 16))
    general *= -np.sign((task * general).sum()) * ratio * np.linalg.norm(task) / np.linalg.norm(general)
    got = project(torch.tensor(task).float(), torch.tensor(general).float()).double().numpy()
    expected = task - (task * general).sum() / (general * general).sum() * general
    assert np.linalg.norm(expected - task) > 0.01 * np.linalg.norm(task)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("ratio", [0.0, 3e-8, 1e-7, 3e-7])
def test_prograd_follows_the_task_where_the_zero_shot_gradient_is_only_rounding(ratio):
    task = torch.randn(4, 16)
    assert torch.equal(project(task, -ratio * task), task)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_prograds_kl_is_tempered_and_averaged_over_the_batch(temperature):
    rng = np.random.default_rng(0)
    student, teacher = rng.normal(size=(2, 5, 3))
    log_p, log_q = np_log_softmax(teacher / temperature), np_log_softmax(student / temperature)
    expected = temperature**2 * (np.exp(log_p) * (log_p - log_q)).sum() / 5
    got = tempered_kl(torch.tensor(student), torch.tensor(teacher), temperature)
    np.testing.assert_allclose(got.item(), expected, rtol=1e-9)


def test_cocoops_meta_net_is_a_sixteenth_of_the_feature_wide(model):
    learner = ConditionalPromptLearner(model, NAMES)
    shapes = {name: tuple(value.shape) for name, value in learner.named_parameters() if name.endswith("weight")}
    hidden = model.embed_dim // 16
    assert hidden > 1
    assert shapes == {
        "meta_net.0.weight": (hidden, model.embed_dim), "meta_net.2.weight": (model.context_width, hidden)
    }  # fmt: skip


@pytest.mark.parametrize("csc", [False, True])
@pytest.mark.parametrize("position", ["end", "middle", "front"])
def test_cocoops_batch_of_prompts_equals_one_image_at_a_time(model, csc, position):
    learner = ConditionalPromptLearner(model, NAMES, csc=csc, position=position)
    learner.meta_net[0].bias.data.fill_(3)  # no hidden unit is off, so every image has its own shift
    images = torch.randn(4, model.embed_dim)
    together, mask = learner(images)
    for i, image in enumerate(images):
        alone, _ = learner(image[None])
        torch.testing.assert_close(together.unflatten(0, (4, -1))[i], alone)
        ctx = alone[torch.arange(3)[:, None], learner.context_positions()]
        torch.testing.assert_close(ctx, (learner.ctx + learner.meta_net(image[None])).expand(3, -1, -1))
    assert not torch.equal(together[:3], together[3:6])
    assert len(mask) == 12


@pytest.mark.parametrize("position", ["end", "middle", "front"])
def test_maples_coupled_prompts_change_both_towers_and_get_gradients(model, position):
    learner = CoupledPromptLearner(model, NAMES, 2, "a photo", False, position, depth=3)
    images = torch.randn(2, 3, model.image_size, model.image_size)
    prompted = model.encode_image(images, prompts=learner.visual_prompts()).global_token
    assert not torch.allclose(prompted, model.encode_image(images).global_token)

    places = learner.context_positions()
    shallow = model.encode_text(*learner())
    text = model.encode_text(*learner(), dict(enumerate(learner.deep, 1)), places)
    assert not torch.allclose(text, shallow)
    (prompted.sum() + text.sum()).backward()
    assert all((parameter.grad != 0).any() for parameter in learner.parameters())
    assert len(learner.deep) == 2
    first, second, third = (layer.weight for layer in learner.to_visual)
    assert torch.equal(second, third) and not torch.equal(first, second)  # at first, as in the authors' code


def test_maples_visual_prompts_are_linear_maps_of_the_textual_ones_of_which_each_class_may_have_its_own(model):
    learner = CoupledPromptLearner(model, NAMES, 2, "a photo", True, "end", depth=2)
    shared = sum(learner.ctx) / len(NAMES)
    for prompt, textual, layer in zip(
        learner.visual_prompts().values(), [shared, *learner.deep], learner.to_visual, strict=True
    ):
        expected = textual.detach().numpy() @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
        np.testing.assert_allclose(prompt.detach().numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("ratio", [0.2, 0.5])
def test_clip_adapter_mixes_the_adapted_feature_in(ratio, normalize):
    adapter = Adapter(8, 4, ratio, normalize)
    features = torch.randn(3, 8)
    down, up = adapter.layers[0].weight.detach().numpy(), adapter.layers[2].weight.detach().numpy()
    f = features.numpy()
    mixed = ratio * np.maximum(np.maximum(f @ down.T, 0) @ up.T, 0) + (1 - ratio) * f
    expected = mixed / np.linalg.norm(mixed, axis=1, keepdims=True) if normalize else mixed
    np.testing.assert_allclose(adapter(features).detach().numpy(), expected, rtol=1e-5, atol=1e-6)


def np_tip_logits(features, keys, labels, text, scale, alpha, beta):
    logits = scale * features @ text.T
    for i in range(len(features)):
        for n in range(len(keys)):
            logits[i, labels[n]] += alpha * np.exp(-beta * (1 - features[i] @ keys[n]))
    return logits


def test_tip_adapter_adds_the_cached_labels_weighed_by_similarity():
    rng = np.random.default_rng(0)
    features, keys, text = (rng.normal(size=(n, 5)).astype("f") for n in (3, 4, 2))
    labels = [0, 1, 1, 0]
    expected = np_tip_logits(features, keys, labels, text, 3.0, 0.7, 2.5)
    model = CacheModel(torch.tensor(text), scale=3.0, alpha=0.7, beta=2.5)
    model.fill(torch.tensor(keys), torch.tensor(labels))
    np.testing.assert_allclose(model(torch.tensor(features)).detach().numpy(), expected, rtol=1e-4)
    assert set(model.state_dict()) == {"keys", "values", "alpha", "beta"}


@given(
    st.integers(1, 6), st.integers(1, 9), st.integers(2, 4), st.integers(1, 7), st.integers(1, 7), st.integers(0, 99)
)
def test_the_search_finds_the_first_best_pair_of_a_loop_over_the_grid(images, keys, classes, n_alpha, n_beta, seed):
    rng = np.random.default_rng(seed)
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (rng.normal(size=(n, 4)) for n in (images, keys))]
    text, cached = rng.normal(size=(classes, 4)), rng.integers(0, classes, keys)
    labels = rng.integers(0, classes, images)
    alphas, betas = grid(9.0, n_alpha).double(), grid(20.0, n_beta).double()
    best = (-1.0,)
    for beta in betas.tolist():
        for alpha in alphas.tolist():
            logits = np_tip_logits(*unit, cached, text, 2.0, alpha, beta)
            accuracy = (logits.argmax(1) == labels).mean()
            if accuracy > best[0]:
                best = (accuracy, alpha, beta)
    features, stored = map(torch.tensor, unit)
    values = torch.eye(classes).double()[torch.tensor(cached)]
    zero_shot = 2.0 * features @ torch.tensor(text).t()
    alpha, beta, accuracy = search(zero_shot, features @ stored.t(), values, torch.tensor(labels), alphas, betas)
    assert (accuracy, alpha, beta) == best


def test_a_search_in_many_pieces_finds_what_one_in_a_single_piece_does(monkeypatch):
    torch.manual_seed(0)
    similarity, values = torch.rand(20, 30), torch.eye(5)[torch.randint(5, (30,))]
    arguments = (torch.randn(20, 5), similarity, values, torch.randint(5, (20,)), grid(50.0, 40), grid(50.0, 40))
    whole = search(*arguments)
    monkeypatch.setattr("trainers.tip_adapter.NUMBERS_AT_ONCE", 1)
    assert search(*arguments) == whole


def test_the_benchmarks_grid_of_40000_pairs_takes_well_under_a_second():
    torch.set_num_threads(1)
    similarity, values = torch.rand(32, 128), torch.eye(8)[torch.arange(128) % 8]
    arguments = (torch.randn(32, 8), similarity, values, torch.arange(32) % 8, grid(50.0, 200), grid(50.0, 200))
    start = time.thread_time()  # of this thread alone, whatever else the machine does
    search(*arguments)
    assert time.thread_time() - start < 0.8


@pytest.mark.parametrize("most", [7.0, 50.0])
def test_the_search_grid_has_equal_steps_from_a_tenth(most):
    values = grid(most, 200)
    assert len(values) == 200
    np.testing.assert_allclose(np.diff(values), (most - 0.1) / 200, rtol=1e-3)
    assert values[0] == torch.tensor(0.1)
    np.testing.assert_allclose(values[-1], most - (most - 0.1) / 200, rtol=1e-6)


def test_lp_plus_plus_steps_are_inverse_lipschitz_bounds():
    rng = np.random.default_rng(0)
    features, text, labels = rng.normal(size=(12, 5)), rng.normal(size=(3, 5)), np.array([0, 1, 2] * 4)
    largest = np.linalg.eigvals(features.T @ features).real.max()
    np.testing.assert_allclose(weight_step(torch.tensor(features)), 4 * 12 / largest, rtol=1e-6)
    agreement = np.array([[f @ t for t in text] for f in features])
    expected = 12 / (4 * max(sum(agreement[i, k] ** 2 for i in range(12)) for k in range(3)))
    np.testing.assert_allclose(multiplier_step(torch.tensor(agreement)), expected, rtol=1e-9)
    mean_own = np.mean([np.mean([agreement[i, k] for i in range(12) if labels[i] == k]) for k in range(3)])
    got = initial_multiplier(torch.tensor(agreement), torch.tensor(labels))
    np.testing.assert_allclose(got, 250 * mean_own, rtol=1e-9)


def test_lp_plus_plus_adds_multiplied_text_logits_to_the_linear_ones():
    rng = np.random.default_rng(0)
    features, text = rng.normal(size=(6, 5)).astype("f"), rng.normal(size=(3, 5)).astype("f")
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    probe = Probe(torch.tensor(text))
    probe.start(torch.tensor(features), labels)
    assert probe.linear.bias is None
    probe.alpha.data = torch.tensor([1.0, 2.0, 3.0])
    sums = np.stack([features[labels.numpy() == k].sum(0) for k in range(3)])
    expected = features @ sums.T + np.array([1, 2, 3]) * (features @ text.T)
    np.testing.assert_allclose(probe(torch.tensor(features)).detach().numpy(), expected, rtol=1e-4)


@pytest.mark.parametrize("classes", [2, 3, 5])
@pytest.mark.parametrize("c", [0.01, 1.0, 100.0])
def test_the_linear_probe_is_at_the_minimum_of_its_loss(classes, c):
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(40, 6)), np.arange(40) % classes
    model = logistic_regression(torch.tensor(features), torch.tensor(labels), c)
    coef, intercept = (x.double().requires_grad_() for x in (model.coef, model.intercept))
    logits = torch.tensor(features) @ coef.t() + intercept
    cross_entropy = torch.nn.functional.cross_entropy(logits, torch.tensor(labels), reduction="sum")
    gradients = torch.autograd.grad(coef.square().sum() / 2 + c * cross_entropy, (coef, intercept))
    learned = slice(1, None) if classes == 2 else slice(None)  # of two classes the first has no weights
    assert all(not x[0].any() for x in (coef, intercept)) == (classes == 2)
    for gradient in gradients:
        assert gradient[learned].abs().max() < 1.5 * 1e-4 * c * 40  # scikit-learn's tolerance, per image


def published_search(accuracy):
    """The search of CLIP's appendix A.3 as the benchmark carries it out, step by step in log10 C."""
    values = [6, 4, 2, 0, -2, -4, -6]
    peak = values[int(np.argmax([accuracy(x) for x in values]))]
    ends = [peak - 1, peak + 1]
    for _ in range(8):
        scores = [accuracy(x) for x in ends]
        right = int(scores[0] < scores[1])
        found = ends[right]
        ends[1 - right] = (ends[0] + ends[1]) / 2
    return found


@given(st.integers(0, 10_000), st.integers(1, 12))
def test_the_linear_probes_c_is_searched_as_published(seed, levels):
    """Also where validation accuracies, which have few levels, are equal or not unimodal."""
    rng = np.random.default_rng(seed)
    memory = {}

    def accuracy(exponent):
        return memory.setdefault(exponent, int(rng.integers(levels)) / levels)

    assert best_exponent(accuracy) == published_search(accuracy)


def test_a_linear_probe_with_flat_probabilities_takes_a_c_that_is_as_accurate_and_more_likely():
    labels = torch.tensor([0, 1, 2])

    def probabilities(exponent):
        return (torch.eye(3) * 10.0**exponent).softmax(-1)

    assert steeper_exponent(-7.0, probabilities, labels) > 0
    assert steeper_exponent(0.0, probabilities, labels) == 0.0  # as published, unless flat
