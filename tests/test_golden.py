"""OGKD's graph and losses give the values, and the gradients, that its published code gives.

golden_ogkd.json holds its source and 24 cases of random inputs with the published code's outputs.
"""

import json
from pathlib import Path

import pytest
import torch

from ogkd.tuning.distillation import class_graph, fold_held_out, gad_loss, lgd_loss

GOLDEN = json.loads(Path(__file__).with_name("golden_ogkd.json").read_text())
CASES = [pytest.param(case, id=f"{case['base']}+{case['held_out']}-{n}") for n, case in enumerate(GOLDEN["cases"])]
CLOSE = {"rtol": 2e-5, "atol": 2e-6}  # both are fp32, and the values were written with seven digits


def tensor(case, name, grad=False):
    return torch.tensor(case[name], dtype=torch.float32, requires_grad=grad)


def test_the_recorded_cases_name_their_source_and_cover_what_can_differ():
    assert "tientrandinh/OGKD, commit adbd69c" in GOLDEN["source"]
    assert len(GOLDEN["cases"]) == 24
    assert {case["gamma"] for case in GOLDEN["cases"]} == {0.0, 0.3, 0.5, 0.8, 1.0}
    assert {case["held_out"] for case in GOLDEN["cases"]} == {0, 1, 2, 3}


@pytest.mark.parametrize("case", CASES)
def test_the_class_graph_is_the_published_one(case):
    graph = class_graph(tensor(case, "prototypes"), case["alpha"])
    graph = fold_held_out(graph, case["base"]) if case["held_out"] else graph
    torch.testing.assert_close(graph, tensor(case, "graph"), **CLOSE)


@pytest.mark.parametrize("case", CASES)
def test_the_global_loss_and_its_gradient_are_the_published_ones(case):
    student = tensor(case, "student", grad=True)
    loss = gad_loss(student, tensor(case, "teacher"), tensor(case, "graph"), case["gamma"])
    torch.testing.assert_close(loss, tensor(case, "gad"), **CLOSE)
    (gradient,) = torch.autograd.grad(loss, student)
    torch.testing.assert_close(gradient, tensor(case, "gad_gradient"), **CLOSE)


@pytest.mark.parametrize("case", CASES)
def test_the_local_loss_and_its_gradient_are_the_published_ones(case):
    student = tensor(case, "patch_student", grad=True)
    label, graph = torch.tensor(case["label"]), tensor(case, "graph")
    loss = lgd_loss(student, tensor(case, "patch_teacher"), label, graph, case["gamma"])
    torch.testing.assert_close(loss, tensor(case, "lgd"), **CLOSE)
    (gradient,) = torch.autograd.grad(loss, student)
    torch.testing.assert_close(gradient, tensor(case, "lgd_gradient"), **CLOSE)
