"""evaluate.py: a trained prompt on another hospital's labelled images."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ogkd.core import UserError
from ogkd.evaluation.collect import collect
from ogkd.evaluation.predictions import Predictions
from ogkd.evaluation.unlike import FALSE_ALARMS, UNLIKE, Reference, fit
from ogkd.predict.evaluation import matched
from ogkd.predict.export import export, load_prompt
from ogkd.predict.predictor import probabilities
from tests.support.check_method import SmallRuns

HERE = {"tumour": "smooth mass", "cyst": "simple cyst"}  # the clinic's words for two trained classes
AS = [f"{mine}={trained}" for mine, trained in HERE.items()]


@pytest.fixture(scope="module")
def run(tmp_path_factory, data, cache) -> Path:
    small = SmallRuns("CoOp", tmp_path_factory.mktemp("trained"), data, cache)
    small.run("run")
    return small.folder / "run"


@pytest.fixture
def clinic(tmp_path, data) -> Path:
    """Two classes of three images under other names, in folders of parts; two of each class are of one patient."""
    for part, (mine, trained) in zip(("train", "test"), HERE.items(), strict=True):
        place = tmp_path / "clinic" / part / mine
        place.mkdir(parents=True)
        for number, patient in enumerate(("p1", "p1", "p2")):
            source = data / "Phantom" / "Phantom" / trained.replace(" ", "_") / f"{number + 10:03d}.png"
            shutil.copy(source, place / f"{patient}_{mine}_{number}.png")
    (tmp_path / "clinic" / "test" / "tumour").mkdir()
    shutil.move(tmp_path / "clinic/train/tumour/p2_tumour_2.png", tmp_path / "clinic/test/tumour")
    return tmp_path / "clinic"


@pytest.fixture
def evaluated(command, run, clinic, tmp_path):
    """evaluate.py on the clinic's folder: evaluated(*words) -> (what it printed, its results, its predictions)."""

    def call(*words: str, source: Path = run) -> tuple[str, dict, Predictions]:
        output = ["--output", str(tmp_path / "out")] if "--output" not in words else []
        done = command(["evaluate.py", str(source), str(clinic), "--as", *AS, *output, *words])
        assert done.returncode == 0, done.stderr
        return (
            done.stdout,
            json.loads((tmp_path / "out" / "results.json").read_text()),
            Predictions.load(tmp_path / "out" / "predictions.npz"),
        )

    return call


def refused(command, *words: object) -> str:
    done = command(["evaluate.py", *map(str, words)])
    assert done.returncode == 2 and "Traceback" not in done.stderr
    return done.stderr


def test_all_images_of_the_folder_get_the_answers_that_predict_gives(evaluated, run, clinic, command, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    out, results, predictions = evaluated()
    assert len(predictions) == 6 and results["num_test"] == 6
    names = np.array(predictions.classnames)[predictions.labels]
    assert all(HERE[image.split("/")[1]] == name for image, name in zip(predictions.images, names, strict=True))
    command(["predict.py", str(run), *(str(clinic / one) for one in predictions.images), "--csv", str(tmp_path / "t")])
    with (tmp_path / "t").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["decision"] for row in rows] == [predictions.classnames[place] for place in predictions.predicted]
    chances = [[float(row[f"probability of {name}"]) for name in predictions.classnames] for row in rows]
    np.testing.assert_allclose(chances, probabilities(predictions.logits), atol=1e-6)
    assert sum(row[UNLIKE] == "yes" for row in rows) == results["unlike"]["images"]
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    assert f"accuracy (%) | {results['accuracy']:.2f}" in out
    inside = load_prompt(run).set_rule(0.9, "LAC", False).sets(predictions.probabilities)
    covered = f"contain the true class in {100 * inside[np.arange(6), predictions.labels].mean():.1f} %"
    assert covered in out and covered in (tmp_path / "out" / "card.md").read_text()


def test_a_table_s_columns_give_results_by_group(evaluated, clinic, tmp_path):
    images = sorted(path.relative_to(clinic).as_posix() for path in clinic.rglob("*.png"))
    lines = [f"{image},{number},{'' if number == 5 else 'fm'[number % 2]}" for number, image in enumerate(images)]
    (tmp_path / "meta.csv").write_text("\n".join(["image,patient,sex", *lines]))
    out, _, predictions = evaluated("--patients", str(tmp_path / "meta.csv"), "--group-column", "sex")
    sexes = dict(zip(images, ["f", "m", "f", "m", "f", "not given"], strict=True))
    assert predictions.subgroups == {"sex": tuple(sexes[image] for image in predictions.images)}
    card = (tmp_path / "out" / "card.md").read_text()
    assert "By sex" in out and "By sex" in card and "Too small to be measured" in card


def test_an_exported_prompt_gives_the_same_results(evaluated, run, tmp_path):
    _, mine, predictions = evaluated()
    export(run, tmp_path / "exported")
    _, theirs, others = evaluated(source=tmp_path / "exported")
    assert (others.logits == predictions.logits).all()
    for name in ("accuracy", "calibrated", "unlike", "shots", "seed", "fingerprints"):
        assert mine[name] == theirs[name]
    _, named, _ = evaluated("--name", load_prompt(run).dataset, source=tmp_path / "exported")  # it has no hashes
    assert ["training images may be tested" in " ".join(of["warnings"]) for of in (theirs, named)] == [False, True]
    here, there = load_prompt(run).reference, load_prompt(tmp_path / "exported").reference
    assert here.numbers == there.numbers and (here.means == there.means).all()


def test_tables_and_pages_show_an_evaluation_as_a_transfer(evaluated, command, tmp_path):
    evaluated("--name", "Phantom")  # also under the name of the data set that was trained on
    (found,) = collect(tmp_path / "out")
    assert (found.kind, found.source, found.method, found.shots, found.seed) == ("transfer", "phantom", "CoOp", 2, 1)
    done = command(["parse_test_res.py", str(tmp_path / "out"), "--table", "transfer"])
    assert done.returncode == 0 and "2 shots" in done.stdout and f"{found.results['accuracy']:.2f}" in done.stdout
    done = command(["report.py", str(tmp_path / "out"), "-o", str(tmp_path / "page.html")])
    assert done.returncode == 0, done.stderr
    assert "Phantom" in (tmp_path / "page.html").read_text()


def test_a_class_that_was_not_trained_is_refused_until_it_is_mapped_or_left_out(command, run, clinic, tmp_path):
    said = refused(command, run, clinic, "--as", AS[0], "--output", tmp_path / "out")
    assert "'cyst'" in said and '--as "cyst=' in said and "simple cyst" in said
    assert "--as takes" in refused(command, run, clinic, "--as", "=smooth mass")
    several = refused(command, run, clinic, "--as", "tumour=smooth mass", "tumour=simple cyst")
    assert "twice" in several and "not added" in several
    assert "the classes in" in refused(command, run, clinic, "--as", "tumor=smooth mass")
    assert "(did you mean 'smooth mass'?)" in refused(command, run, clinic, "--as", "tumour=smooth mas")
    assert not (tmp_path / "out").exists()
    done = command(["evaluate.py", str(run), str(clinic), "--as", AS[0], "cyst=", "--output", str(tmp_path / "out")])
    assert done.returncode == 0, done.stderr
    warnings = json.loads((tmp_path / "out" / "results.json").read_text())["warnings"]
    assert any("class cyst of the folder is left out" in one for one in warnings)
    assert any("no images of" in one and "simple cyst" in one for one in warnings)


@given(st.lists(st.sampled_from(["Smooth_mass", "simple-cyst", "lump"]), unique=True, min_size=1))
def test_classes_are_matched_by_name_and_never_by_position(names):
    trained = ["simple cyst", "smooth mass"]
    meant = matched(names, trained, {"lump": "smooth mass"} if "lump" in names else {}, "here")
    expected = {"Smooth_mass": "smooth mass", "simple-cyst": "simple cyst", "lump": "smooth mass"}
    assert meant == {name: expected[name] for name in names}


def test_patients_make_the_intervals_and_are_counted_in_the_card(evaluated, tmp_path):
    out, _, predictions = evaluated()
    assert predictions.groups is None and "patients unknown" in out
    out, results, predictions = evaluated("--patients", r"(p\d)_")
    assert results["num_patients"] == predictions.patients == 2
    card = (tmp_path / "out" / "card.md").read_text()
    assert "6 images of 2 patients" in card and "Intervals are over patients" in card
    assert "p1_" not in card and str(tmp_path) not in card
    assert "“tumour” counts as smooth mass" in card and "not a medical device" in card


def test_labels_may_be_in_a_table(command, run, clinic, tmp_path):
    images = sorted(clinic.rglob("*.png"))
    rows = [f"{path.name},{path.parent.name},{path.name[:2]}" for path in images]
    (tmp_path / "labels.csv").write_text("\n".join(["image,label,patient_id", *rows]))
    words = [str(run), str(clinic), "--labels", str(tmp_path / "labels.csv"), "--as", *AS]
    done = command(["evaluate.py", *words, "--output", str(tmp_path / "out")])
    assert done.returncode == 0, done.stderr
    assert Predictions.load(tmp_path / "out" / "predictions.npz").patients == 2


def test_what_makes_a_result_doubtful_is_said(evaluated, run, clinic, data, tmp_path):
    trained = json.loads((run / "split.json").read_text())["train"][0][0]
    shutil.copy(data / "Phantom" / "Phantom" / trained, clinic / "test" / "tumour" / "p3.png")
    (clinic / "test" / "tumour" / "p4.png").write_bytes(b"\x89PNG\r\n\x1a\n no image")
    out, results, predictions = evaluated()
    assert len(predictions) == 7
    assert any("1 of the 8 images could not be read" in one for one in results["warnings"])
    assert any(
        "1 of the 8 images is byte-identical to images that the prompt was trained" in o for o in results["warnings"]
    )
    assert "byte-identical" in (tmp_path / "out" / "card.md").read_text() and "byte-identical" in out


def test_nothing_else_is_overwritten(evaluated, command, run, clinic, data, tmp_path):
    before = (run / "results.json").read_bytes()
    assert "never changes" in refused(command, run, clinic, "--as", *AS, "--output", run)
    assert (run / "results.json").read_bytes() == before
    evaluated()
    evaluated()
    shutil.copy(data / "Phantom" / "Phantom" / "smooth_mass" / "000.png", clinic / "test" / "tumour" / "new.png")
    assert "--rerun" in refused(command, run, clinic, "--as", *AS, "--output", tmp_path / "out")
    evaluated("--rerun")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    assert "holds other files" in refused(command, run, clinic, "--as", *AS, "--output", tmp_path / "mine")


@given(st.integers(1, 60), st.integers(0, 10**6))
def test_few_images_like_the_validation_images_are_flagged(pairs, seed):
    features = np.random.default_rng(seed).normal(size=(2 * pairs, 3))
    found = fit(features, np.arange(2 * pairs) // 2)
    assert found.flagged <= FALSE_ALARMS * 2 * pairs
    assert found.exceeded(features).sum() <= found.flagged  # the mean of a class is nearer to its own images
    assert found.expected == 1 / (2 * pairs + 1) if pairs < 19 else found.expected <= FALSE_ALARMS
    assert fit(features[:-1], np.arange(2 * pairs - 1) // 2) is None  # one image of a class: it would be its own mean


def test_new_patients_are_not_flagged_for_being_others_than_those_of_the_validation_images(tmp_path):
    random, shares = np.random.default_rng(0), []

    def images(patients):
        patient = np.repeat(np.arange(patients), 10)
        of_patients = 3 * np.eye(64)[np.arange(patients) % 2] + random.normal(scale=0.5, size=(patients, 64))
        return of_patients[patient] + random.normal(scale=0.15, size=(len(patient), 64)), patient % 2, patient

    for _ in range(20):
        found = fit(*images(10))
        shares.append(found.exceeded(images(20)[0]).mean())
    assert np.mean(shares) <= found.expected == 1 / 11
    found.save(tmp_path / "reference.npz")
    assert Reference.load(tmp_path / "reference.npz").numbers == found.numbers
    assert found.chance(2, 20) > 0.1  # of two in twenty patients, whatever their number of images
    assert fit(*images(3)) is None  # one class is of a single patient


def test_an_image_of_another_kind_is_flagged_in_predict(run, command, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (160, 160, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    done = command(["predict.py", str(run), str(tmp_path / "noise.png")])
    assert UNLIKE in done.stdout and f"1 of 1 images are {UNLIKE}" in done.stderr


@pytest.mark.parametrize("content", [b"", b"PK\3\4 no archive", b"\x80\x04N."])
def test_a_corrupt_reference_is_refused_and_a_missing_one_is_not_known(run, evaluated, tmp_path, content):
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "val_reference.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"val_reference.npz is corrupt"):
        load_prompt(tmp_path / "run")
    (tmp_path / "run" / "val_reference.npz").unlink()
    out, results, _ = evaluated(source=tmp_path / "run")
    assert results["unlike"] is None and "is not known" in out


def test_a_class_folder_missing_everything_is_refused(command, run, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "no class folders" in refused(command, run, tmp_path / "empty")
    with pytest.raises(UserError, match="was not trained on 'x'"):
        matched(["x"], ["a", "b"], {}, "here")
