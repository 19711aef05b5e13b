"""Results by group: against pandas and scikit-learn, the gap's interval, what is said of small and unlike groups."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import balanced_accuracy_score, log_loss, roc_auc_score

from ogkd.core import UserError
from ogkd.data.groups import NOT_GIVEN, by_column
from ogkd.evaluation.predictions import Predictions
from ogkd.evaluation.subgroups import FEWEST, group_sets, largest_gap

CLASSES = ("nevus", "melanoma", "other")


def made(
    right: dict[str, float], patients: int = 60, images: int = 2, mix: dict | None = None, seed: int = 0
) -> Predictions:
    """Predictions for patients of each group, right with the group's probability; `mix`: the group's class shares."""
    generator = np.random.default_rng(seed)
    groups = [name for name in right for _ in range(patients * images)]
    patient = np.repeat(np.arange(patients * len(right)), images)
    labels = np.concatenate(
        [np.tile(generator.choice(3, patients, p=(mix or {}).get(name)), (images, 1)).T.ravel() for name in right]
    )
    hit = generator.random(len(labels)) < np.array([right[name] for name in groups])
    answer = np.where(hit, labels, (labels + 1) % 3)
    logits = generator.normal(size=(len(labels), 3)).astype(np.float32)
    logits[np.arange(len(labels)), answer] += 4
    names = tuple(f"{row}.png" for row in range(len(labels)))
    return Predictions(names, labels, logits, CLASSES, patient, {"site": tuple(groups)})


def test_metrics_of_each_group_are_those_of_scikit_learn_on_its_rows():
    predictions = made({"A": 0.9, "B": 0.6, "C": 0.75})
    (of,) = group_sets([predictions], draws=50)
    frame = pd.DataFrame(
        {"site": predictions.subgroups["site"], "label": predictions.labels, "patient": predictions.groups}
    )
    for name, rows in frame.groupby("site"):
        group = next(group for group in of.groups if group.name == name)
        probabilities, labels = predictions.probabilities[rows.index], rows["label"]
        expected = {
            "accuracy": 100 * (probabilities.argmax(1) == labels).mean(),
            "balanced_accuracy": 100 * balanced_accuracy_score(labels, probabilities.argmax(1)),
            "macro_auroc": 100 * roc_auc_score(labels, probabilities, multi_class="ovr"),
            "nll": log_loss(labels, probabilities),
        }
        assert {metric: group.values[metric].value for metric in expected} == pytest.approx(expected, abs=1e-4)
        assert all(one.low <= one.value <= one.high for one in group.values.values())
        assert (group.images, group.patients) == (len(rows), rows["patient"].nunique())
    accuracies = frame.assign(right=predictions.correct).groupby("site")["right"].mean() * 100
    gap = of.gaps["accuracy"]
    assert gap.interval.value == pytest.approx(accuracies.max() - accuracies.min())
    assert (gap.highest, gap.lowest) == (accuracies.idxmax(), accuracies.idxmin())
    assert gap.interval.low > 0  # 30 points apart


def test_the_gap_of_two_groups_has_about_the_interval_of_a_difference_of_shares():
    predictions = made({"A": 0.9, "B": 0.7}, patients=200, images=1)
    (of,) = group_sets([predictions])
    shares = [np.array(predictions.correct[np.array(predictions.subgroups["site"]) == name]).mean() for name in "AB"]
    half = 196 * np.sqrt(sum(p * (1 - p) / 200 for p in shares))
    interval = of.gaps["accuracy"].interval
    assert (interval.high - interval.low) / 2 == pytest.approx(half, rel=0.1)
    assert of.gaps["accuracy"].by_chance == pytest.approx(half / 1.96 * np.sqrt(2 / np.pi), rel=0.1)  # mean of |normal|


def test_a_gap_that_chance_explains_has_an_interval_from_0_and_says_so():
    (of,) = group_sets([made(dict.fromkeys("ABCDE", 0.8), patients=30)])
    gap = of.gaps["accuracy"]
    assert gap.interval.low == 0 < gap.by_chance
    assert f"{gap.by_chance:.1f} points on average" in " ".join(of.remarks())


def test_a_small_group_has_no_numbers_and_no_gap_and_is_named():
    predictions = made({"A": 0.9, "B": 0.8}, patients=20, images=1)
    site = ["rare"] * (FEWEST - 1) + list(predictions.subgroups["site"])[FEWEST - 1 :]
    (of,) = group_sets([Predictions(*_parts(predictions), subgroups={"site": site})], draws=50)
    rare = next(group for group in of.groups if group.name == "rare")
    assert (rare.values, rare.small) == ({}, True)
    assert of.gaps["accuracy"].groups == 2
    assert any("rare (9)" in remark and "small" in remark for remark in of.remarks())


def test_missing_values_are_a_group_of_their_own_outside_the_gap():
    recorded = {f"{row}.png": {"sex": "f" if row % 2 else ""} for row in range(60)} | {"other.png": {"sex": "m"}}
    predictions = made({"A": 0.9}, patients=60, images=1)
    subgroups = by_column(recorded, predictions.images)
    assert subgroups["sex"].count(NOT_GIVEN) == 30
    assert by_column({image: {"sex": ""} for image in predictions.images}, predictions.images) == {}
    (of,) = group_sets([Predictions(*_parts(predictions), subgroups=subgroups)], draws=50)
    assert [group.name for group in of.groups] == ["f", NOT_GIVEN]
    assert not of.gaps and any("no two groups" in remark for remark in of.remarks())


def test_groups_with_other_classes_are_said_as_a_gap_can_come_from_that():
    mix = {"A": (0.8, 0.1, 0.1), "B": (0.1, 0.8, 0.1)}
    (of,) = group_sets([made({"A": 0.8, "B": 0.8}, mix=mix)], draws=50)
    assert any("not equally common" in remark and "balanced" in remark for remark in of.remarks())
    (alike,) = group_sets([made({"A": 0.8, "B": 0.8})], draws=50)
    assert not any("equally common" in remark for remark in alike.remarks())
    same = made({"A": 0.8, "B": 0.8}, mix={"A": (1, 0, 0), "B": (0, 1, 0)})  # a group is a class
    (of,) = group_sets([same], draws=50)
    assert any("not equally common" in remark and "balanced" not in remark for remark in of.remarks())
    (partial,) = group_sets([made({"A": 0.8, "B": 0.8, "C": 0.8}, mix={"C": (0.5, 0.5, 0)})], draws=50)
    assert partial.gaps["balanced_accuracy"].groups == 2 and partial.gaps["accuracy"].groups == 3
    assert any("every class" in remark and remark.endswith(": C.") for remark in partial.remarks())


def test_groups_are_stored_with_predictions_and_read_again(tmp_path):
    predictions = made({"A": 0.9, "Zürich, süd": 0.6}, patients=10)
    predictions.save(tmp_path / "predictions.npz")
    read = Predictions.load(tmp_path / "predictions.npz")
    assert read.subgroups == predictions.subgroups
    with pytest.raises(UserError, match=r"by age.*by site"):
        group_sets([read], columns=["age"])
    with pytest.raises(UserError, match="values, one per image"):
        Predictions(*_parts(predictions), subgroups={"site": ("A",)})


def test_seeds_are_averaged_and_never_counted_as_more_images():
    seeds = [made({"A": 0.9, "B": 0.6}, seed=1), made({"A": 0.9, "B": 0.6}, seed=1)]
    one, both = (group_sets(some, ("accuracy",)) for some in (seeds[:1], seeds))
    alone, twice = (largest_gap(some[0].groups, "accuracy").interval for some in (one, both))
    assert (twice.value, twice.low, twice.high) == pytest.approx((alone.value, alone.low, alone.high), abs=0.5)


def _parts(of: Predictions) -> tuple:
    return of.images, of.labels, of.logits, of.classnames, of.groups
