"""A user's own images: splitting by patient, checking a folder, sentences in another folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from ogkd.core import UserError
from ogkd.data.catalogue import PARTS
from ogkd.data.inspection import inspect
from ogkd.data.patients import read_patients
from ogkd.data.splits import parse_split
from ogkd.data.splitting import SHARES, divide, split_by_patient
from ogkd.prompts.bank import load_prompts
from tests.support.pictures import picture


@pytest.fixture
def scans(tmp_path) -> Path:
    """Two classes of images of twelve patients, three images each."""
    folder = tmp_path / "scans"
    for patient in range(12):
        name = ("cyst", "mass")[patient % 2]
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(3):
            picture(f"{patient} {number}").save(folder / name / f"P{patient:02d}_{number}.png")
    return folder


# Splits by patient


@given(
    owners=st.lists(st.lists(st.integers(0, 30), min_size=8, max_size=60), min_size=2, max_size=4),
    seed=st.integers(0, 3),
)
@settings(max_examples=50)
def test_no_patient_is_in_two_parts_and_each_part_has_each_class(owners, seed):
    images = {f"class{c}": [f"class{c}/{i}.png" for i in range(len(row))] for c, row in enumerate(owners)}
    patients = {f"class{c}/{i}.png": f"p{who}" for c, row in enumerate(owners) for i, who in enumerate(row)}
    assume(all(len(set(row)) >= 6 for row in owners))
    try:
        split = split_by_patient(images, patients, seed)
    except UserError as error:
        assert "another --seed" in str(error)
        return
    assert sorted(item.path for part in PARTS for item in split[part]) == sorted(patients)
    of_part = {part: {patients[item.path] for item in split[part]} for part in PARTS}
    assert not of_part["train"] & of_part["val"]
    assert not of_part["train"] & of_part["test"]
    assert not of_part["val"] & of_part["test"]
    assert all({item.label for item in split[part]} == set(range(len(owners))) for part in PARTS)


def test_shares_come_near_half_a_fifth_and_the_rest_in_each_class_with_many_patients():
    rng = np.random.default_rng(0)
    sizes = {name: rng.integers(1, 6, 80) for name in ("a", "b", "c")}
    images = {n: [f"{n}/{p}_{i}.png" for p, size in enumerate(of) for i in range(size)] for n, of in sizes.items()}
    patients = {path: path.split("_")[0].replace("/", "") for paths in images.values() for path in paths}
    split = split_by_patient(images, patients, seed=1)
    for label, paths in enumerate(images.values()):
        for part, share in SHARES.items():
            number = sum(item.label == label for item in split[part])
            assert abs(number / len(paths) - share) < 0.02
    assert split == split_by_patient(images, patients, seed=1)
    assert split != split_by_patient(images, patients, seed=2)


def test_a_fifth_of_the_patients_for_training_validates_where_no_part_is_for_it():
    images = {name: [f"{name}/{patient}_{i}.png" for patient in range(30) for i in range(2)] for name in ("a", "b")}
    patients = {path: path.split("_")[0] for paths in images.values() for path in paths}
    parts = {path: "test" if patients[path][2:] in ("3", "7") else "train" for path in patients}
    split = divide("", images, patients, parts)
    assert len(split["test"]) == 8 and sum(len(split[part]) for part in PARTS) == 120
    assert len(split["val"]) / 112 == pytest.approx(0.2, abs=0.03) and {item.label for item in split["val"]} == {0, 1}
    assert not {patients[item.path] for item in split["train"]} & {patients[item.path] for item in split["val"]}


def test_the_command_writes_a_split_that_training_reads_and_remembers_the_patients(command, scans):
    done = command(["scripts/split.py", str(scans), "--patients", r"(P\d+)_"])
    assert done.returncode == 0, done.stderr
    split = parse_split((scans / "split_scans.json").read_bytes(), "made")
    who = read_patients(scans)
    assert who["cyst/P00_1.png"] == "P00" and len(who) == 36
    parts = {part: {who[item.path] for item in split[part]} for part in PARTS}
    assert sum(map(len, parts.values())) == 12
    again = command(["scripts/split.py", str(scans), "--patients", r"(P\d+)_"])
    assert again.returncode == 2 and "exists already" in again.stderr
    assert command(["scripts/split.py", str(scans), "--patients", r"(P\d+)_", "--replace"]).returncode == 0


@pytest.mark.parametrize(
    ("given_patients", "sentence"),
    [
        ("(X\\d+)_", "have no patient (the first is cyst/P00_0.png)"),
        ("(P", "neither a table nor a regular expression"),
        ("absent.csv", "absent.csv cannot be read"),
        ("(P)", "images of 1 patient"),
    ],
)
def test_wrong_patients_are_reported_in_one_sentence(command, scans, given_patients, sentence):
    done = command(["scripts/split.py", str(scans), "--patients", given_patients])
    assert done.returncode == 2
    assert sentence in done.stderr
    assert not (scans / "split_scans.json").exists()


# What is in a folder


def test_every_fault_of_a_folder_is_listed(command, scans):
    command(["scripts/split.py", str(scans), "--patients", r"(P\d+)_"])
    done = command(["scripts/check_data.py", str(scans)])
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "No faults.")
    assert "24x24" in done.stdout and "RGB 18" in done.stdout
    who = read_patients(scans)
    split = json.loads((scans / "split_scans.json").read_text())
    train, test = split["train"][0][0], split["test"][0][0]
    Image.open(scans / train).save(scans / test)  # the same pixels in two parts
    Image.open(scans / "cyst" / "P00_0.png").save(scans / "mass" / "copy.bmp")  # and in two classes, as another file
    (scans / "mass" / "broken.png").write_bytes(b"no image")
    (scans / "few").mkdir()
    picture("one").convert("L").save(scans / "few" / "one.png")
    who[split["val"][0][0]] = who[train]
    (scans / "patients_scans.json").write_text(json.dumps(who))
    done = command(["scripts/check_data.py", str(scans)])
    assert done.returncode == 1
    faults = [line for line in done.stdout.splitlines() if line.startswith("FAULT")]
    assert any("two parts" in fault and train in fault and test in fault for fault in faults)
    assert any("two classes" in fault and "copy.bmp" in fault for fault in faults)
    assert any("broken.png" in fault for fault in faults)
    assert any("few has 1 readable" in fault for fault in faults)
    assert any("Patients in several parts" in fault and who[train] in fault for fault in faults)
    assert any("few is not in the split" in fault for fault in faults)
    assert len(faults) == 6
    assert "6 faults." in done.stdout


def test_a_published_set_is_read_in_its_own_layout(data):
    seen = inspect(data / "Phantom")
    assert len(seen.classes) == 12 and all(len(of) == 13 for of in seen.classes.values())
    assert not seen.faults


@pytest.mark.parametrize("given", ["absent", "", "scans/mass/{image}", "set"])
def test_a_folder_that_cannot_be_checked_is_refused_in_one_sentence(command, tmp_path, scans, given):
    image = next((scans / "mass").iterdir()).name
    (tmp_path / "set").mkdir()
    split = {part: [[f"a/{part}.png", 0, "a"]] for part in ("train", "val", "test")}
    (tmp_path / "set" / "split_set.json").write_text(json.dumps(split))
    word = given and str(tmp_path / given.format(image=image))
    done = command(["scripts/check_data.py", word])
    assert (done.returncode, done.stdout) == (2, "")
    sentences = {"absent": "There is no folder", "": "Give a folder", "set": "The image folder"}
    assert sentences.get(given, "is a file") in done.stderr


# Sentences elsewhere


def test_sentences_are_read_from_the_folder_that_prompts_or_the_bank_names(tmp_path, monkeypatch):
    (tmp_path / "moles.json").write_text(json.dumps({"nevus": ["a nevus."], "melanoma": ["a melanoma."]}))
    monkeypatch.setenv("PROMPTS", str(tmp_path))
    assert load_prompts("moles", ["melanoma", "nevus"]) == [["a melanoma."], ["a nevus."]]
    assert len(load_prompts("BUSI", ["normal scan"])[0]) == 50  # the project's own, as the folder has none of it
    monkeypatch.setenv("PROMPTS", "/absent")
    assert load_prompts("moles", ["nevus"], bank=f"{tmp_path}/") == [["a nevus."]]
    with pytest.raises(UserError, match="There are no teacher prompts for Kvasir"):
        load_prompts("Kvasir", ["polyps"], bank=str(tmp_path))
    with pytest.raises(UserError, match="PROMPTS is set to the folder /absent, which does not exist"):
        load_prompts("BUSI", ["normal"])
