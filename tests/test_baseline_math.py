"""The loss or update rule of each baseline against an independent computation."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import clip
from tests.support import tiny_models
from trainers.biomedcoop import kdsp_loss
from trainers.clip_adapter import Adapter
from trainers.cocoop import ConditionalPromptLearner
from trainers.kgcoop import kg_loss
from trainers.lp_plus_plus import Probe, initial_multiplier, multiplier_step, weight_step
from trainers.maple import CoupledPromptLearner
from trainers.prograd import project, tempered_kl
from trainers.tip_adapter import cache_logits, grid

NAMES = ["cyst", "glioma tumor", "lung squamous cell carcinoma"]
vectors = arrays(np.float64, 6, elements=st.floats(-10, 10).filter(lambda x: x == 0 or abs(x) > 1e-3))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return clip.load(str(tiny_models.biomedclip(tmp_path_factory.mktemp("weights"))))


def np_log_softmax(x):
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


@given(vectors, vectors)
def test_prograd_takes_away_what_contradicts_the_zero_shot_gradient(task, general):
    got = project(torch.tensor(task), torch.tensor(general)).numpy()
    if task @ general >= 0:
        np.testing.assert_array_equal(got, task)
    else:
        np.testing.assert_allclose(got, task - (task @ general) / (general @ general) * general, atol=1e-9)
        assert abs(got @ general) < 1e-6 * max(1, np.linalg.norm(general))


def test_prograd_without_a_zero_shot_gradient_follows_the_task():
    task = torch.tensor([1.0, -2.0])
    torch.testing.assert_close(project(task, torch.zeros(2)), task, rtol=0, atol=0)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_prograds_kl_is_tempered_and_averaged_over_the_batch(temperature):
    rng = np.random.default_rng(0)
    student, teacher = rng.normal(size=(2, 5, 3))
    log_p, log_q = np_log_softmax(teacher / temperature), np_log_softmax(student / temperature)
    expected = temperature**2 * (np.exp(log_p) * (log_p - log_q)).sum() / 5
    got = tempered_kl(torch.tensor(student), torch.tensor(teacher), temperature)
    np.testing.assert_allclose(got.item(), expected, rtol=1e-9)


def test_kgcoop_measures_the_mean_cosine_to_the_frozen_text():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 4, 7))
    cosines = [a[i] @ b[i] / np.linalg.norm(a[i]) / np.linalg.norm(b[i]) for i in range(4)]
    np.testing.assert_allclose(kg_loss(torch.tensor(a), torch.tensor(b)).item(), 1 - np.mean(cosines), rtol=1e-9)
    assert abs(kg_loss(torch.tensor(a), torch.tensor(3 * a)).item()) < 1e-12


def test_biomedcoops_distillation_is_the_kl_over_batch_and_classes():
    rng = np.random.default_rng(0)
    student, teacher = np_log_softmax(rng.normal(size=(2, 5, 3)))
    expected = (np.exp(teacher) * (teacher - student)).sum() / 15
    np.testing.assert_allclose(kdsp_loss(torch.tensor(student), torch.tensor(teacher)).item(), expected, rtol=1e-9)


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
    prompted = model.encode_image(images, deep_prompts=learner.visual_prompts()).global_token
    assert not torch.allclose(prompted, model.encode_image(images).global_token)

    places = learner.context_positions()
    shallow = model.encode_text(*learner())
    text = model.encode_text(*learner(), deep_prompts=list(learner.deep), deep_positions=places)
    assert not torch.allclose(text, shallow)
    (prompted.sum() + text.sum()).backward()
    assert all((parameter.grad != 0).any() for parameter in learner.parameters())
    assert len(learner.deep) == 2
    assert len(learner.to_visual) == 3


def test_maples_visual_prompts_are_linear_maps_of_the_textual_ones(model):
    learner = CoupledPromptLearner(model, NAMES, 2, "a photo", False, "end", depth=2)
    for prompt, textual, layer in zip(
        learner.visual_prompts(), [learner.ctx, *learner.deep], learner.to_visual, strict=True
    ):
        expected = textual.detach().numpy() @ layer.weight.detach().numpy().T + layer.bias.detach().numpy()
        np.testing.assert_allclose(prompt.detach().numpy(), expected, rtol=1e-4, atol=1e-5)


def test_clip_adapter_mixes_the_adapted_feature_in():
    adapter = Adapter(8, 4, 0.2)
    features = torch.randn(3, 8)
    down, up = adapter.layers[0].weight.detach().numpy(), adapter.layers[2].weight.detach().numpy()
    f = features.numpy()
    mixed = 0.2 * np.maximum(np.maximum(f @ down.T, 0) @ up.T, 0) + 0.8 * f
    expected = mixed / np.linalg.norm(mixed, axis=1, keepdims=True)
    np.testing.assert_allclose(adapter(features).detach().numpy(), expected, rtol=1e-5, atol=1e-6)


def test_tip_adapter_weighs_the_cached_labels_by_similarity():
    rng = np.random.default_rng(0)
    features, keys = rng.normal(size=(3, 5)), rng.normal(size=(4, 5))
    labels, beta = [0, 1, 1, 0], 2.5
    expected = np.zeros((3, 2))
    for i in range(3):
        for n in range(4):
            expected[i, labels[n]] += np.exp(-beta * (1 - features[i] @ keys[n]))
    values = torch.eye(2).double()[labels]
    got = cache_logits(torch.tensor(features), torch.tensor(keys), values, beta)
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-9)


def test_the_search_grid_has_equal_steps_from_a_tenth():
    values = grid(7.0, 200)
    assert len(values) == 200
    np.testing.assert_allclose(np.diff(values), 6.9 / 200)
    assert values[0] == 0.1
    assert values[-1] < 7.0


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
    probe = Probe(torch.tensor(features), labels, torch.tensor(text))
    probe.alpha.data = torch.tensor([1.0, 2.0, 3.0])
    sums = np.stack([features[labels.numpy() == k].sum(0) for k in range(3)])
    expected = features @ sums.T + np.array([1, 2, 3]) * (features @ text.T)
    np.testing.assert_allclose(probe(torch.tensor(features)).detach().numpy(), expected, rtol=1e-4)
