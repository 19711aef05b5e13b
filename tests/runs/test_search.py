"""Searches for settings: the same trials for every method, never on test images, and what is done with the best."""

import csv
import json
import random
import re
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dassl.data.datasets import DATASET_REGISTRY, DatasetBase
from ogkd.cli.tune import summary
from ogkd.core import UserError
from ogkd.data.splits import Item
from ogkd.data.trial_images import with_trial
from ogkd.evaluation.budget import labelled
from ogkd.evaluation.collect import collect
from ogkd.evaluation.methods import named
from ogkd.evaluation.predictions import Predictions
from ogkd.runs.config import resolve
from ogkd.runs.execute import execute
from ogkd.runs.protocols import Places, job
from ogkd.runs.registry import benchmark_methods
from ogkd.runs.search import Outcome, Plan, Range, searches
from ogkd.runs.spec import RunSpec
from tests.conftest import ROOT
from tests.support.runs import configured, killed_at

SHORT = "CoOp: {OPTIM.LR: {from: 0.001, to: 0.1}, OPTIM.MAX_EPOCH: [1, 2]}"


@pytest.fixture
def tune(command, data, cache, tmp_path):
    """Run scripts/tune.py, or another program, on the small Phantom with 2 shots."""
    (tmp_path / "space.yaml").write_text(SHORT)

    def run(*words, program="tune", root=data, output="output", dataset="phantom"):
        short = ("FEATURES.CACHE_DIR", str(cache), "DATALOADER.NUM_WORKERS", "0")
        options = ["--shots", "2", "--jobs", "1", "--space", str(tmp_path / "space.yaml"), *map(str, words)]
        places = {"DATA": str(root), "OUTPUT": str(tmp_path / output), "BACKBONE": "PhantomCLIP"}
        return command([f"scripts/{program}.py", dataset, *options, "--", *short], places)

    return run


def trace(folder: Path, name: str = "CoOp") -> list[dict]:
    """The table of a method's trials, without the seconds."""
    (path,) = folder.rglob(f"{name}/PhantomCLIP/seed1/trials.csv")
    return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(path.open())]


def with_useless_test_part(data: Path, root: Path) -> Path:
    """A copy of Phantom whose test labels are permuted and whose test images cannot be read."""
    shutil.copytree(data / "Phantom", root / "Phantom")
    file = root / "Phantom/split_Phantom.json"
    split = json.loads(file.read_text())
    labels = [entry[1:] for entry in split["test"]]
    random.Random(0).shuffle(labels)
    assert labels != [entry[1:] for entry in split["test"]]
    split["test"] = [[entry[0], *label] for entry, label in zip(split["test"], labels, strict=True)]
    file.write_text(json.dumps(split))
    for path, *_ in split["test"]:
        (root / "Phantom/Phantom" / path).write_bytes(b"no image")
    return root


@pytest.mark.parametrize("words", [("--protocol", "base2new"), ("--folds", "2")], ids=["val", "folds"])
def test_neither_labels_nor_files_of_test_images_can_change_a_search(tune, data, tmp_path, words):
    words = ("--methods", "CoOp", "--seeds", "1", "--trials", "2", *words)
    assert tune(*words).returncode == 0
    done = tune(*words, root=with_useless_test_part(data, tmp_path / "data"), output="other")
    assert done.returncode == 0, done.stderr
    mine, theirs = ({p.relative_to(tmp_path / name): p for p in (tmp_path / name).rglob("*") if p.is_file()}
                    for name in ("output", "other"))  # fmt: skip
    assert mine.keys() == theirs.keys()
    assert trace(tmp_path / "output") == trace(tmp_path / "other")
    same = [path for path in mine if path.name in ("best.yaml", "predictions.npz", "fingerprints.json", "split.json")]
    assert len(same) >= 7 and all(mine[path].read_bytes() == theirs[path].read_bytes() for path in same)
    results = [json.loads(path.read_text()) for path in mine.values() if path.name == "results.json"]
    assert {one["subsample"] for one in results} == {"base" if "base2new" in words else "all"}


def test_a_search_that_is_killed_goes_on_to_the_same_result(tune, data, cache, tmp_path):
    words = ("--methods", "CoOp", "--seeds", "1", "--trials", "2")
    (tmp_path / "space.yaml").write_text("CoOp: {OPTIM.LR: {from: 0.001, to: 0.1}, OPTIM.MAX_EPOCH: [2]}")
    assert tune(*words).returncode == 0
    places = Places(data, tmp_path / "killed", "PhantomCLIP")
    pairs = ("FEATURES.CACHE_DIR", str(cache), "DATALOADER.NUM_WORKERS", "0")
    plan = Plan(2, space=str(tmp_path / "space.yaml"))
    (search,) = searches(plan, "few_shot", "phantom", ["CoOp"], [1], [2], places, pairs)
    trial = search.jobs[0].specs[0]
    killed_at(trial, "epoch [2/2]")
    assert (Path(trial.folder) / "prompt_learner/model.pth.tar-1").is_file()
    assert tune(*words, output="killed").returncode == 0
    assert trace(tmp_path / "killed") == trace(tmp_path / "output")


def test_trials_are_deterministic_skipped_once_finished_and_the_first_of_more(tune, tmp_path):
    words = ("--methods", "CoOp", "--seeds", "1", "--score", "likelihood")
    assert tune(*words, "--trials", "2").returncode == 0
    two = trace(tmp_path / "output")
    (lost, kept) = sorted((tmp_path / "output").rglob("results.json"))
    lost.unlink()
    written = kept.stat().st_mtime_ns
    done = tune(*words, "--trials", "3")
    assert "trial" not in done.stderr and done.stdout.count("was complete") == 1
    assert (kept.stat().st_mtime_ns, trace(tmp_path / "output")[:2]) == (written, two)
    assert len({row["OPTIM.LR"] for row in trace(tmp_path / "output")}) == 3
    best = yaml.safe_load(next((tmp_path / "output").rglob("best.yaml")).read_text())
    likeliest = min(trace(tmp_path / "output"), key=lambda row: float(row["nll"]))
    assert best["OPTIM"]["LR"] == float(likeliest["OPTIM.LR"])
    other = tune(*words, "--trials", "2", "--seed", "2", output="other")
    assert other.returncode == 0 and trace(tmp_path / "other") != two


def test_compare_searches_and_tests_the_best_settings_of_each_seed_in_one_row(tune, command, tmp_path):
    methods = ("--methods", "ZeroShot", "CoOp", "--seeds", "1", "2", "--protocol", "few_shot")
    refused = tune(*methods, "--settings", "search", program="compare")
    assert refused.returncode == 2 and "no finished search for ZeroShot" in refused.stderr
    assert "tune" in refused.stderr and "--trials" in refused.stderr
    done = tune(*methods, "--settings", "universal", "search", "--trials", "2", "--", "OPTIM.MAX_EPOCH", "1",
                program="compare")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "ZeroShot has nothing to search" in done.stdout
    assert "phantom few-shot, universal settings" in done.stdout and "phantom few-shot, search settings" in done.stdout
    assert "best of 2 trials by accuracy on validation images" in done.stdout
    final = [run for run in collect(tmp_path / "output") if run.results["settings"] == "search"]
    assert len(final) == 4 and all("trial" not in str(run.path) for run in final)
    for run in final:
        if run.method == "CoOp":
            best = yaml.safe_load((tmp_path / f"output/tune/few_shot/phantom/shots_2/CoOp/PhantomCLIP/seed{run.seed}/"
                                   "best.yaml").read_text())  # fmt: skip
            assert run.results["config"]["OPTIM"]["LR"] == best["OPTIM"]["LR"]
            assert run.results["labelled"] == {"train": [2, 2], "val": [2, 2], "chosen": ["the settings"]}
            assert run.changed == {"SETTINGS": "search", "OPTIM.MAX_EPOCH": 1}
        else:
            assert run.results["labelled"]["chosen"] == []
    rates = {run.results["config"]["OPTIM"]["LR"] for run in final if run.method == "CoOp"}
    assert len(rates) == 2
    table = command(["parse_test_res.py", str(tmp_path / "output"), "--table", "few_shot"]).stdout
    rows = [line for line in table.splitlines() if line.startswith("| CoOp") and "search" in line]
    assert len(rows) == 1 and "±" in rows[0]
    text = command(["parse_test_res.py", str(tmp_path / "output"), "--table", "few_shot", "--format", "csv"]).stdout
    said = {(row["settings"], row["method"].split(",")[0]): row for row in csv.DictReader(text.splitlines())}
    assert said["search", "CoOp"]["labelled images per class"] == "2 + 2 (the settings)"
    assert said["search", "CoOp"]["search"] == "2 trials by accuracy on validation images"
    assert [said[one, "CoOp"]["tuned per data set"] for one in ("search", "universal")] == ["1", "0"]
    assert said["universal", "CoOp"]["labelled images per class"] == "2"


def test_own_images_are_searched_with_the_fast_settings_that_their_runs_have(tune, data, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for folder in sorted((data / "Phantom/Phantom").iterdir())[:2]:
        shutil.copytree(folder, tmp_path / "data/moles" / folder.name)
    words = ("--methods", "CoOp", "--seeds", "1", "--trials", "1", "--settings", "search", "--protocol", "few_shot")
    done = tune(*words, program="compare", root=tmp_path / "data", dataset="moles")
    assert done.returncode == 0, done.stderr
    (final,) = collect(tmp_path / "output")
    assert final.changed == {"SETTINGS": "search"} and final.results["config"]["FEATURES"]["CROPS"] == 8
    (trial,) = (tmp_path / "output/tune").rglob("results.json")
    assert "not in the split" not in str(json.loads(trial.read_text())["warnings"])
    (best,) = (tmp_path / "output").rglob("best.yaml")
    spec = RunSpec(method="CoOp", folder="x", dataset="phantom", method_file=str(best))
    assert resolve(spec).cfg.SETTINGS == "search" and resolve(spec).cfg.FEATURES.CROPS == 8


def search_of(method: str, **plan) -> object:
    places = Places(Path("data"), Path("output"), "PhantomCLIP")
    return searches(Plan(**{"trials": 4} | plan), "few_shot", "phantom", [method], [1], [4], places)[0]


def test_equal_scores_are_decided_by_likelihood_then_by_order_and_what_diverged_is_never_best():
    search = search_of("CoOp")
    rows = [(1, None, None, "diverged"), (2, 50.0, 0.8, "finished"), (3, 75.0, 0.9, "finished"),
            (4, 75.0, 0.7, "finished"), (5, 75.0, 0.7, "finished")]  # fmt: skip
    table = [dict(zip(("trial", "score", "nll", "status"), row, strict=True)) for row in rows]
    assert search.best(table)["trial"] == 4
    assert replace(search, plan=Plan(4, "likelihood")).best(table)["trial"] == 2
    assert search.best([]) is None
    done = [row | dict.fromkeys(["seconds", *search.space], 1) for row in table]
    assert summary([Outcome(search, done, done[3])]).footnotes == ["CoOp, seed 1: 1 of 5 trials diverged."]
    with pytest.raises(UserError, match=r"All 1 trials .* diverged"):
        search.best(table[:1])


def test_the_space_that_is_shown_is_a_file_that_is_read(tune, tmp_path):
    shown = tune("--methods", "OGKD", "GDA", "--show-space")
    (tmp_path / "space.yaml").write_text(shown.stdout.replace("to: 20.0", "to: 2e1"))
    assert tune("--methods", "OGKD", "GDA", "--show-space").stdout == shown.stdout
    space = yaml.safe_load(shown.stdout)
    assert list(space) == ["OGKD"] and space["OGKD"]["TRAINER.OGKD.LAMBDA_SCCM"] == {"from": 0.25, "to": 20.0}


def test_every_method_has_as_many_trials_of_valid_settings_or_nothing_to_search():
    for method in ("CoOp", "OGKD", "TipAdapterF", "CLAP"):
        search = search_of(method, trials=5)
        assert len(search.jobs) == 5 and {"OPTIM.LR", "OPTIM.MAX_EPOCH"} <= search.space.keys()
        for _, tried in search.trials:
            resolve(tried.specs[0])  # raises UserError if a value is out of range
    assert [key.rpartition(".")[2] for key in search_of("KgCoOp").space] == ["LR", "MAX_EPOCH", "W"]
    for method in ("ZeroShot", "ZeroShotEnsemble", "GDA", "LinearProbe", "TipAdapter", "SSText"):
        assert search_of(method).jobs == []


@given(st.floats(1e-6, 1e3), st.floats(1, 1e6), st.integers(0, 9))
def test_draws_are_in_their_range_and_whole_between_whole_numbers(low, factor, seed):
    value = Range(low, low * factor).draw(random.Random(seed))
    assert low <= value <= low * factor
    whole = Range(round(low), round(low * factor)).draw(random.Random(seed))
    assert isinstance(whole, int) and round(low) <= whole <= round(low * factor)


def test_each_whole_number_of_a_short_range_is_as_likely():
    generator = random.Random(0)
    counts = Counter(Range(1, 3).draw(generator) for _ in range(3000))
    assert counts.keys() == {1, 2, 3} and all(900 < count < 1100 for count in counts.values())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("CoOp: {OPTIM.LR: 0.1}", "no search space.*OPTIM.LR is not an object"),
        ("CoOp: {OPTIM.LR: {from: 0.1, too: 1}}", "OPTIM.LR has no to"),
        ("CoOp: {OPTIM.LR: {from: low, to: 1}}", "OPTIM.LR.from is not a number"),
        ("CoOp: {N_CTX: []}", "N_CTX has no values"),
        ("CoOp", "no search space"),
        ("CoOpp: {N_CTX: [4]}", "no trainer 'CoOpp'.*CoOp"),
        ("CoOp: {N_CTXX: [4]}", "TRAINER.COOP.N_CTXX.*N_CTX"),
        ("CoOp: {N_CTX: [4, 0]}", "N_CTX is 0.*at least 1"),
        ("CoOp: {OPTIM.LR: {from: 1, to: 0.1}}", "OPTIM.LR has no values"),
    ],
)
def test_a_wrong_space_is_refused_before_anything_is_tried(tune, tmp_path, text, words):
    (tmp_path / "space.yaml").write_text(text)
    done = tune("--methods", "CoOp", "--seeds", "1", "--trials", "1")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert re.search(words, done.stderr), done.stderr
    assert not (tmp_path / "output/tune").exists()


def split_of(sizes: dict[str, int]) -> dict:
    train = [Item(f"{name}/{n}.png", at, name) for at, (name, size) in enumerate(sizes.items()) for n in range(size)]
    return {"train": train, "val": [], "test": []}


@given(st.lists(st.integers(3, 9), min_size=2, max_size=4), st.integers(2, 3), st.integers(0, 99), st.booleans())
def test_folds_part_the_shots_by_class_and_patient(sizes, folds, seed, by_patient):
    split = split_of({f"c{place}": size * (1 + by_patient) for place, size in enumerate(sizes)})
    patients = {item.path: f"{item.classname} {i // 2}" for i, item in enumerate(split["train"])} if by_patient else {}
    parts = [with_trial(split, f"{number}/{folds}", seed, patients) for number in range(1, folds + 1)]
    assert sorted(item for part in parts for item in part["test"]) == sorted(split["train"])
    for part in parts:
        assert sorted([*part["train"], *part["test"]]) == sorted(split["train"])
        assert set(Counter(item.label for item in part["train"])) == set(range(len(sizes)))
        owners = [{patients.get(item.path, item.path) for item in part[name]} for name in ("train", "test")]
        assert not owners[0] & owners[1]


def test_folds_and_validation_images_that_there_are_not_are_refused():
    split = split_of({"nevus": 2, "melanoma": 8})
    with pytest.raises(UserError, match=r"4 folds .* 'nevus' has 2 training images"):
        with_trial(split, "1/4", 1, {})
    with pytest.raises(UserError, match="'melanoma' has 1 patient:"):
        with_trial(split, "1/2", 1, {item.path: item.classname for item in split["train"][2:]})
    with pytest.raises(UserError, match=r"4 shots .* 5 folds"):
        search_of("CoOp", folds=5)
    with pytest.raises(UserError, match=r"no validation images.*--folds"):
        with_trial(split, "val", 1, {})


@pytest.mark.parametrize(
    ("method", "pairs", "chosen"),
    [
        ("ZeroShot", (), None),
        ("GDA", (), ["alpha"]),
        ("GDA", ("TRAINER.GDA.ALPHA", "0.1"), []),
        ("TipAdapterF", (), ["the best epoch", "alpha and beta"]),
        ("CoOp", ("TEST.FINAL_MODEL", "best_val"), ["the best epoch"]),
    ],
)
def test_results_say_what_was_chosen_on_how_many_validation_images(arguments, tmp_path, method, pairs, chosen):
    execute(RunSpec.parse(configured(arguments, method, "OPTIM.MAX_EPOCH", "1", *pairs)))
    (run,) = collect(tmp_path)
    if chosen is None:
        assert labelled(run) == ""
    else:
        assert run.results["labelled"] == {"train": [2, 2], "val": [2, 2] if chosen else [0, 0], "chosen": chosen}
        assert labelled(run) == ("2" + (f" + 2 ({' and '.join(chosen)})" if chosen else ""))


def test_a_test_on_validation_images_names_them_though_the_test_images_have_the_same_labels(arguments, tmp_path):
    execute(RunSpec.parse(configured(arguments, "ZeroShot", "TEST.SPLIT", "val", "DATASET.NUM_SHOTS", "4")))
    split = json.loads((tmp_path / "run/split.json").read_text())
    assert Predictions.load(tmp_path / "run/predictions.npz").images == tuple(item[0] for item in split["val"])


def test_values_that_a_paper_tuned_for_a_data_set_are_counted_from_the_configuration():
    def tuned(method: str, dataset: str, protocol: str = "base2new", settings: str = "published", pairs=()) -> int:
        places = Places(Path("data"), Path("output"), "PhantomCLIP", settings)
        return len(resolve(job(protocol, method, dataset, 16, 1, places, pairs).specs[0]).tuned)

    assert (tuned("OGKD", "btmri", settings="universal"), tuned("OGKD", "phantom")) == (0, 0)
    assert tuned("OGKD", "btmri", pairs=("TRAINER.OGKD.GAMMA", "0.1")) == 5
    page = (ROOT / "docs/budgets.md").read_text(encoding="utf-8")
    counts = re.findall(r"^\| (.+) \| (\d) \| (\d) \|$", page, re.MULTILINE)
    rows = {named(title): (int(base), int(few)) for title, base, few in counts}
    for method in benchmark_methods():
        assert rows.get(method, (0, 0)) == (tuned(method, "btmri"), tuned(method, "btmri", "few_shot"))


def test_a_data_set_that_would_not_drop_its_test_images_is_not_searched(monkeypatch):
    class Other(DatasetBase): ...

    monkeypatch.setitem(DATASET_REGISTRY._obj_map, "Other", Other)
    spec = RunSpec(method="CoOp", folder="x", pairs=("DATASET.NAME", "Other", "DATASET.TRIAL", "val"))
    with pytest.raises(UserError, match=r"Other draws its images itself.*search on another"):
        resolve(spec)
