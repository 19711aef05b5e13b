"""The transfer protocol: what is learned on one data set is tested on another."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ogkd.core import UserError
from ogkd.data import catalogue
from ogkd.data.duplicates import identical, overlap
from ogkd.evaluation.collect import collect, read_run
from ogkd.evaluation.predictions import Predictions
from ogkd.evaluation.statistics import bootstrap
from ogkd.phantom.dataset import write_dataset
from ogkd.prompts.bank import load_prompts
from ogkd.reports.tables import few_shot_tables
from ogkd.reports.transfer import transfer_tables
from ogkd.runs.config import resolve
from ogkd.runs.plan import published_routes, transfer_plan
from ogkd.runs.protocols import TRANSFER, Places, job

SOURCE_CLASSES = ["benign tumor", "malignant tumor", "normal scan"]
TARGET_CLASSES = ["malignant tumor", "benign tumor"]  # in another order than the source has them


def read_split(root, name):
    return json.loads((root / name / f"split_{name}.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def places(tmp_path_factory):
    """BUSI with three of Phantom's classes, and BUID with copies of two classes' images: those of BUSI's test part and
    two of its training part to test on."""
    root = tmp_path_factory.mktemp("transfer")
    data = root / "data"
    write_dataset(data / "BUSI", counts={"train": 5, "val": 4, "test": 4})
    (data / "BUSI/Phantom").rename(data / "BUSI/BUSI")
    made = json.loads((data / "BUSI/split_Phantom.json").read_text(encoding="utf-8"))
    made = {part: made[part] for part in catalogue.PARTS}
    drawn = sorted({name for _, _, name in made["train"]})[:3]
    split = {
        part: [
            [path, drawn.index(name), SOURCE_CLASSES[drawn.index(name)]]
            for path, _, name in made[part]
            if name in drawn
        ]
        for part in made
    }
    (data / "BUSI/split_BUSI.json").write_text(json.dumps(split), encoding="utf-8")

    shared = {part: [entry for entry in split[part] if entry[2] in TARGET_CLASSES] for part in split}
    target = {"train": shared["val"], "val": shared["train"][2:], "test": shared["test"] + shared["train"][:2]}
    target = {part: [[path, TARGET_CLASSES.index(n), n] for path, _, n in target[part]] for part in target}
    shutil.copytree(data / "BUSI/BUSI", data / "BUID/BUID")
    (data / "BUID/split_BUID.json").write_text(json.dumps(target), encoding="utf-8")
    return Places(data, root / "output", "PhantomCLIP")


@pytest.fixture
def transfer(command, places, cache):
    """Run one method from BUSI to BUID as the command line does: transfer(method, seed, *pairs)."""

    def run(method, seed=1, *pairs, route=("busi", "buid")):
        words = ["FEATURES.CACHE_DIR", str(cache), "DATALOADER.NUM_WORKERS", "0", "OPTIM.MAX_EPOCH", "2", *pairs]
        env = {"DATA": str(places.data), "OUTPUT": str(places.output), "BACKBONE": "PhantomCLIP"}
        return command(["scripts/run.py", method, "transfer", *route, "2", str(seed), *words], env)

    return run


def folders(places, method, seed=1):
    """Of the run that learns, and of the one that tests."""
    tail = ("shots_2", method, "PhantomCLIP", f"seed{seed}")
    return places.output.joinpath("few_shot", "busi", *tail), places.output.joinpath("transfer", "busi", "buid", *tail)


@pytest.mark.parametrize(
    "method, pairs, seed",
    [
        ("CoOp", (), 1),
        ("CoOp", ("TRAINER.COOP.CSC", "True"), 5),
        ("LinearProbe", (), 1),
        ("MaPLe", (), 1),
    ],
)
def test_the_same_images_get_the_logits_they_have_on_the_source(transfer, places, method, pairs, seed):
    done = transfer(method, seed, *pairs)
    assert done.returncode == 0, done.stderr
    learned, tested = (Predictions.load(folder / "predictions.npz") for folder in folders(places, method, seed))
    entries = read_split(places.data, "BUID")["test"]
    assert tested.classnames == tuple(TARGET_CLASSES)
    assert [list(pair) for pair in zip(tested.images, tested.labels.tolist(), strict=True)] == [e[:2] for e in entries]
    columns = [learned.classnames.index(name) for name in TARGET_CLASSES]
    both = [(row, learned.images.index(path)) for row, path in enumerate(tested.images) if path in learned.images]
    assert len(both) == 8
    for row, other in both:
        assert np.allclose(tested.logits[row], learned.logits[other, columns], atol=1e-3)


def test_a_prompt_is_trained_once_and_what_was_tested_is_written_down(transfer, places):
    assert transfer("KgCoOp").returncode == 0
    learned, tested = folders(places, "KgCoOp")
    (checkpoint,) = (learned / "prompt_learner").glob("model.pth.tar-*")
    written = checkpoint.stat().st_mtime_ns
    results = [json.loads((folder / "results.json").read_text()) for folder in (learned, tested)]
    assert [one["source"] for one in results] == ["", "BUSI"]
    assert [one["dataset"] for one in results] == ["BUSI", "BUID"]
    assert [one["trained"] for one in results] == [True, False]

    again = transfer("KgCoOp")
    assert checkpoint.stat().st_mtime_ns == written
    assert (
        "busi -> buid: 2 of the 10 test images of buid are byte-identical to training images of busi." in again.stdout
    )
    assert "Accuracy in %, with its 95 % interval over test images." in again.stdout
    assert "Tested on 10 images." in again.stdout


def test_the_tables_keep_transfer_runs_apart_and_give_the_interval_of_the_seeds_mean(transfer, places):
    for seed in (1, 2):
        assert transfer("ZeroShot", seed).returncode == 0
    runs = [run for run in collect(places.output) if run.method == "ZeroShot"]
    assert sorted((run.kind, run.source, run.dataset) for run in runs) == [
        *[("few_shot", "", "busi")] * 2,
        *[("transfer", "busi", "buid")] * 2,
    ]
    (of_source,) = few_shot_tables(runs)
    assert [row.name for row in of_source.rows] == ["Zero-shot"]
    (table,) = transfer_tables(runs)
    assert table.title == "busi -> buid, 2 shots"
    mean, low, high = table.line(table.rows[0]).values()
    seeds = [Predictions.load(run.path / "predictions.npz") for run in runs if run.kind == "transfer"]
    expected = bootstrap("accuracy", seeds)
    assert (mean.mean, mean.seeds) == (pytest.approx(100 * np.mean([one.correct for one in seeds])), 2)
    assert (low.mean, high.mean) == (expected.low, expected.high)


def test_the_sources_configuration_file_is_the_yardstick_of_what_was_changed(places, tmp_path):
    elsewhere = replace(places, output=tmp_path)

    def changed(*pairs):
        learned, tested = job(TRANSFER, "BiomedCoOp", "busi", 2, 1, elsewhere, pairs, ["buid"]).specs
        assert learned.method_file == tested.method_file == "configs/trainers/BiomedCoOp/few_shot/busi.yaml"
        Path(learned.folder).mkdir(parents=True, exist_ok=True)
        Path(learned.folder, "config.yaml").write_text(yaml.safe_dump(resolve(learned).values))
        configuration = resolve(tested).complete()
        assert configuration.source == "BUSI"
        return configuration.changed

    assert changed() == {}
    assert changed("OPTIM.MAX_EPOCH", "3") == {"OPTIM.MAX_EPOCH": 3}


def test_a_target_with_other_classes_is_for_methods_that_can_name_them(places):
    assert len(job(TRANSFER, "CoOp", "btmri", 16, 1, places, (), ["busi"]).specs) == 2
    with pytest.raises(UserError, match=r"LinearProbe only learns .* 'benign tumor' of busi is not one of them"):
        job(TRANSFER, "LinearProbe", "btmri", 16, 1, places, (), ["busi"])
    routes = [("btmri", "busi"), ("btmri", "brisc"), ("busi", "buid")]
    jobs, left_out = transfer_plan(routes, ["CoOp", "LinearProbe"], [1, 2], [16], places)
    tests = [tuple(spec.folder.split("/transfer/")[1].split("/")[:2]) for one in jobs for spec in one.specs[1:]]
    assert sorted(tests) == sorted([*routes, *routes[1:]] * 2)
    assert len(left_out) == 1 and left_out[0].startswith("LinearProbe only learns to distinguish the classes of btmri")


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["CoOp", "transfer", "busi", "buid", "16"], "Give SOURCE TARGET SHOTS SEED, such as"),
        (["CoOp", "transfer", "busi", "bvid", "16", "1"], "There is no data set 'bvid'"),
        (["LinearProbe", "transfer", "btmri", "busi", "16", "1"], "it is left out of btmri -> busi"),
        (["CoOp", "transfer", "busi", "udiat", "2", "1", "OPTIM.MAX_EPOCH", "1"], "download.py udiat --root"),
    ],
)
def test_what_cannot_be_transferred_is_said_in_one_sentence(command, places, cache, words, sentence):
    env = {"DATA": str(places.data), "OUTPUT": str(places.output / "wrong"), "BACKBONE": "PhantomCLIP"}
    done = command(["scripts/run.py", *words], env)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert sentence in done.stderr


def test_routes_without_their_images_are_left_out_and_named(places, tmp_path, capsys):
    routes = published_routes(places)
    assert ("busi", "buid") in routes and not {"btmri", "udiat"} & {name for route in routes for name in route}
    note = capsys.readouterr().err
    assert "UDIAT is left out" in note and "download.py udiat --root" in note
    assert len(published_routes(places, without_data=True)) >= 6 and not capsys.readouterr().err


def test_the_whole_protocol_ends_with_tables(command, places):
    env = {"DATA": str(places.data), "OUTPUT": str(places.output / "all"), "BACKBONE": "PhantomCLIP"}
    words = [
        "scripts/transfer.py",
        "busi:buid",
        "--methods",
        "ZeroShot",
        "--seeds",
        "1",
        "2",
        "--shots",
        "2",
        "--jobs",
        "1",
    ]
    done = command(words, env)
    assert done.returncode == 0, done.stderr
    assert "busi -> buid, 2 shots" in done.stdout and "| Zero-shot |" in done.stdout
    done = command(["scripts/transfer.py", "--dry-run", "--methods", "CoOp"], env)
    lines = done.stdout.splitlines()
    assert len(lines) == len(set(lines)) and all(line.startswith("python train.py ") for line in lines)
    assert sum("/few_shot/busi/" in line.split("--root")[0] for line in lines) == 3


# Shared images


@given(st.lists(st.binary(max_size=3), max_size=6), st.lists(st.binary(max_size=3), max_size=6))
def test_images_are_the_same_by_their_bytes_alone(tmp_path_factory, mine, others):
    folder = tmp_path_factory.mktemp("images")

    def written(name, contents):
        for number, content in enumerate(contents):
            (folder / f"{name}{number}.png").write_bytes(content)
        return [folder / f"{name}{number}.png" for number in range(len(contents))]

    found = identical(written("a", mine), written("b", others))
    assert found == [folder / f"a{number}.png" for number, content in enumerate(mine) if content in others]


def test_the_overlap_is_of_the_targets_test_and_the_sources_training_images(places):
    assert overlap("busi", "buid", places.data) == (2, 10)
    assert overlap("busi", "busi", places.data) == (0, 12)


def test_a_source_that_is_not_a_run_of_this_project_is_reported(transfer, places, command, arguments, tmp_path):
    assert transfer("CoOp").returncode == 0
    learned, _ = folders(places, "CoOp")
    foreign = tmp_path / "foreign"
    shutil.copytree(learned / "prompt_learner", foreign / "prompt_learner")
    words = ["--eval-only", "--model-dir", str(foreign)]
    options = arguments("CoOp")
    place = options.index("FEATURES.CACHE_DIR")
    assert command(["train.py", *options[:place], *words, *options[place:]]).returncode == 0
    run = read_run(tmp_path / "run")
    assert (run.kind, run.results["source"]) == ("few_shot", "elsewhere")


def test_a_target_without_its_own_prompts_uses_those_of_its_source():
    assert load_prompts("BUID", TARGET_CLASSES) == load_prompts("BUSI", TARGET_CLASSES)
