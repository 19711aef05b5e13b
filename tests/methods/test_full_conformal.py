"""Full conformal prediction with SS-Text: exact, and its coverage holds without validation images."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ogkd.core import UserError
from ogkd.evaluation.predictions import Predictions
from ogkd.evaluation.sets import by_p_values
from tests.support.check_method import SmallRuns
from trainers.ss_text import p_values

SCALE = 12.0


def random_data(number: int, seed: int, classes: int = 3, size: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """Features of length 1 around their class's centre, and labels."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (number,), generator=random)
    centres = torch.eye(classes, size)
    return F.normalize(centres[labels] + 0.6 * torch.randn(number, size, generator=random), dim=-1), labels


TEXT = F.normalize(torch.eye(3, 8) + 0.3, dim=-1)


@pytest.mark.parametrize(("weights", "repel"), [("total", False), ("shots", True), ("confidence", False)])
def test_p_values_are_those_of_a_fit_by_hand_for_each_image_and_label(weights, repel):
    (shots, labels), (tested, _) = random_data(20, 1), random_data(5, 2)
    every, own = p_values(shots, labels, TEXT, SCALE, tested, weights, repel)

    def softmax(logits):
        powers = np.exp(logits - logits.max(-1, keepdims=True))
        return powers / powers.sum(-1, keepdims=True)

    text = TEXT.double().numpy()
    for row, image in enumerate(tested.double().numpy()):
        for label in range(3):
            seen, known = np.vstack([shots.double().numpy(), image]), np.append(labels.numpy(), label)
            zero_shot = softmax(SCALE * seen @ text.T)
            means = []
            for one in range(3):
                there = known == one
                share = {"total": 1.0, "shots": there.sum() / len(known),
                         "confidence": 1 / (len(known) * zero_shot[there, one].mean())}[weights]  # fmt: skip
                means.append(text[one] + share * SCALE * seen[there].sum(0))
            prototypes = np.array(means)
            if repel:
                away = 2 * prototypes - prototypes.mean(0)
                prototypes = prototypes - away / np.linalg.norm(away, axis=1, keepdims=True)
            prototypes /= np.linalg.norm(prototypes, axis=1, keepdims=True)
            fits = softmax(SCALE * seen @ prototypes.T)[np.arange(len(known)), known]
            no_better = fits <= fits[-1] * (1 + 1e-6)
            assert every[row, label] == pytest.approx(no_better.mean())
            assert own[row, label] == pytest.approx(no_better[known == label].mean())


@pytest.mark.parametrize("per_class", [False, True])
def test_the_coverage_holds_without_validation_images(per_class):
    hits = []
    for seed in range(40):
        (shots, labels), (tested, truth) = random_data(60, 10 + seed), random_data(50, 1000 + seed)
        values = p_values(shots, labels, TEXT, SCALE, tested, "total", False)[per_class]
        hits.append(values[torch.arange(50), truth] > 0.2)
    reached, noise = torch.stack(hits).float().mean().item(), 3 * math.sqrt(0.16 / 2000 + 0.16 / (40 * 60))
    assert 0.8 - noise < reached < 0.8 + (0.06 if per_class else 1 / 61) + noise


def test_a_run_stores_them_and_the_table_of_sets_shows_them(data, cache, tmp_path, command):
    runs = SmallRuns("SSText", tmp_path, data, cache)
    pairs = ("TRAINER.SSTEXT.FULL_CONFORMAL", "True")
    runs.run("run", *pairs)
    test, path = runs.predictions("run"), tmp_path / "run" / "full_conformal.npz"
    inside = by_p_values(path, test, 0.8, False)
    table = command(["parse_test_res.py", str(tmp_path / "run"), "--table", "sets", "--coverage", "0.8"]).stdout
    line = next(line for line in table.splitlines() if ", full conformal" in line)
    cells = [cell.strip() for cell in line.split("|")[2:-1]]
    assert cells[0] == f"{100 * inside[np.arange(len(test)), test.labels].mean():.2f}"
    assert cells[1] == f"{inside.sum(1).mean():.2f}"
    with pytest.raises(UserError, match="TRAIN_VIEW plain"):
        runs.run("augmented", *pairs, "FEATURES.TRAIN_VIEW", "augmented")
    other = Predictions(test.images[1:], test.labels[1:], test.logits[1:], test.classnames)
    with pytest.raises(UserError, match="other images"):
        by_p_values(path, other, 0.8, False)
    runs.run("without")
    assert not (tmp_path / "without" / path.name).exists()
    assert (runs.predictions("without").logits == test.logits).all()
