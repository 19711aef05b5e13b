"""The tables of a method's claims hold its paired differences, for it or against it."""

import numpy as np
import pytest

from ogkd.classes import costs, read_geometry
from ogkd.evaluation.metrics import METRICS
from ogkd.evaluation.predictions import Predictions
from ogkd.evaluation.statistics import combine, paired_difference
from tests.reports.test_comparisons import grid, seeds  # noqa: F401  grid is a fixture
from tests.support.tables import write_run


def test_tables_hold_the_mean_paired_difference_for_the_method_or_against_it(grid, parse):  # noqa: F811
    folder, kept = grid
    done = {method: parse(folder, "--claims", method).stdout for method in ("OGKD", "CoOp")}
    for claim, metric, column, kind in (
        ("Accuracy", "accuracy", 0, "train_base"),
        ("Novel classes", "accuracy", 0, "test_new"),
        ("Reliability", "nll", 0, "train_base"),
        ("Reliability", "aurc", 2, "test_new"),
    ):
        of_sets = [
            paired_difference(metric, *(seeds(kept, dataset, method, kind) for method in ("OGKD", "CoOp")))
            for dataset in ("BTMRI", "Kvasir", "RETINA")
        ]
        mean = combine(lambda *values: sum(values) / 3, *of_sets)
        digits = 2 if METRICS[metric].unit else 3
        ours = f"{mean.value:.{digits}f} [{mean.low:.{digits}f}, {mean.high:.{digits}f}]"
        theirs = f"{-mean.value:.{digits}f} [{-mean.high:.{digits}f}, {-mean.low:.{digits}f}]"
        for (method, rival), shown in ((("OGKD", "CoOp"), ours), (("CoOp", "OGKD"), theirs)):
            table = done[method].split(f"{claim}: {METRICS[metric].title}\n")[1]
            row = next(line for line in table.splitlines() if line.startswith(f"| {rival} "))
            assert row.split("|")[2 + column].strip() == shown


def test_what_was_not_measured_has_no_table_and_the_reason_is_a_warning(grid, parse):  # noqa: F811
    done = parse(grid[0], "--claims", "OGKD")
    assert "Severity" not in done.stdout
    assert "cyst" in done.stderr  # a class that the geometry does not have
    assert "smallest possible p over 3 data sets is 0.25" in done.stdout
    assert "not scaled by a temperature" in done.stdout


def severe(folder, dataset, method, wrong, near):
    """A run that errs on the first `wrong` of 40 images: mildly where `near`, else as badly as can be."""
    geometry = read_geometry(dataset)
    matrix, number = costs(geometry), len(geometry.classnames)
    labels = np.arange(40) % number
    guesses = labels.copy()
    for place in range(wrong):
        row = matrix[labels[place]].copy()
        row[labels[place]] = np.inf if near else -np.inf
        guesses[place] = row.argmin() if near else row.argmax()
    kept = Predictions([f"{dataset}/{i}" for i in range(40)], labels, np.eye(number)[guesses], geometry.classnames)
    write_run(folder, "few_shot", dataset, method, 1, 100 * kept.correct.mean(), changed={})
    kept.save(folder / "predictions.npz")
    return matrix[labels, guesses]


def test_mistake_severity_is_compared_where_accuracies_are_alike_and_cost_everywhere(tmp_path, parse):
    cost = {
        (dataset, method): severe(tmp_path / dataset / method, dataset, method, wrong, near)
        for dataset, method, wrong, near in (
            ("BTMRI", "OGKD", 20, True), ("BTMRI", "CoOp", 20, False),
            ("Kvasir", "OGKD", 10, True), ("Kvasir", "CoOp", 20, False),
        )
    }  # fmt: skip
    done = parse(tmp_path, "--claims", "OGKD", "--against", "CoOp")
    assert (done.returncode, done.stderr) == (0, "")
    (row,) = [
        line
        for line in done.stdout.split("Severity of mistakes: 16 shots")[1].splitlines()
        if line.startswith("| CoOp ")
    ]
    accuracy, expected, severity, sets, like = (cell.split(" [")[0].strip() for cell in row.split("|")[2:-1])
    assert float(accuracy) == (0 + 25) / 2
    difference = {d: cost[d, "OGKD"].mean() - cost[d, "CoOp"].mean() for d in ("BTMRI", "Kvasir")}
    assert float(expected) == pytest.approx(np.mean(list(difference.values())), abs=6e-4)
    mistakes = {key: values[values > 0].mean() for key, values in cost.items()}
    of_sets = {d: mistakes[d, "OGKD"] - mistakes[d, "CoOp"] for d in ("BTMRI", "Kvasir")}
    assert float(severity) == pytest.approx(np.mean(list(of_sets.values())), abs=6e-4)
    assert (sets, float(like)) == ("1", pytest.approx(of_sets["BTMRI"], abs=6e-4))


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--claims", "KgCoOp"], "no finished run of the method KgCoOp"),
        (["--claims", "OGKD", "--against", "MaPLe"], "no finished run of the method MaPLe"),
        (["--claims", "OGKD", "--against", "OGKD"], "another method to compare OGKD with"),
        (["--claims", "OGKD", "--table", "few_shot"], "leave out --table"),
        (["--against", "CoOp"], "add --table"),
        (["--table", "base2new", "--diagram", "x.svg"], "--diagram goes with"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(grid, parse, words, reason):  # noqa: F811
    done = parse(grid[0], *words)
    assert done.returncode == 2
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1
