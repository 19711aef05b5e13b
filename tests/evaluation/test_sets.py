"""Prediction sets: other packages' numbers, and coverage that holds for new patients."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ogkd.core import UserError
from ogkd.core.schema import mismatch
from ogkd.evaluation import sets
from ogkd.evaluation.conformal import TooFewImages, needed
from ogkd.evaluation.predictions import Predictions
from ogkd.evaluation.sets import SCORES, SetRule, choose

LEVELS = st.sampled_from([0.5, 0.75, 0.8, 0.9])


def made(number: int, seed: int, classes: int = 4) -> Predictions:
    random = np.random.default_rng(seed)
    labels = random.integers(classes, size=number)
    logits = random.normal(size=(number, classes)) * 1.5 + 2 * np.eye(classes)[labels]
    return Predictions([str(i) for i in range(number)], labels, logits, [f"c{i}" for i in range(classes)])


def of_patients(patients: int, each: int, seed: int, classes: int = 3) -> Predictions:
    """Images of patients of several classes, those of a patient alike."""
    random = np.random.default_rng(seed)
    groups = np.repeat(np.arange(patients), each)
    labels = random.choice(classes, patients, p=[0.6, 0.3, 0.1])[groups]
    logits = 1.2 * random.normal(size=(patients, classes))[groups] + 0.5 * random.normal(size=(len(groups), classes))
    logits += np.array([2.5, 1.5, 0.8])[labels][:, None] * np.eye(classes)[labels]
    return Predictions([str(i) for i in range(len(groups))], labels, logits, list("abc"[:classes]), groups)


# Thresholds of 103 validation images and the number of classes in the sets of 500 test images, by MAPIE 1.6.0 (LAC),
# crepes 0.9.1 (LAC, also per class) and TorchCP 1.2.1 (all three, not randomised, with the likeliest class).
@pytest.mark.parametrize(
    ("score", "coverage", "threshold", "members"),
    [
        ("LAC", 0.8, 0.803278373438, 779),
        ("LAC", 0.9, 0.887497953656, 1032),
        ("LAC", 0.95, 0.960986938901, 1399),
        ("APS", 0.8, 0.946730344167, 925),
        ("APS", 0.9, 0.992336713209, 1326),
        ("RAPS", 0.8, 0.946730344167, 920),
        ("RAPS", 0.9, 0.992336713209, 1289),
        ("RAPS", 0.95, 1.003, 2000),
    ],
)
def test_thresholds_and_sets_are_those_of_other_packages(score, coverage, threshold, members):
    rule = choose(made(103, 1), coverage, score)
    assert rule.thresholds == pytest.approx([threshold] * 4, abs=1e-9)
    assert rule.sets(made(500, 2).probabilities).sum() == members


def test_thresholds_per_class_are_those_of_crepes():
    rule = choose(made(103, 1), 0.9, "LAC", per_class=True)
    assert rule.thresholds == pytest.approx([0.9605730116, 0.9175638339, 0.8368183798, 0.8874979537])
    assert rule.sets(made(500, 2).probabilities).sum() == 1086


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 40), LEVELS, st.sampled_from(SCORES), st.booleans())
def test_a_class_is_in_the_set_if_too_few_images_of_the_validation_fit_worse(seed, number, level, score, per_class):
    validation, test = made(number, seed, 3), made(7, seed + 1, 3)

    def badness(chances: np.ndarray, label: int) -> float:
        if score == "LAC":
            return 1 - chances[label]
        likelier = [other for other in range(3) if (-chances[other], other) <= (-chances[label], label)]
        return sum(chances[other] for other in likelier) + (0.001 * (len(likelier) - 1) if score == "RAPS" else 0)

    try:
        rule = choose(validation, level, score, per_class)
    except TooFewImages:
        counts = np.bincount(validation.labels, minlength=3) if per_class else [number]
        assert min(counts) < needed(level)
        return
    of_rule = rule.sets(test.probabilities)
    for row, chances in enumerate(test.probabilities):
        for label in range(3):
            same = [i for i in range(number) if not per_class or validation.labels[i] == label]
            own = badness(chances, label)
            worse = sum(badness(validation.probabilities[i], validation.labels[i]) >= own - 1e-11 for i in same)
            always = score != "LAC" and label == chances.argmax()
            assert of_rule[row, label] == (always or (worse + 1) / (len(same) + 1) > 1 - level + 1e-12)


@pytest.mark.parametrize("score", SCORES)
def test_equal_numbers_in_another_order_are_equally_fitting(score):
    """Sums of softmax differ in the last bits with the order of the classes."""
    random = np.random.default_rng(0)
    rows = random.integers(-3, 4, (50, 4))
    turned = np.concatenate([random.permuted(rows, axis=1) for _ in range(20)])
    alike = Predictions([str(i) for i in range(1000)], turned.argmax(1), turned, list("abcd"))
    of = sets.scores(alike.probabilities, score)[np.arange(1000), alike.labels].reshape(20, 50)
    assert (of == of[0]).all()


@pytest.mark.parametrize("per_class", [False, True])
@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize(("patients", "each"), [(120, 1), (120, 8)])
def test_the_coverage_holds_on_average_on_new_patients(score, per_class, patients, each):
    test = of_patients(6_000, 1, seed=1)
    rules = []
    for seed in range(2, 122):
        try:
            rules.append(choose(of_patients(patients, each, seed), 0.8, score, per_class))
        except TooFewImages:  # a rare class without four patients
            continue
    assert len(rules) > 100
    rows = np.arange(len(test))
    hits = np.array([rule.sets(test.probabilities)[rows, test.labels] for rule in rules])
    reached = hits.mean(1)
    noise = 3 * reached.std() / math.sqrt(len(rules)) + 3 * math.sqrt(0.16 / len(test))
    assert reached.mean() > 0.8 - noise
    if score == "LAC" and not per_class:
        assert reached.mean() < 0.8 + 1 / (patients + 1) + noise  # one score per patient, without ties: no wider
    if per_class:
        rarest = test.labels == 2
        assert hits[:, rarest].mean() > 0.8 - 3 * math.sqrt(0.16 / rarest.sum()) - noise


def test_what_sets_achieve_is_counted_and_averaged_over_seeds():
    test = Predictions(list("abcd"), np.array([0, 0, 1, 1]), np.zeros((4, 3)), ["x", "y", "z"])
    first = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 0], [0, 1, 1]], bool)
    second = np.array([[1, 1, 1], [1, 1, 0], [0, 1, 0], [0, 1, 1]], bool)
    of = sets.covered([first, second], test)
    assert of.coverage.value == pytest.approx(100 * (2 + 4) / 8)
    assert (of.size, of.empty) == (pytest.approx((5 + 8) / 8), pytest.approx(100 / 8))
    assert of.by_class["x"].value == of.by_class["y"].value == pytest.approx(75) and of.by_class["z"] is None
    assert of.gap(0.9) == pytest.approx(15)


def test_too_few_validation_images_are_said_with_what_is_needed():
    few = made(12, 3, 3)
    with pytest.raises(TooFewImages, match=r"95 %.* at least 19, but there are 12"):
        choose(few, 0.95)
    with pytest.raises(TooFewImages, match=r"each class needs at least 9, but c\d has \d"):
        choose(few, 0.9, per_class=True)
    with pytest.raises(TooFewImages, match=r"patients .* at least 9, but there are 4"):
        choose(replace(few, groups=np.arange(12) // 3), 0.9)
    for wrong in (0.0, 1.0, 90, math.nan):
        with pytest.raises(UserError, match="between 0 and 1"):
            choose(few, wrong)


def test_rules_survive_json_and_other_shares_of_classes_are_noticed():
    validation, test = made(60, 4, 3), made(80, 5, 3)
    rules = sets.choose_all(validation, test)
    assert {rule.key for rule in rules} >= {(0.9, "LAC", False), (0.9, "RAPS", True), (0.95, "APS", False)}
    for rule in rules:
        record = json.loads(json.dumps(rule.as_json()))
        assert not mismatch(record, sets.SHAPE)
        assert SetRule.from_json(record) == rule
    assert sets.shares_differ(validation, validation) == ""
    rare = replace(test, labels=np.zeros(80, int))
    assert "100 % of the test images are c0" in sets.shares_differ(validation, rare)


def test_shares_that_differ_by_chance_are_no_remark_but_a_balanced_draw_is():
    def of_shares(labels: np.ndarray) -> Predictions:
        return Predictions([str(i) for i in range(len(labels))], labels, np.zeros((len(labels), 3)), list("abc"))

    random, shares = np.random.default_rng(0), [0.5, 0.3, 0.2]
    said = [
        sets.shares_differ(of_shares(random.choice(3, 40, p=shares)), of_shares(random.choice(3, 90, p=shares)))
        for _ in range(100)
    ]
    assert sum(map(bool, said)) <= 12
    test = of_shares(np.repeat([0, 1, 2], [45, 27, 18]))
    assert "50 % of the test images are a" in sets.shares_differ(of_shares(np.arange(12) % 3), test)
