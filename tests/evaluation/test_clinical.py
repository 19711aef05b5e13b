"""One class against all others: scikit-learn's numbers, and thresholds that hold what they promise on new patients."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import auc, confusion_matrix, precision_recall_curve, roc_auc_score, roc_curve

from ogkd.core import UserError
from ogkd.core.schema import mismatch
from ogkd.evaluation import clinical
from ogkd.evaluation.clinical import OperatingPoint, by_class, choose
from ogkd.evaluation.conformal import TooFewImages
from ogkd.evaluation.predictions import Predictions

CLASSES = ("benign", "malignant", "normal")


def made(labels, logits, groups=None) -> Predictions:
    names = CLASSES[: np.shape(logits)[1]]
    return Predictions([str(i) for i in range(len(labels))], labels, logits, names, groups)


def noisy(number: int, seed: int = 0, classes: int = 2, skill: float = 1.5) -> Predictions:
    random = np.random.default_rng(seed)
    labels = random.integers(classes, size=number)
    return made(labels, random.normal(size=(number, classes)) + skill * np.eye(classes)[labels])


@st.composite
def predictions(draw) -> Predictions:
    classes, number = draw(st.integers(2, 3)), draw(st.integers(2, 20))
    labels = draw(arrays(np.int64, number, elements=st.integers(0, classes - 1)))
    return made(labels, draw(arrays(np.int64, (number, classes), elements=st.integers(-3, 3))) / 2)


@settings(max_examples=40)
@given(predictions())
def test_sensitivity_specificity_and_curves_are_those_of_scikit_learn(tested):
    counts = confusion_matrix(tested.labels, tested.predicted, labels=range(len(tested.classnames)))
    for label, of in enumerate(by_class([tested], draws=2)):
        own, chances = tested.labels == label, tested.probabilities[:, label]
        assert of.images == own.sum()
        if not own.any():
            assert of.sensitivity is None
        if not 0 < own.sum() < len(own):
            assert of.auc is None
            continue
        assert of.sensitivity.value == pytest.approx(100 * counts[label, label] / own.sum())
        false = counts[:, label].sum() - counts[label, label]
        assert of.specificity.value == pytest.approx(100 - 100 * false / (~own).sum())
        x, y = clinical.roc(tested, of.name)
        chances = np.round(chances, 12)  # equal logits in another order differ in the last bit
        expected = roc_curve(own, chances)
        np.testing.assert_allclose((x, y), expected[:2])
        assert of.auc.value == pytest.approx(100 * roc_auc_score(own, chances))
        assert 100 * auc(x, y) == pytest.approx(of.auc.value)
        recall, precision = clinical.precision_recall(tested, of.name)
        np.testing.assert_allclose((precision, recall), precision_recall_curve(own, chances)[:2])


def test_seeds_are_averaged_and_images_of_a_patient_widen_the_interval():
    tested, other = noisy(60), noisy(60)
    groups = np.arange(60) // 10
    by_image, by_patient = by_class([tested], 50)[0], by_class([replace(tested, groups=groups)], 50)[0]
    assert (by_image.patients, by_patient.patients) == (None, len(set(groups[tested.labels == 0])))
    assert by_patient.images == by_image.images
    assert by_patient.auc.high - by_patient.auc.low > by_image.auc.high - by_image.auc.low
    worse = replace(other, logits=-other.logits)
    both = by_class([tested, worse], 50)[1]
    alone = [by_class([one], 50)[1].sensitivity.value for one in (tested, worse)]
    assert both.sensitivity.value == pytest.approx(np.mean(alone))
    assert both.images == by_class([tested], 50)[1].images


@settings(max_examples=40)
@given(predictions(), st.sampled_from(clinical.KINDS), st.sampled_from([0.3, 0.5, 0.75, 0.9]))
def test_a_threshold_reaches_the_wanted_level_on_its_validation_images_or_there_is_none(validation, wanted, level):
    own = validation.labels == 0
    there = int((own if wanted == "sensitivity" else ~own).sum())
    if there < math.ceil(round(1 / (1 - level), 6)) - 1:
        with pytest.raises(TooFewImages, match=f"there are {there}"):
            choose(validation, "benign", wanted, level)
        return
    assume(there)
    point = choose(validation, "benign", wanted, level)
    assert getattr(point.validation, wanted).value >= 100 * level - 1e-9
    # rounding in another batch turns no image
    nudged = replace(validation, logits=validation.logits * np.float32(1 + 1e-6))
    assert point.on(nudged) == point.validation


def alike(patients: int, each: int, seed: int) -> Predictions:
    """Images of patients of two classes, those of a patient alike."""
    random = np.random.default_rng(seed)
    groups = np.repeat(np.arange(2 * patients), each)
    labels = groups % 2
    odds = random.normal(size=2 * patients)[groups] + random.normal(size=len(groups)) / 2 + 1.5 * labels
    return made(labels, np.stack([np.zeros_like(odds), odds], 1), groups)


@pytest.mark.parametrize("wanted", clinical.KINDS)
@pytest.mark.parametrize(("patients", "each"), [(30, 1), (20, 8)])
def test_the_wanted_level_holds_on_average_on_new_patients(wanted, patients, each):
    test = alike(10_000, 1, seed=1)
    own, chances = test.labels == 1, test.probabilities[:, 1]
    thresholds = [choose(alike(patients, each, seed), "malignant", wanted, 0.9).threshold for seed in range(2, 152)]
    reached = [
        (chances[own] >= one).mean() if wanted == "sensitivity" else (chances[~own] < one).mean() for one in thresholds
    ]
    assert 0.895 < np.mean(reached) < 0.95  # a plain quantile of the images would reach 0.87 to 0.89


def test_too_few_validation_images_are_said_with_numbers_and_patients_count_once():
    few = made([0, 0, 0, 0, 1, 1, 1, 1], np.random.default_rng(0).normal(size=(8, 2)))
    with pytest.raises(TooFewImages, match="at least 19 of malignant, but there are 4"):
        choose(few, "malignant", "sensitivity", 0.95)
    with pytest.raises(TooFewImages, match="at least 19 of classes other than malignant"):
        choose(few, "malignant", "specificity", 0.95)
    many = noisy(200)
    assert choose(many, "malignant", "sensitivity", 0.95).validation.sensitivity.value < 100
    with pytest.raises(TooFewImages, match="patients"):
        choose(replace(many, groups=np.arange(200) // 20), "malignant", "sensitivity", 0.95)
    assert {point.level for point in clinical.choose_all(noisy(24), None)} == {0.9}
    with pytest.raises(UserError, match="did you mean"):
        choose(many, "malignent", "sensitivity", 0.9)
    with pytest.raises(UserError, match=r"between 0 and 1.*95"):
        choose(many, "malignant", "sensitivity", 95)


def test_saturated_probabilities_still_give_a_threshold():
    sure = made([0] * 30 + [1] * 30, np.array([[1e4, -1e4]] * 29 + [[-1e4, 1e4]] * 31))
    point = choose(sure, "malignant", "sensitivity", 0.9)
    assert point.validation.sensitivity.value == 100
    assert choose(sure, "malignant", "specificity", 0.9).validation.specificity.value == pytest.approx(2900 / 30)
    assert choose(sure, "malignant", "specificity", 0.96).validation.sensitivity.value == 0  # no image is positive
    assert all(one.auc.value > 90 for one in by_class([sure], 20))


def test_predictive_values_are_those_of_counting():
    tested = noisy(500)
    point = clinical.achieved(tested, "malignant", 0.4)
    own, positive = tested.labels == 1, tested.probabilities[:, 1] >= 0.4
    ppv, npv = clinical.predictive_values(point, own.mean())
    assert ppv.value == pytest.approx(100 * own[positive].mean())
    assert npv.value == pytest.approx(100 * (~own[~positive]).mean())
    rare, _ = clinical.predictive_values(point, 0.01)
    assert rare.low < rare.value < rare.high < ppv.value
    with pytest.raises(UserError, match="prevalence"):
        clinical.predictive_values(point, 5)
    nobody = clinical.achieved(tested, "malignant", 1.5)
    assert clinical.predictive_values(nobody, 0.1) is None


def test_the_decision_curve_is_that_of_its_definition():
    tested = noisy(80)
    curve = clinical.decision_curve(tested, "malignant")
    for threshold, model, everyone in zip(*curve, strict=True):
        true = false = 0
        for label, chance in zip(tested.labels, tested.probabilities[:, 1], strict=True):
            true, false = true + (chance >= threshold) * label, false + (chance >= threshold) * (1 - label)
        assert model == pytest.approx(true / 80 - false / 80 * threshold / (1 - threshold))
        assert everyone == pytest.approx(
            tested.labels.mean() - (1 - tested.labels.mean()) * threshold / (1 - threshold)
        )


def test_an_operating_point_survives_json():
    point = choose(noisy(100), "malignant", "sensitivity", 0.9)
    point = replace(point, test=point.on(made([0, 0], np.eye(2))))  # without an image of the class
    record = json.loads(json.dumps(point.as_json()))
    assert not mismatch(record, clinical.SHAPE)
    assert OperatingPoint.from_json(record | {"new": 1}) == point
    assert mismatch(record | {"threshold": None}, clinical.SHAPE)


def test_patients_that_only_a_later_seed_names_count():
    plain, named = noisy(40), replace(noisy(40, skill=2), labels=noisy(40).labels, groups=np.arange(40) // 8)
    assert [of.patients for of in by_class([plain, named], draws=20)] == [
        of.patients for of in by_class([named, plain], draws=20)
    ]
