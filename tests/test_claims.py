"""The sentences about a method's claims say what the intervals allow, for it or against it."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ogkd.classes import costs, read_geometry
from ogkd.evaluation.metrics import METRICS
from ogkd.evaluation.predictions import Predictions
from ogkd.evaluation.statistics import Interval, combine, paired_difference
from ogkd.reports.claims import LIKE_ACCURACY, verdicts
from tests.test_comparisons import grid, seeds  # noqa: F401  grid is a fixture
from tests.test_tables import parse, write_run  # noqa: F401  parse is a fixture

pytestmark = pytest.mark.slow


def interval(value, low, high):
    return Interval(value, low, high, 0.95, np.array([low, value, high]))


# One verdict


@given(st.sampled_from(["accuracy", "nll"]), st.tuples(*[st.floats(-50, 50)] * 3).map(sorted))
def test_a_verdict_is_what_the_interval_excludes(metric, bounds):
    low, value, high = bounds
    said = verdicts(metric, {"CoOp": interval(value, low, high)})
    above, below = ("higher (worse) than", "lower (better) than") if metric == "nll" else ("above", "below")
    assert (f"is {above} that of CoOp by " in said) == (low > 0)
    assert (f"is {below} that of CoOp by " in said) == (high < 0)
    assert said.startswith("cannot be shown to differ") == (low <= 0 <= high)


@given(st.tuples(*[st.integers(-5000, 5000)] * 3).map(sorted))
def test_the_numbers_of_a_verdict_are_those_of_the_interval(hundredths):
    low, value, high = (number / 100 for number in hundredths)
    said = verdicts("accuracy", {"CoOp": interval(value, low, high)})
    numbers = [float(number) for number in re.findall(r"[+-]?\d+\.\d\d", said)]
    if low <= 0 <= high:
        assert numbers == [value, low, high]
    else:
        assert numbers == [abs(value), *sorted((abs(low), abs(high)))]
    assert "-0.00" not in said


def test_rivals_are_grouped_by_verdict_in_one_sentence():
    means = {
        "A": interval(1.2, 0.3, 2.1),
        "B": interval(-1, -2, -0.5),
        "C": interval(0.1, -1, 1),
        "D": interval(3, 2, 4),
    }
    assert verdicts("accuracy", means) == (
        "is above that of A by 1.20 points (95 % interval 0.30 to 2.10) and D by 3.00 points (95 % interval 2.00 to "
        "4.00); it is below that of B by 1.00 points (95 % interval 0.50 to 2.00); it cannot be shown to differ from "
        "that of C (+0.10 points, 95 % interval -1.00 to +1.00)"
    )


@given(st.lists(st.tuples(*[st.floats(-9, 9)] * 3).map(sorted), min_size=1, max_size=6))
def test_every_rival_has_one_verdict(bounds):
    means = {f"M{i}x": interval(value, low, high) for i, (low, value, high) in enumerate(bounds)}
    said = verdicts("accuracy", means)
    assert all(said.count(name) == 1 for name in means)


# A report


def test_sentences_and_tables_hold_the_mean_paired_difference(grid, parse):  # noqa: F811
    folder, kept = grid
    done = parse(folder, "--claims", "OGKD", "--against", "CoOp")
    assert done.returncode == 0, done.stderr
    for metric, kind, words in (
        ("accuracy", "train_base", "accuracy on base classes"),
        ("accuracy", "test_new", "accuracy on novel classes"),
        ("nll", "train_base", "NLL on base classes"),
        ("aurc", "test_new", "AURC on novel classes"),
        ("expected_calibration_error", "test_new", "ECE on novel classes"),
    ):
        of_sets = [
            paired_difference(metric, *(seeds(kept, dataset, method, kind) for method in ("OGKD", "CoOp")))
            for dataset in ("BTMRI", "Kvasir", "RETINA")
        ]
        mean = combine(lambda *values: sum(values) / 3, *of_sets)
        (sentence,) = [line for line in done.stdout.splitlines() if f"OGKD's {words} " in line]
        assert sentence.startswith("- On 3 data sets, ")
        digits = 2 if METRICS[metric].unit else 3
        numbers = [abs(float(number)) for number in re.findall(rf"[+-]?\d+\.\d{{{digits}}}\b", sentence)]
        expected = sorted(abs(x) for x in (mean.low, mean.high))
        assert numbers[0] == pytest.approx(abs(mean.value), abs=0.6 * 10**-digits)
        assert sorted(numbers[1:]) == pytest.approx(expected, abs=0.6 * 10**-digits)
        shown = f"{mean.value:.{digits}f} [{mean.low:.{digits}f}, {mean.high:.{digits}f}]"
        assert shown in done.stdout


def test_a_report_has_the_four_claims_and_says_what_was_not_measured(grid, parse):  # noqa: F811
    done = parse(grid[0], "--claims", "OGKD")
    headings = [line for line in done.stdout.splitlines() if line.startswith("## ")]
    assert headings == ["## Accuracy", "## Novel classes", "## Reliability", "## Severity of mistakes"]
    assert "Not compared: expected cost on base classes" in done.stdout  # classes that the geometry does not have
    assert "cyst" in done.stderr
    assert "not scaled by a temperature" in done.stdout
    assert "The smallest possible p over 3 data sets is 0.25, so over data sets no difference" in done.stdout


def test_the_method_may_lose(grid, parse):  # noqa: F811
    """The claims of the weakest method are reported in the same words."""
    done = parse(grid[0], "--claims", "CoOp")
    (sentence,) = [line for line in done.stdout.splitlines() if "CoOp's accuracy on base classes" in line]
    assert "is below that of" in sentence
    assert "above" not in sentence


# Severity


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


def test_mistake_severity_is_compared_where_accuracies_are_alike_and_cost_everywhere(tmp_path, parse):  # noqa: F811
    cost = {
        (dataset, method): severe(tmp_path / dataset / method, dataset, method, wrong, near)
        for dataset, method, wrong, near in (
            ("BTMRI", "OGKD", 20, True), ("BTMRI", "CoOp", 20, False),
            ("Kvasir", "OGKD", 10, True), ("Kvasir", "CoOp", 20, False),
        )
    }  # fmt: skip
    done = parse(tmp_path, "--claims", "OGKD", "--against", "CoOp")
    assert (done.returncode, done.stderr) == (0, "")
    (row,) = [line for line in done.stdout.split("severity, 16 shots")[1].splitlines() if line.startswith("| CoOp ")]
    accuracy, expected, severity, sets, like = (cell.split(" [")[0].strip() for cell in row.split("|")[2:-1])
    assert float(accuracy) == (0 + 25) / 2
    difference = {d: cost[d, "OGKD"].mean() - cost[d, "CoOp"].mean() for d in ("BTMRI", "Kvasir")}
    assert float(expected) == pytest.approx(np.mean(list(difference.values())), abs=6e-4)
    mistakes = {key: values[values > 0].mean() for key, values in cost.items()}
    of_sets = {d: mistakes[d, "OGKD"] - mistakes[d, "CoOp"] for d in ("BTMRI", "Kvasir")}
    assert float(severity) == pytest.approx(np.mean(list(of_sets.values())), abs=6e-4)
    assert (sets, float(like)) == ("1", pytest.approx(of_sets["BTMRI"], abs=6e-4))
    assert (
        "At similar accuracy, on 1 data set, OGKD's mistake severity on all classes at 16 shots is lower" in done.stdout
    )


def test_no_severity_is_claimed_where_all_accuracies_differ(tmp_path, parse):  # noqa: F811
    assert LIKE_ACCURACY < 100 * (20 - 10) / 40
    severe(tmp_path / "a", "BTMRI", "OGKD", 10, True)
    severe(tmp_path / "b", "BTMRI", "CoOp", 20, False)
    done = parse(tmp_path, "--claims", "OGKD")
    assert (
        "is not compared with that of CoOp: on every data set the accuracies differ by more than 2 points"
        in done.stdout
    )
    assert "At similar accuracy" not in done.stdout
    assert "expected cost on all classes at 16 shots is lower (better) than that of CoOp" in done.stdout


# What does not go


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--claims", "KgCoOp"], "no finished run of the method KgCoOp"),
        (["--claims", "OGKD", "--against", "MaPLe"], "no finished run of the method MaPLe"),
        (["--claims", "OGKD", "--against", "OGKD"], "another method to compare OGKD with"),
        (["--claims", "OGKD", "--format", "csv"], "leave out --format"),
        (["--claims", "OGKD", "--table", "few_shot"], "leave out --format and --table"),
        (["--against", "CoOp"], "add --table"),
        (["--table", "base2new", "--diagram", "x.svg"], "--diagram goes with"),
    ],
)
def test_what_cannot_be_answered_is_one_sentence(grid, parse, words, reason):  # noqa: F811
    done = parse(grid[0], *words)
    assert done.returncode == 2
    assert reason in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_report_can_be_written_to_a_file(tmp_path, parse):  # noqa: F811
    for method, wrong in (("OGKD", 10), ("CoOp", 12)):
        severe(tmp_path / "runs" / method, "BTMRI", method, wrong, True)
    path = tmp_path / "claims.md"
    done = parse(tmp_path / "runs", "--claims", "OGKD", "-o", path)
    assert done.stdout.strip() == str(path)
    assert path.read_text() == parse(tmp_path / "runs", "--claims", "OGKD").stdout
