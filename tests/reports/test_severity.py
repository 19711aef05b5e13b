"""Severity in tables: costs and grades come from the data set's geometry, in the order of the predictions' classes."""

import numpy as np
import pytest

from ogkd.classes import costs, read_geometry
from ogkd.evaluation.predictions import Predictions
from tests.support.tables import line_of, rows_of, write_predicted


def run(folder, dataset, classnames, seed=1, method="CoOp", kind="few_shot", number=40, **words):
    """A run with predictions of random classes; returns them."""
    random = np.random.default_rng([seed, number])
    labels = random.integers(0, len(classnames), number)
    logits = random.normal(size=(number, len(classnames))) + np.eye(len(classnames))[labels]
    predictions = Predictions([f"{i}.png" for i in range(number)], labels, logits, classnames)
    return write_predicted(folder, kind, dataset, method, seed, predictions, **words)


def mean_of(done, column="16 shots mean", table="btmri few-shot"):
    return float(rows_of(done.stdout, table)["CoOp"][column])


def test_expected_cost_is_the_mean_entry_of_the_cost_matrix_by_class_name(tmp_path, parse):
    geometry = read_geometry("BTMRI")
    matrix, names = costs(geometry), geometry.classnames
    shuffled = tuple(reversed(names))  # predictions have an order of their own
    values = []
    for seed in (1, 2):
        predictions = run(tmp_path / str(seed), "BTMRI", shuffled, seed)
        of_images = [
            matrix[names.index(shuffled[true]), names.index(shuffled[guess])]
            for true, guess in zip(predictions.labels, predictions.predicted, strict=True)
        ]
        values.append(np.mean(of_images))
    done = parse(tmp_path, "--table", "few_shot", "--metric", "expected_cost", "--format", "csv")
    assert done.stderr == ""
    assert mean_of(done) == pytest.approx(np.mean(values), abs=1e-5)


def test_half_of_the_classes_keep_the_distances_of_the_full_tree(tmp_path, parse):
    geometry = read_geometry("Phantom")
    half = geometry.classnames[::2]
    predictions = run(tmp_path / "base", "Phantom", half, kind="train_base")
    full = costs(geometry)[::2, ::2]
    severity = full[predictions.labels, predictions.predicted][predictions.labels != predictions.predicted].mean()
    done = parse(tmp_path, "--table", "base2new", "--metric", "mistake_severity", "--format", "csv")
    assert mean_of(done, "base mean", "phantom base2new") == pytest.approx(severity, abs=1e-5)


def test_grades_of_half_of_the_classes_are_those_of_the_full_order(tmp_path, parse):
    grades = read_geometry("KneeXray").order
    some = (grades[4], grades[0], grades[2])
    predictions = run(tmp_path / "base", "KneeXray", some, kind="train_base")
    error = np.abs(np.array([4, 0, 2])[predictions.labels] - np.array([4, 0, 2])[predictions.predicted]).mean()
    done = parse(tmp_path, "--table", "base2new", "--metric", "mean_absolute_grade_error", "--format", "csv")
    assert mean_of(done, "base mean", "kneexray base2new") == pytest.approx(error, abs=1e-5)


@pytest.mark.parametrize(
    ("dataset", "classnames", "metric", "reason"),
    [
        ("moles", ("a", "b"), "expected_cost", "how the classes of moles relate, a geometry/moles.yaml"),
        ("BTMRI", ("a", "b"), "expected_cost", "has no class 'a'"),
        ("BTMRI", None, "quadratic_weighted_kappa", "it needs grades"),
        ("../BTMRI", ("a", "b"), "expected_cost", "how the classes of ../BTMRI relate"),
    ],
)
def test_a_run_whose_classes_are_not_known_has_a_dash_and_one_warning(
    tmp_path, parse, dataset, classnames, metric, reason
):  # fmt: skip
    for seed in (1, 2, 3):
        run(tmp_path / str(seed), dataset, classnames or read_geometry(dataset).classnames, seed)
    done = parse(tmp_path, "--table", "few_shot", "--metric", metric)
    assert done.returncode == 0
    assert line_of(done.stdout, "CoOp") == ["–"]
    assert reason in done.stderr
    assert "and 2 more runs." in done.stderr
    assert done.stderr.count("warning: ") == 1
