"""Every metric is what scikit-learn, PyTorch, SciPy or a loop over the images says it is."""

import itertools
import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from sklearn import metrics as sklearn_metrics
from sklearn.calibration import calibration_curve

from ogkd.core import UserError
from ogkd.evaluation import metrics
from ogkd.evaluation.metrics import METRICS, compute, fit_temperature, metric, summary, with_temperature
from ogkd.evaluation.predictions import Predictions
from tests.evaluation.test_predictions import predictions

ROOT = Path(__file__).resolve().parents[2]
BINS = 15
pytestmark = pytest.mark.filterwarnings(  # what scikit-learn says of classes without images
    "ignore:y_pred contains classes not in y_true", "ignore:A single label was found", "ignore:invalid value"
)


def compute_all(predictions: Predictions, **needs) -> dict[str, float | None]:
    return {name: compute(name, predictions, **needs) for name in METRICS}


def random_predictions(number: int = 400, classes: int = 5, seed: int = 0, scale: float = 1.5) -> Predictions:
    """Logits without ties that know something of the labels; every class has images."""
    random = np.random.default_rng(seed)
    labels = np.arange(number) % classes
    logits = scale * (random.normal(size=(number, classes)) + np.eye(classes)[labels])
    return Predictions([f"{i}.png" for i in range(number)], labels, logits, [f"class {c}" for c in range(classes)])


def permuted(found: Predictions, order: np.ndarray) -> Predictions:
    return Predictions([found.images[i] for i in order], found.labels[order], found.logits[order], found.classnames)


def costs_and_order(classes: int, seed: int = 0) -> dict:
    random = np.random.default_rng(seed)
    costs = random.uniform(size=(classes, classes))
    np.fill_diagonal(costs, 0)
    return {"costs": costs, "order": random.permutation(classes)}


def tiny(labels: list[int], logits: list[list[float]]) -> Predictions:
    return Predictions([str(i) for i in range(len(labels))], labels, logits, [str(c) for c in range(len(logits[0]))])


# What results.json holds


@settings(max_examples=40, deadline=None)
@given(predictions())
def test_accuracy_and_error_rate(found):
    expected = 100 * sklearn_metrics.accuracy_score(found.labels, found.predicted)
    assert compute("accuracy", found) == pytest.approx(expected, rel=1e-12)
    assert compute("error_rate", found) == pytest.approx(100 - expected, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(predictions())
def test_macro_f1_is_over_the_classes_with_images(found):
    labels = np.unique(found.labels)
    expected = sklearn_metrics.f1_score(found.labels, found.predicted, average="macro", labels=labels, zero_division=0)
    assert compute("macro_f1", found) == pytest.approx(100 * expected, rel=1e-12)


@settings(max_examples=40, deadline=None)
@given(predictions())
def test_confusion_matrix_and_accuracy_per_class(found):
    classes = range(len(found.classnames))
    expected = sklearn_metrics.confusion_matrix(found.labels, found.predicted, labels=classes)
    assert metrics.confusion_matrix(found) == expected.tolist()
    recalls = sklearn_metrics.recall_score(
        found.labels, found.predicted, average=None, labels=classes, zero_division=np.nan
    )
    per_class = metrics.per_class_accuracy(found)
    assert list(per_class) == list(found.classnames)
    assert list(per_class.values()) == [None if np.isnan(r) else pytest.approx(100 * r, rel=1e-12) for r in recalls]


def loop_ece(confidence: list[float], correct: list[bool]) -> float:
    """The definition, a bin and an image at a time."""
    error = 0.0
    for place in range(BINS):
        inside = [i for i, c in enumerate(confidence) if max(math.ceil(c * BINS) - 1, 0) == place]
        if inside:
            mean_correct = math.fsum(correct[i] for i in inside) / len(inside)
            mean_confidence = math.fsum(confidence[i] for i in inside) / len(inside)
            error += len(inside) / len(confidence) * abs(mean_correct - mean_confidence)
    return 100 * error


def curve_ece(probability: np.ndarray, true: np.ndarray) -> float:
    """ECE from scikit-learn's reliability curve, which leaves out empty bins."""
    observed, stated = calibration_curve(true, probability, n_bins=BINS)
    sizes = np.histogram(probability, np.linspace(0, 1, BINS + 1))[0]
    return 100 * float(np.abs(observed - stated) @ sizes[sizes > 0] / len(true))


@settings(max_examples=40, deadline=None)
@given(predictions())
def test_ece_is_its_definition(found):
    expected = loop_ece(found.confidence.tolist(), found.correct.tolist())
    assert compute("expected_calibration_error", found) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("scale", [0.3, 6.0])
def test_ece_agrees_with_sklearns_reliability_curve(scale):
    found = random_predictions(scale=scale)
    expected = curve_ece(found.confidence, found.correct)
    assert compute("expected_calibration_error", found) == pytest.approx(expected, rel=1e-9)


def test_a_confidence_on_a_border_belongs_to_the_bin_below():
    # With C equal logits the confidence 1/C is the upper end of a bin; one bin up, the second image would join it.
    for classes in (3, 5, 15):
        above = 1 / classes + 0.01
        second = math.log((classes - 1) * above / (1 - above))
        found = tiny([0, 1], [[0.0] * classes, [second] + [0.0] * (classes - 1)])
        assert found.confidence == pytest.approx([1 / classes, above])
        assert compute("expected_calibration_error", found) == pytest.approx(100 * (1 - 1 / classes + above) / 2)


@settings(max_examples=40, deadline=None)
@given(predictions())
def test_summary_comes_out_the_same_from_the_file(tmp_path_factory, found):
    path = tmp_path_factory.getbasetemp() / "summary.npz"
    found.save(path)
    text = json.dumps(summary(found))
    assert json.dumps(summary(Predictions.load(path))) == text
    assert list(json.loads(text)) == [
        *("accuracy", "macro_f1", "expected_calibration_error", "per_class_accuracy"),
        *("confusion_matrix", "classnames", "num_test", "num_patients"),
    ]
    assert summary(found)["num_test"] == np.sum(summary(found)["confusion_matrix"]) == len(found)


# Discrimination


@settings(max_examples=40, deadline=None)
@given(predictions())
def test_balanced_accuracy_is_over_the_classes_with_images(found):
    expected = sklearn_metrics.balanced_accuracy_score(found.labels, found.predicted)
    assert compute("balanced_accuracy", found) == pytest.approx(100 * expected, rel=1e-12)


@settings(max_examples=40, deadline=None)
@given(predictions())
def test_specificity_per_class_and_its_mean(found):
    tables = sklearn_metrics.multilabel_confusion_matrix(
        found.labels, found.predicted, labels=range(len(found.classnames))
    )
    expected = [100 * table[0, 0] / table[0].sum() if table[0].sum() else None for table in tables]
    assert list(metrics.per_class_specificity(found).values()) == [
        None if e is None else pytest.approx(e, rel=1e-12) for e in expected
    ]
    defined = [e for e in expected if e is not None]
    mean = pytest.approx(np.mean(defined), rel=1e-12) if defined else None
    assert compute("macro_specificity", found) == mean


@settings(max_examples=40, deadline=None)
@given(predictions())
def test_auroc_is_the_mean_of_sklearns_over_the_classes_with_images(found):
    areas = [
        sklearn_metrics.roc_auc_score(found.labels == c, found.probabilities[:, c])
        for c in range(len(found.classnames))
        if 0 < np.sum(found.labels == c) < len(found)
    ]
    assert compute("macro_auroc", found) == (pytest.approx(100 * np.mean(areas), rel=1e-9) if areas else None)


# Calibration


@settings(max_examples=40, deadline=None)
@given(predictions())
def test_classwise_ece_is_the_mean_of_the_classes_eces(found):
    classes = [
        loop_ece(found.probabilities[:, c].tolist(), (found.labels == c).tolist()) for c in range(len(found.classnames))
    ]
    assert compute("classwise_ece", found) == pytest.approx(math.fsum(classes) / len(classes), abs=1e-9)


@pytest.mark.parametrize("number", [3, 15, 16, 401])
def test_adaptive_ece_has_bins_of_equally_many_images(number):
    found = random_predictions(number)
    order = sorted(range(number), key=lambda i: -found.confidence[i])
    bins = [[] for _ in range(BINS)]
    for rank, image in enumerate(order):
        bins[int(rank * BINS / number)].append(image)
    filled = [len(images) for images in bins if images]
    assert max(filled) - min(filled) <= 1
    expected = sum(
        abs(sum(found.correct[i] for i in images) - sum(found.confidence[i] for i in images)) / number
        for images in bins
    )
    assert compute("adaptive_ece", found) == pytest.approx(100 * expected, rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(predictions())
def test_nll_is_pytorchs_cross_entropy(found):
    logits, labels = torch.tensor(found.logits, dtype=torch.float64), torch.tensor(found.labels)
    expected = torch.nn.functional.cross_entropy(logits, labels).item()
    assert compute("nll", found) == pytest.approx(expected, rel=1e-12, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(predictions())
def test_brier_is_its_definition(found):
    total = 0.0
    for row, label in zip(found.probabilities.tolist(), found.labels.tolist(), strict=True):
        total += sum((p - (c == label)) ** 2 for c, p in enumerate(row))
    assert compute("brier", found) == pytest.approx(total / len(found), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("scale", [0.5, 1.5, 20.0])
def test_the_fitted_temperature_has_the_smallest_nll(scale):
    found = random_predictions(scale=scale)
    logits, labels = torch.tensor(found.logits, dtype=torch.float64), torch.tensor(found.labels)

    def loss(log_temperature: float) -> float:
        return torch.nn.functional.cross_entropy(logits / math.exp(log_temperature), labels).item()

    expected = math.exp(minimize_scalar(loss, bounds=(-4, 4), method="bounded", options={"xatol": 1e-8}).x)
    assert fit_temperature(found) == pytest.approx(expected, rel=1e-4)


def test_the_temperature_that_made_the_labels_is_found():
    random = np.random.default_rng(0)
    calibrated = 2 * random.normal(size=(20_000, 4))
    labels = (np.log(random.uniform(size=calibrated.shape)) / np.exp(calibrated)).argmax(1)  # drawn by the softmax
    found = Predictions([str(i) for i in range(20_000)], labels, 3 * calibrated, list("abcd"))
    temperature = fit_temperature(found)
    assert temperature == pytest.approx(3, rel=0.05)
    scaled = with_temperature(found, temperature)
    assert compute("expected_calibration_error", scaled) < 1.5 < 10 < compute("expected_calibration_error", found)
    assert (scaled.predicted == found.predicted).all()


def test_the_temperature_stays_in_its_range():
    assert fit_temperature(tiny([0, 1], [[1, 0], [0, 1]])) == 0.01  # never wrong: the colder, the better
    assert fit_temperature(tiny([1, 0], [[1, 0], [0, 1]])) == 100.0  # always wrong: the warmer, the better
    assert fit_temperature(tiny([0, 1], [[2, 2], [-1, -1]])) == 1.0  # says nothing


@pytest.mark.parametrize("temperature", [0, math.inf, math.nan])
def test_a_temperature_is_finite_and_above_0(temperature):
    with pytest.raises(UserError, match="A temperature must be a finite number above 0"):
        with_temperature(random_predictions(5), temperature)


# Selective prediction


def over_all_orders(found: Predictions, function: Callable[[list[int]], float]) -> float:
    """Mean of a function of the wrong images, most confident first, over every order that the confidences allow."""
    orders = [
        order
        for order in itertools.permutations(range(len(found)))
        if all(found.confidence[a] >= found.confidence[b] for a, b in itertools.pairwise(order))
    ]
    return math.fsum(function([int(not found.correct[i]) for i in order]) for order in orders) / len(orders)


@settings(max_examples=40, deadline=None)
@given(predictions(max_images=6, max_classes=3))
def test_ties_of_confidence_count_as_if_in_random_order(found):
    def area(wrong: list[int]) -> float:
        return sum(sum(wrong[:k]) / k for k in range(1, len(wrong) + 1)) / len(wrong)

    def accuracy(wrong: list[int]) -> float:
        kept = next(k for k in range(1, len(wrong) + 1) if 10 * k >= 8 * len(wrong))
        return 1 - sum(wrong[:kept]) / kept

    assert compute("aurc", found) == pytest.approx(100 * over_all_orders(found, area), abs=1e-9)
    assert compute("accuracy_at_80_coverage", found) == pytest.approx(100 * over_all_orders(found, accuracy), abs=1e-9)


def test_aurc_and_accuracy_at_coverage_are_their_definitions_without_ties():
    found = random_predictions(101)
    order = sorted(range(101), key=lambda i: -found.confidence[i])
    risks = [sum(not found.correct[i] for i in order[:k]) / k for k in range(1, 102)]
    assert compute("aurc", found) == pytest.approx(100 * sum(risks) / 101)
    assert compute("accuracy_at_80_coverage", found) == pytest.approx(100 * (1 - risks[81 - 1]))
    coverage, risk = metrics.risk_coverage(found)
    assert coverage.tolist() == pytest.approx([k / 101 for k in range(1, 102)])
    assert risk.tolist() == pytest.approx(risks)


# Severity


@settings(max_examples=40, deadline=None)
@given(predictions(), st.integers(0, 10))
def test_costs_are_averaged_over_all_images_and_over_the_mistakes(found, seed):
    costs = costs_and_order(len(found.classnames), seed)["costs"]
    each = [costs[label, guess] for label, guess in zip(found.labels, found.predicted, strict=True)]
    wrong = [cost for cost, correct in zip(each, found.correct, strict=True) if not correct]
    assert compute("expected_cost", found, costs=costs) == pytest.approx(sum(each) / len(each), abs=1e-12)
    severity = compute("mistake_severity", found, costs=costs)
    assert severity == (pytest.approx(sum(wrong) / len(wrong)) if wrong else None)


@settings(max_examples=40, deadline=None)
@given(predictions(), st.integers(0, 10))
def test_kappa_and_grade_error_are_sklearns_on_the_grades(found, seed):
    order = costs_and_order(len(found.classnames), seed)["order"]
    true, guess = order[found.labels], order[found.predicted]
    kappa = compute("quadratic_weighted_kappa", found, order=order)
    if len(set(true) | set(guess)) == 1:
        assert kappa is None
    else:
        assert kappa == pytest.approx(
            sklearn_metrics.cohen_kappa_score(true, guess, weights="quadratic", labels=range(len(order))), abs=1e-9
        )
    expected = sklearn_metrics.mean_absolute_error(true, guess)
    assert compute("mean_absolute_grade_error", found, order=order) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("needs", "sentence"),
    [
        ({"costs": np.zeros((2, 3))}, r"shape \(2, 3\): give a row and a column per class"),
        ({"costs": [[0, 1, -1], [0, 0, 0], [0, 0, 0]]}, "at least 0"),
        ({"costs": [[0, 1, np.nan], [0, 0, 0], [0, 0, 0]]}, "must be finite"),
        ({"costs": np.ones((3, 3))}, "0 on the diagonal"),
        ({"order": [0, 1]}, r"shape \(2,\): give one number per class"),
        ({"order": [0, 1, 1]}, "differ from class to class"),
        ({"order": [0, 1, np.inf]}, "must be finite"),
    ],
)
def test_costs_and_grades_of_another_form_are_refused(needs, sentence):
    with pytest.raises(UserError, match=sentence):
        compute_all(random_predictions(classes=3), **needs)


# The registry


def test_what_a_metric_needs_and_does_not_get_makes_it_none():
    values = compute_all(random_predictions())
    assert list(values) == list(METRICS)
    assert {name for name, value in values.items() if value is None} == {n for n, m in METRICS.items() if m.needs}


@settings(max_examples=40, deadline=None)
@given(predictions())
def test_every_value_is_a_finite_number_or_none(found):
    for name, value in compute_all(found, **costs_and_order(len(found.classnames))).items():
        assert value is None or (type(value) is float and math.isfinite(value)), name
        assert METRICS[name].unit != "%" or value is None or -1e-9 <= value <= 100 + 1e-9, name


@settings(max_examples=40, deadline=None)
@given(predictions(), st.randoms(use_true_random=False))
def test_the_order_of_the_images_does_not_matter(found, random):
    order = list(range(len(found)))
    random.shuffle(order)
    needs = costs_and_order(len(found.classnames))
    again = compute_all(permuted(found, np.array(order)), **needs)
    for name, value in compute_all(found, **needs).items():
        assert again[name] == (None if value is None else pytest.approx(value, rel=1e-9, abs=1e-9)), name


def test_better_predictions_are_better_by_every_metric():
    """Which is what `lower_is_better` says."""
    better, worse = random_predictions(scale=4), random_predictions(scale=4, seed=1)
    blurred = np.where(np.arange(400)[:, None] % 3, worse.logits, np.roll(worse.logits, 2, axis=1))
    worse = Predictions(worse.images, worse.labels, blurred, worse.classnames)
    needs = {"costs": np.abs(np.arange(5)[:, None] - np.arange(5)) ** 1.5, "order": range(5)}
    for name, entry in METRICS.items():
        good, bad = compute(name, better, **needs), compute(name, worse, **needs)
        assert (good < bad) == entry.lower_is_better, (name, good, bad)


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(UserError, match=r"no metric 'acuracy'.*mean 'accuracy'"):
        compute("acuracy", random_predictions(5))


def test_a_registered_function_is_a_metric_and_its_name_is_taken(monkeypatch):
    monkeypatch.setattr(metrics, "METRICS", dict(METRICS))

    @metric(title="always 1", unit="", lower_is_better=False)
    def always_1(predictions: Predictions) -> float:
        return 1.0

    assert compute("always_1", random_predictions(5)) == 1.0
    with pytest.raises(ValueError, match="always_1 is registered twice"):
        metric(title="again", unit="", lower_is_better=False)(always_1)


def test_all_metrics_of_ten_thousand_images_take_under_a_second():
    found, needs = random_predictions(10_000, 8), costs_and_order(8)
    start = time.process_time()
    compute_all(found, **needs)
    assert time.process_time() - start < 1


def test_the_page_lists_every_metric_as_it_is():
    lines = (ROOT / "docs/metrics.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `")]
    assert [row[:5] for row in rows] == [
        [
            f"`{entry.name}`",
            entry.title,
            entry.unit or "-",
            "lower" if entry.lower_is_better else "higher",
            ", ".join(sorted(entry.needs)) or "-",
        ]
        for entry in METRICS.values()
    ]
