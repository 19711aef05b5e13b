"""OGKD's and BiomedCoOp's `losses`, and the step along their gradient, are those of the published forward passes.

Each JSON file holds its source and 12 random cases: the features of texts and images that went in, and the logits, the
terms and the gradient of their sum that came out.
"""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from ogkd.models import ImageFeatures
from tests.support.methods import build

GOLDEN = {
    method: json.loads(Path(__file__).with_name(f"golden_{method.lower()}_losses.json").read_text())
    for method in ("OGKD", "BiomedCoOp")
}
CASES = [
    pytest.param(method, case, id=f"{method}-{n}")
    for method, golden in GOLDEN.items()
    for n, case in enumerate(golden["cases"])
]
OPTIONS = {  # of the files', those that a method has
    "OGKD": ("TAU", "GAMMA", "TOP_K_RATIO", "ALPHA", "LAMBDA_SCCM", "LAMBDA_GAD", "LAMBDA_LGD"),
    "BiomedCoOp": ("TAU", "LAMBDA_SCCM", "KDSP"),
}
OWN_NAMES = {"KDSP": "LAMBDA_KDSP"}  # where the files have another name for an option
CLOSE = {"rtol": 1e-4, "atol": 3e-6}  # both are fp32, and the values were written with nine digits


def unit(rows):
    return F.normalize(torch.tensor(rows), dim=-1)


def method_of(method, case, folder, **more):
    """The method with the case's text features as its prompts, which are the learned vectors themselves."""
    prompts = torch.tensor(case["prompts"])
    classes = [f"class {c}" for c in range(len(prompts))]
    sentences = {name: [f"{name}, {m}" for m in range(prompts.shape[1])] for name in classes}
    words = {sentences[name][m]: prompts[c, m] for c, name in enumerate(classes) for m in range(prompts.shape[1])}
    words |= {f"{name}.": torch.zeros(prompts.shape[-1]) for name in classes}
    options = {OWN_NAMES.get(name, name): case["options"][name] for name in OPTIONS[method]}
    built = build(
        method, folder, classes, words, sentences, prompts.shape[-1], case["scale"], CSC=True, N_CTX=1, CTX_INIT="",
        TEXT_DROPOUT=0.0, **options, **more,
    )  # fmt: skip
    built.prepare()
    with torch.no_grad():
        built.learned["ctx"].copy_(torch.tensor(case["text"])[:, None])
    return built


def batch_of(case):
    features = ImageFeatures(unit(case["image"]), unit(case["patches"]) if "patches" in case else None)
    return features, torch.tensor(case["label"])


def test_the_recorded_cases_name_their_source():
    assert "tientrandinh/OGKD, commit adbd69c" in GOLDEN["OGKD"]["source"]
    assert "HealthX-Lab/BiomedCoOp, commit 7ceb5a8" in GOLDEN["BiomedCoOp"]["source"]
    assert all(len(golden["cases"]) == 12 for golden in GOLDEN.values())


@pytest.mark.parametrize(("method", "case"), CASES)
def test_logits_terms_and_gradient_are_the_published_ones(method, case, tmp_path):
    built = method_of(method, case, tmp_path)
    terms, logits = built.losses(*batch_of(case))
    torch.testing.assert_close(logits, torch.tensor(case["logits"]), **CLOSE)
    assert set(terms) == set(case["terms"])
    for name, value in case["terms"].items():
        torch.testing.assert_close(terms[name], torch.tensor(value), **CLOSE)
    (gradient,) = torch.autograd.grad(sum(terms.values()), built.learned["ctx"])
    torch.testing.assert_close(gradient[:, 0], torch.tensor(case["text_gradient"]), **CLOSE)


@pytest.mark.parametrize(("method", "case"), CASES)
def test_a_step_of_plain_descent_goes_along_the_published_gradient(method, case, tmp_path):
    plain = {"OPTIM__LR": 1.0, "OPTIM__WARMUP_EPOCH": 0, "OPTIM__MAX_EPOCH": 1, "OPTIM__WEIGHT_DECAY": 0.0}
    built = method_of(method, case, tmp_path, **plain)
    built.train([batch_of(case)])
    expected = torch.tensor(case["text"]) - torch.tensor(case["text_gradient"])
    torch.testing.assert_close(built.learned["ctx"][:, 0].detach(), expected, **CLOSE)
