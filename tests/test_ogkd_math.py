"""OGKD's formulas against an independent float64 computation, and their gradients."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ogkd.tuning import distillation
from ogkd.tuning import teacher as teacher_module


def np_log_softmax(x):
    shifted = x - x.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def np_unit(x):
    return x / np.sqrt((x * x).sum(-1, keepdims=True))


def np_graph(q, alpha):
    q = np_unit(q)
    weights = np.zeros((len(q), len(q)))
    for i in range(len(q)):
        row = np.array([math.exp(alpha * float(q[i] @ q[j])) for j in range(len(q))])
        weights[i] = row / row.sum()
    return weights


def np_smooth(q, graph, gamma, smoothing):
    if smoothing == "log":
        flowed = np.zeros_like(q)
        for c in range(q.shape[-1]):
            flowed[..., c] = sum(q[..., a] * graph[a, c] for a in range(q.shape[-1]))
        return (1 - gamma) * q + gamma * flowed
    p = np.exp(q)
    return np.log((1 - gamma) * p + gamma * np.einsum("...a,ac->...c", p, graph))


def np_select(score, tau):
    median = np.sort(score)[(len(score) - 1) // 2]
    mad = np.sort(np.abs(score - median))[(len(score) - 1) // 2]
    if len(score) < 2 or mad == 0:
        return np.ones(len(score), bool)
    zeta = (score - median) / mad
    kept = np.abs((zeta - zeta.mean()) / zeta.std(ddof=1)) <= tau
    return kept if kept.any() else np.ones(len(score), bool)


shapes = st.fixed_dictionaries(
    {
        "b": st.integers(1, 5),
        "c": st.integers(1, 6),
        "p": st.integers(1, 9),
        "d": st.integers(2, 8),
        "m": st.integers(1, 12),
        "seed": st.integers(0, 2**31 - 1),
        "gamma": st.floats(0, 1),
        "alpha": st.floats(0, 8),
        "smoothing": st.sampled_from(["log", "prob"]),
    }
)


def made(shape, *size):
    rng = np.random.default_rng(shape["seed"] + len(size))
    return rng.normal(size=size)


@given(shapes, st.floats(0.01, 1))
def test_lgd_compares_the_most_attentive_patches_at_the_true_class(shape, ratio):
    b, c, p = shape["b"], shape["c"], shape["p"]
    student, teacher = made(shape, b, p, c) * 4, made(shape, b, p, c, 1)[..., 0] * 4
    label = np.random.default_rng(shape["seed"]).integers(0, c, b)
    graph = np_graph(made(shape, c, shape["d"]), shape["alpha"])
    k = max(1, round(p * ratio))
    total = 0.0
    for image in range(b):
        attention = np.abs(teacher[image, :, label[image]])
        for patch in np.argsort(-attention)[:k]:
            r = np_smooth(np_log_softmax(teacher[image, patch]), graph, shape["gamma"], shape["smoothing"])
            r_true = r[label[image]]
            total += math.exp(r_true) * (r_true - np_log_softmax(student[image, patch])[label[image]])
    expected = total / (b * k)

    labels, t_teacher, t_student = torch.tensor(label), torch.tensor(teacher), torch.tensor(student)
    kept = distillation.attentive_patches(t_teacher, labels, ratio)
    assert kept.shape == (b, k)
    index = kept[..., None].expand(-1, -1, c)
    got = distillation.lgd_loss(
        t_student.gather(1, index), t_teacher.gather(1, index), labels, torch.tensor(graph), shape["gamma"],
        shape["smoothing"],
    )  # fmt: skip
    np.testing.assert_allclose(got.item(), expected, rtol=1e-9, atol=1e-12)


@given(shapes, st.floats(0.1, 4))
def test_prompts_are_kept_within_tau_of_the_rest(shape, tau):
    score = made(shape, shape["m"])
    got = teacher_module.select_prompts(torch.tensor(score), tau).numpy()
    np.testing.assert_array_equal(got, np_select(score, tau))


@pytest.mark.parametrize("score", [[2.0] * 6, [1.0, 1.0, 1.0, 9.0], [3.0], [1.0, 1.0]])
def test_scores_whose_mad_is_zero_keep_every_prompt(score):
    assert teacher_module.select_prompts(torch.tensor(score), 1.0).all()


def test_a_tau_that_keeps_nothing_keeps_everything():
    assert teacher_module.select_prompts(torch.tensor([0.0, 1.0, 2.0, 3.0]), 1e-9).all()


@given(shapes)
def test_probability_smoothing_stays_a_distribution(shape):
    q = torch.tensor(np_log_softmax(made(shape, shape["b"], shape["c"]) * 5))
    graph = torch.tensor(np_graph(made(shape, shape["c"], shape["d"]), shape["alpha"]))
    torch.testing.assert_close(
        distillation.smooth(q, graph, shape["gamma"], "prob").exp().sum(-1), torch.ones(shape["b"]).double()
    )


def test_one_class_gives_zero_losses_and_no_nan():
    logits, graph = torch.randn(3, 1), distillation.class_graph(torch.randn(1, 4), 1.0)
    label = torch.zeros(3, dtype=torch.long)
    for smoothing in distillation.SMOOTHINGS:
        assert distillation.gad_loss(logits, logits, graph, 0.5, smoothing) == 0
        assert distillation.lgd_loss(logits[:, None], logits[:, None], label, graph, 0.5, smoothing) == 0


def test_extreme_logits_stay_finite():
    teacher = torch.tensor([[1e4, -1e4, 0.0]])
    graph = distillation.class_graph(torch.randn(3, 4), 1.0)
    for smoothing in distillation.SMOOTHINGS:
        for gamma in (0.0, 0.5, 1.0):
            assert distillation.gad_loss(torch.zeros(1, 3), teacher, graph, gamma, smoothing).isfinite()


@settings(max_examples=20)
@given(shapes)
def test_gradients_of_both_losses_agree_with_finite_differences(shape):
    b, c, p = shape["b"], shape["c"], shape["p"]
    graph = torch.tensor(np_graph(made(shape, c, shape["d"]), shape["alpha"]))
    diffusion = (graph, shape["gamma"], shape["smoothing"])
    student = torch.tensor(made(shape, b, c), requires_grad=True)
    teacher = torch.tensor(made(shape, b, c, 1)[..., 0])
    assert torch.autograd.gradcheck(lambda z: distillation.gad_loss(z, teacher, *diffusion), (student,))
    student = torch.tensor(made(shape, b, p, c), requires_grad=True)
    teacher = torch.tensor(made(shape, b, p, c, 1)[..., 0])
    label = torch.tensor(np.random.default_rng(shape["seed"]).integers(0, c, b))
    assert torch.autograd.gradcheck(lambda z: distillation.lgd_loss(z, teacher, label, *diffusion), (student,))
