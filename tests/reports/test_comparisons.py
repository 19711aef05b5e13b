"""Intervals in tables, and comparisons of methods: paired, resampled jointly, tested over data sets."""

import csv
import io
import itertools
import json

import numpy as np
import pytest
import scipy.stats

from ogkd.classes import costs, read_geometry
from ogkd.evaluation.collect import collect
from ogkd.evaluation.metrics import METRICS
from ogkd.evaluation.predictions import Predictions
from ogkd.evaluation.statistics import bootstrap, combine, holm, paired_difference
from ogkd.reports import against
from ogkd.reports.against import ranks, what_can_be_shown
from ogkd.reports.claims import claim_tables
from ogkd.reports.comparisons import Contest
from tests.support.tables import hm, rows_of, write_predicted

CLASSES = ("cyst", "stone", "tumour")
SKILL = {"CoOp": 0.6, "BiomedCoOp": 1.0, "OGKD": 1.4}


def keep(folder, kind, dataset, method, seed, skill, number=50, prefix="", **words):
    """A run with predictions; the images and their difficulty are the data set's, the rest is the run's."""
    shared, own = (np.random.default_rng([number, len(dataset), ord(c), len(kind)]) for c in (dataset[0], method[0]))
    labels = np.arange(number) % 3
    noise = shared.normal(size=(number, 3)) + 0.5 * own.normal(size=(number, 3)) + 0.2 * seed * np.eye(3)[labels]
    images = [f"{prefix}{dataset}/{kind}/{i}.png" for i in range(number)]
    predictions = Predictions(images, labels, noise + skill * np.eye(3)[labels], CLASSES)
    return write_predicted(folder, kind, dataset, method, seed, predictions, changed={}, **words)


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """Three methods on three data sets with two seeds, base and novel: the folder, and predictions by what they are."""
    folder, predictions = tmp_path_factory.mktemp("grid"), {}
    for dataset, method, kind, seed in itertools.product(
        ("BTMRI", "Kvasir", "RETINA"), SKILL, ("train_base", "test_new"), (1, 2)
    ):
        where = folder / dataset / method / kind / str(seed)
        predictions[dataset, method, kind, seed] = keep(where, kind, dataset, method, seed, SKILL[method])
    return folder, predictions


def seeds(predictions, *what):
    return [predictions[(*what, seed)] for seed in (1, 2)]


def numbers(row, column):
    return [float(row[f"{column} {part}"]) for part in ("mean", "low", "high")]


# Intervals in place of deviations


def ends(interval) -> tuple[float, float, float]:
    return interval.value, interval.low, interval.high


def test_cells_are_means_with_the_interval_over_test_images(grid, parse):
    folder, predictions = grid
    for metric in ("accuracy", "nll"):
        done = parse(folder, "--table", "base2new", "--metric", metric, "--intervals", "--format", "csv")
        row = rows_of(done.stdout, "kvasir base2new")["OGKD"]
        assert "interval over test images" in parse(folder, "--table", "base2new", "--intervals").stdout
        for column, kind in (("base", "train_base"), ("novel", "test_new")):
            expected = bootstrap(metric, seeds(predictions, "Kvasir", "OGKD", kind))
            assert numbers(row, column) == pytest.approx((expected.value, expected.low, expected.high), abs=1e-4)


def test_hm_and_the_average_have_intervals_by_independent_draws(grid, parse):
    folder, predictions = grid
    done = parse(folder, "--table", "base2new", "--intervals", "--format", "csv")
    of_sets = []
    for dataset in ("BTMRI", "Kvasir", "RETINA"):
        both = [bootstrap("accuracy", seeds(predictions, dataset, "CoOp", kind)) for kind in ("train_base", "test_new")]
        of_sets.append(combine(hm, *both))
        row = rows_of(done.stdout, f"{dataset.lower()} base2new")["CoOp"]
        assert numbers(row, "HM") == pytest.approx(ends(of_sets[-1]), abs=1e-4)
    row = rows_of(done.stdout, "average base2new")["CoOp"]
    mean = combine(lambda *values: sum(values) / 3, *of_sets)
    assert numbers(row, "mean of HM") == pytest.approx(ends(mean), abs=1e-4)


# Against named methods


def test_differences_are_paired_over_images_and_seeds(grid, parse):
    folder, predictions = grid
    done = parse(folder, "--table", "base2new", "--against", "CoOp", "--format", "csv")
    assert (done.returncode, done.stderr) == (0, "")
    for dataset in ("BTMRI", "Kvasir", "RETINA"):
        rows = {r["row"]: r for r in csv.DictReader(io.StringIO(done.stdout)) if r["table"] == "OGKD minus CoOp"}
        for column, kind in (("base", "train_base"), ("novel", "test_new")):
            both = (seeds(predictions, dataset, method, kind) for method in ("OGKD", "CoOp"))
            expected = paired_difference("accuracy", *both)
            assert numbers(rows[dataset.lower()], column) == pytest.approx(ends(expected), abs=1e-4)


def test_a_difference_of_hms_resamples_base_and_novel_jointly_for_both_methods(grid):
    folder, predictions = grid
    contest = Contest(collect(folder), "base2new")
    difference = contest.difference("accuracy", contest.entry("OGKD"), contest.entry("CoOp"), "btmri", "HM")
    of_method = {
        method: [
            bootstrap("accuracy", seeds(predictions, "BTMRI", method, kind)) for kind in ("train_base", "test_new")
        ]
        for method in ("OGKD", "CoOp")
    }
    ours, theirs = (hm(*(one.raw for one in both)) for both in of_method.values())
    assert difference.raw == pytest.approx(ours - theirs)
    ours, theirs = (hm(*(one.value for one in both)) for both in of_method.values())
    assert difference.value == pytest.approx(ours - theirs)


def rows_of_differences(text):
    return [row for row in csv.DictReader(io.StringIO(text)) if row["table"] == "over data sets"]


@pytest.mark.parametrize("metric", ["accuracy", "nll"])
def test_the_table_over_data_sets_counts_and_tests_seed_means(grid, parse, metric, monkeypatch):
    folder, predictions = grid
    words = ("--table", "base2new", "--metric", metric, "--against", "CoOp", "BiomedCoOp", "--format", "csv")
    without_p = rows_of_differences(parse(folder, *words).stdout)
    assert {row["p mean"] for row in without_p} == {row["p (Holm) mean"] for row in without_p} == {""}
    monkeypatch.setattr(against, "ALPHA", 0.3)  # a level that three data sets can reach
    done = parse(folder, *words)
    rows = {row["row"]: row for row in rows_of_differences(done.stdout)}
    pairs = [("BiomedCoOp", "CoOp"), ("OGKD", "CoOp"), ("OGKD", "BiomedCoOp")]
    differences = [
        [
            np.mean([bootstrap(metric, one, draws=1).value for one in seeds(predictions, dataset, a, "train_base")])
            - np.mean([bootstrap(metric, one, draws=1).value for one in seeds(predictions, dataset, b, "train_base")])
            for dataset in ("BTMRI", "Kvasir", "RETINA")
        ]
        for a, b in pairs
    ]
    p = [scipy.stats.wilcoxon(values, method="exact").pvalue if all(values) else None for values in differences]
    for (a, b), values, one in zip(pairs, differences, p, strict=True):
        row = rows[f"base: {a} minus {b}"]
        better = np.negative(values) if metric == "nll" else np.array(values)
        counts = [int(row[f"{name} mean"]) for name in ("better", "ties", "worse")]
        assert counts == [(better > 1e-9).sum(), (abs(better) < 1e-9).sum(), (better < -1e-9).sum()]
        assert float(row["mean mean"]) == pytest.approx(np.mean(values), abs=1e-4)
        if one is not None:
            assert float(row["p mean"]) == pytest.approx(one, abs=1e-6)
    corrected = [float(rows[f"base: {a} minus {b}"]["p (Holm) mean"]) for a, b in pairs]
    assert corrected == pytest.approx(holm([float(rows[f"base: {a} minus {b}"]["p mean"]) for a, b in pairs]))
    assert "base: CoOp minus BiomedCoOp" not in rows  # once per pair
    assert ("HM: OGKD minus CoOp" in rows) == (metric == "accuracy")


def test_mean_ranks_are_those_of_seed_means(grid):
    folder, predictions = grid
    ranking = ranks(Contest(collect(folder), "base2new"), "accuracy", "base")
    table = np.array([
        [np.mean([one.correct.mean() for one in seeds(predictions, dataset, method, "train_base")]) for method in SKILL]
        for dataset in ("BTMRI", "Kvasir", "RETINA")
    ])  # fmt: skip
    expected = scipy.stats.rankdata(-table.round(9), axis=1).mean(0)
    assert {name: ranking.ranks[name] for name in SKILL} == pytest.approx(dict(zip(SKILL, expected, strict=True)))


def test_few_methods_or_data_sets_have_no_ranks(grid, parse):
    for words in (["--method", "OGKD"], ["--dataset", "btmri", "kvasir"]):
        done = parse(grid[0], "--table", "base2new", "--against", "CoOp", *words)
        assert done.returncode == 0 and "mean ranks" not in done.stdout


def test_methods_with_different_seeds_are_compared_on_those_that_both_have(tmp_path, parse):
    predictions = {
        (method, seed): keep(tmp_path / method / str(seed), "few_shot", "BTMRI", method, seed, SKILL[method])
        for method, of_method in (("CoOp", (1, 2)), ("OGKD", (2, 3)))
        for seed in of_method
    }
    done = parse(tmp_path, "--table", "few_shot", "--against", "CoOp", "--format", "csv")
    assert "are compared only on seed 2" in done.stderr
    rows = {r["row"]: r for r in csv.DictReader(io.StringIO(done.stdout)) if r["table"] == "OGKD minus CoOp"}
    expected = paired_difference("accuracy", predictions["OGKD", 2], predictions["CoOp", 2])
    assert numbers(rows["btmri"], "16 shots")[0] == pytest.approx(expected.value, abs=1e-4)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"prefix": "other/"}, "different images"),
        ({"number": 49}, "different images"),
        ({"seed": 9}, "no seed in common"),
    ],
)
def test_what_cannot_be_paired_is_said(tmp_path, parse, changes, reason):
    keep(tmp_path / "a", "few_shot", "BTMRI", "CoOp", 1, 1.0)
    keep(tmp_path / "b", "few_shot", "BTMRI", "OGKD", **{"seed": 1, "skill": 1.0} | changes)
    done = parse(tmp_path, "--table", "few_shot", "--against", "CoOp")
    assert done.returncode == 2
    assert reason in done.stderr
    keep(tmp_path / "c", "few_shot", "BTMRI", "KgCoOp", 1, 1.0)
    done = parse(tmp_path, "--table", "few_shot", "--against", "CoOp")
    assert done.returncode == 0
    assert reason in done.stderr
    assert "KgCoOp minus CoOp" in done.stdout


def test_a_method_without_novel_classes_is_compared_on_the_base_classes(tmp_path, parse):
    for kind in ("train_base", "test_new"):
        keep(tmp_path / kind, kind, "BTMRI", "CoOp", 1, 1.0)
    keep(tmp_path / "probe", "train_base", "BTMRI", "LinearProbe", 1, 1.0)
    done = parse(tmp_path, "--table", "base2new", "--against", "CoOp")
    assert done.returncode == 0
    assert "base: Linear probe minus CoOp" in done.stdout
    assert "novel: Linear probe" not in done.stdout


def test_a_named_method_is_the_one_as_configured_or_its_only_variant(tmp_path, parse):
    keep(tmp_path / "ours", "few_shot", "BTMRI", "OGKD", 1, 1.0)
    for n_ctx in (8, 16):
        folder = tmp_path / str(n_ctx)
        keep(folder, "few_shot", "BTMRI", "CoOp", 1, 1.0)
        results = json.loads((folder / "results.json").read_text())
        results["config"]["TRAINER"]["COOP"]["N_CTX"] = results["changed"]["TRAINER.COOP.N_CTX"] = n_ctx
        (folder / "results.json").write_text(json.dumps(results))
        words = ("--table", "few_shot", "--against", "CoOp")
        if n_ctx == 8:
            assert "OGKD minus CoOp, N_CTX 8" in parse(tmp_path, *words).stdout
    done = parse(tmp_path, *words)
    assert done.returncode == 2
    assert "several configurations (CoOp, N_CTX 16; CoOp, N_CTX 8)" in done.stderr
    keep(tmp_path / "plain", "few_shot", "BTMRI", "CoOp", 1, 1.0)
    assert "OGKD minus CoOp\n" in parse(tmp_path, *words).stdout


@pytest.mark.parametrize(
    ("datasets", "comparisons", "says"),
    [(1, 1, "no difference can be significant"), (5, 1, "is no p"), (6, 1, "is 0.031"), (6, 3, "0.094 after Holm"),
     (10, 13, "0.025 after Holm's correction for 13"), (11, 13, "0.013 after Holm")],
)  # fmt: skip
def test_the_text_says_what_so_many_data_sets_can_show(datasets, comparisons, says):
    smallest = scipy.stats.wilcoxon(np.arange(1, datasets + 1), method="exact").pvalue
    sentence = what_can_be_shown(datasets, comparisons)
    assert says in sentence
    assert ("no difference can be significant" in sentence) == (smallest * comparisons >= 0.05)


# The diagram


def test_a_diagram_names_every_method_and_joins_what_is_not_told_apart(grid, parse, tmp_path):
    done = parse(grid[0], "--table", "base2new", "--against", "CoOp", "--diagram", tmp_path / "ranks.svg")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.glob("*.svg")) == ["ranks-HM.svg", "ranks-base.svg", "ranks-novel.svg"]
    text = (tmp_path / "ranks-base.svg").read_text()
    test = ranks(Contest(collect(grid[0]), "base2new"), "accuracy", "base")
    for name, rank in test.ranks.items():
        assert f"{name} ({rank:.2f})" in text
    assert f"critical difference {test.critical_difference:.2f}" in text and "mean ranks" in done.stdout


# The tables of a method's claims


@pytest.fixture(scope="module")
def claims(grid):
    """What --claims prints of OGKD and of CoOp against each other."""
    runs = [run for run in collect(grid[0]) if run.method != "BiomedCoOp"]
    return {method: claim_tables(runs, method) for method in ("OGKD", "CoOp")}


@pytest.mark.parametrize(
    ("claim", "metric", "kind"),
    [
        ("Accuracy", "accuracy", "train_base"),
        ("Novel classes", "accuracy", "test_new"),
        ("Reliability", "nll", "train_base"),
        ("Reliability", "aurc", "test_new"),
    ],
)
def test_claims_are_mean_paired_differences_for_the_method_or_against_it(grid, claims, claim, metric, kind):
    of_sets = [
        paired_difference(metric, *(seeds(grid[1], dataset, method, kind) for method in ("OGKD", "CoOp")))
        for dataset in ("BTMRI", "Kvasir", "RETINA")
    ]
    mean = combine(lambda *values: sum(values) / 3, *of_sets)
    bounds = mean.value, mean.low, mean.high
    for (method, rival), expected in ((("OGKD", "CoOp"), bounds), (("CoOp", "OGKD"), [-bounds[i] for i in (0, 2, 1)])):
        (table,) = [one for one in claims[method][0] if one.title == f"{claim}: {METRICS[metric].title}"]
        (row,) = table.rows
        cell = row.cells["novel" if kind == "test_new" else "base"]
        assert row.name == rival and table.headers[0] == f"{method} against"
        assert (cell.mean, cell.interval.low, cell.interval.high) == pytest.approx(expected)


def test_claims_that_were_not_measured_have_no_table_and_the_reason_is_noted(claims):
    tables, notes = claims["OGKD"]
    captions = " ".join(table.caption for table in tables)
    assert not any("Severity" in table.title for table in tables)
    assert any("cyst" in note for note in notes)  # a class that the geometry does not have
    assert "There is no p: over 3 data sets" in captions
    assert "not scaled by a temperature" in captions


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
    predictions = Predictions(
        [f"{dataset}/{i}" for i in range(40)], labels, np.eye(number)[guesses], geometry.classnames
    )
    write_predicted(folder, "few_shot", dataset, method, 1, predictions, changed={})
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


# What is refused


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--claims", "KgCoOp"], "no finished run of the method KgCoOp"),
        (["--claims", "OGKD", "--against", "MaPLe"], "no finished run of the method MaPLe"),
        (["--claims", "OGKD", "--against", "OGKD"], "another method to compare OGKD with"),
        (["--claims", "OGKD", "--table", "few_shot"], "leave out --table"),
        (["--against", "CoOp"], "add --table"),
        (["--table", "base2new", "--against", "KgCoOp"], "CoOp, BiomedCoOp, OGKD"),
        (["--table", "base2new", "--diagram", "x.svg"], "--diagram goes with"),
        (["--table", "base2new", "--against", "CoOp", "--dataset", "btmri", "--diagram", "x.svg"], "3 data sets"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(grid, parse, words, reason):
    done = parse(grid[0], *words)
    assert done.returncode == 2
    assert reason in done.stderr and done.stderr.count("\n") == 1
