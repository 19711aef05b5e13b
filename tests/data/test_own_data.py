"""A user's own images: splitting by patient, checking a folder, EXIF orientation, sentences in another folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from ogkd.core import UserError, read_image
from ogkd.data.catalogue import PARTS
from ogkd.data.inspection import inspect
from ogkd.data.patients import patients_of, read_patients
from ogkd.data.splits import parse_split
from ogkd.data.splitting import SHARES, split_by_patient
from ogkd.prompts.bank import load_prompts

ORIENTATION = 274


def patterned(seed: int, size=(12, 8)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8))


@pytest.fixture
def scans(tmp_path) -> Path:
    """Two classes of images of twelve patients, three images each."""
    folder = tmp_path / "scans"
    for patient in range(12):
        name = ("cyst", "mass")[patient % 2]
        (folder / name).mkdir(parents=True, exist_ok=True)
        for number in range(3):
            patterned(100 * patient + number).save(folder / name / f"P{patient:02d}_{number}.png")
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
        for part, share in zip(PARTS, SHARES, strict=True):
            number = sum(item.label == label for item in split[part])
            assert abs(number / len(paths) - share) < 0.02
    assert split == split_by_patient(images, patients, seed=1)
    assert split != split_by_patient(images, patients, seed=2)


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


def test_a_table_names_patients_by_path_or_by_file_name(tmp_path):
    table = tmp_path / "patients.csv"
    table.write_text("image;patient;age\ncyst/a.png;anna;50\nb.png;bert;60\n", encoding="utf-8")
    assert patients_of(["cyst/a.png", "mass/b.png"], str(table)).of == {"cyst/a.png": "anna", "mass/b.png": "bert"}


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


def test_an_intact_folder_has_no_faults(command, scans):
    command(["scripts/split.py", str(scans), "--patients", r"(P\d+)_"])
    done = command(["scripts/check_data.py", str(scans)])
    assert done.returncode == 0, done.stdout
    assert "No faults" in done.stdout
    assert "12x8" in done.stdout and "RGB 18" in done.stdout


def test_every_fault_of_a_folder_is_listed(command, scans):
    command(["scripts/split.py", str(scans), "--patients", r"(P\d+)_"])
    who = read_patients(scans)
    split = json.loads((scans / "split_scans.json").read_text())
    train, test = split["train"][0][0], split["test"][0][0]
    Image.open(scans / train).save(scans / test)  # the same pixels in two parts
    Image.open(scans / "cyst" / "P00_0.png").save(scans / "mass" / "copy.bmp")  # and in two classes, as another file
    (scans / "mass" / "broken.png").write_bytes(b"no image")
    (scans / "few").mkdir()
    patterned(7).convert("L").save(scans / "few" / "one.png")
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
    assert f"{len(faults)} faults" in done.stdout


def test_a_published_set_is_read_in_its_own_layout(data):
    seen = inspect(data / "Phantom")
    assert len(seen.classes) == 12 and all(len(of) == 13 for of in seen.classes.values())
    assert not seen.faults


def test_one_fault_is_not_written_as_several(command, scans):
    (scans / "few").mkdir()
    patterned(7).save(scans / "few" / "one.png")
    (scans / "few" / "notes.txt").write_text("one")
    done = command(["scripts/check_data.py", str(scans)])
    assert (done.returncode, done.stdout.splitlines()[-1]) == (1, "1 fault.")
    assert "has 1 readable image:" in done.stdout and ": 1 (.txt 1;" in done.stdout


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


# Reading


@pytest.mark.parametrize(("orientation", "suffix"), [*((n, "tif") for n in range(1, 9)), (6, "jpg"), (6, "png")])
def test_an_image_is_turned_as_its_orientation_says(tmp_path, orientation, suffix):
    stored = Image.fromarray(np.kron(np.arange(6).reshape(2, 3) * 40, np.ones((16, 16))).astype(np.uint8))
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = tmp_path / f"image.{suffix}"
    stored.save(path, exif=exif)
    turn = {  # the EXIF standard: where row 0 and column 0 of what is stored belong
        1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud,
        5: np.transpose, 6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a, 2).T, 8: np.rot90,
    }[orientation]  # fmt: skip
    expected = turn(np.asarray(stored)).astype(int)
    read = np.asarray(read_image(path).convert("L")).astype(int)
    assert read.shape == expected.shape
    assert abs(read - expected).max() <= 6


def test_a_corrupt_orientation_leaves_the_image_as_it_is(tmp_path):
    image = patterned(3)
    image.save(tmp_path / "a.png", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x12\x01")
    assert (np.asarray(read_image(tmp_path / "a.png")) == np.asarray(image)).all()


# Sentences elsewhere


def test_sentences_are_read_from_the_folder_that_prompts_names(tmp_path, monkeypatch):
    (tmp_path / "moles.json").write_text(json.dumps({"nevus": ["a nevus."], "melanoma": ["a melanoma."]}))
    monkeypatch.setenv("PROMPTS", str(tmp_path))
    assert load_prompts("moles", ["melanoma", "nevus"]) == [["a melanoma."], ["a nevus."]]
    assert len(load_prompts("BUSI", ["normal scan"])[0]) == 50  # the project's own, as the folder has none of it
    with pytest.raises(UserError, match="There are no teacher prompts for others"):
        load_prompts("others", ["a"])


def test_a_bank_is_a_path_too(tmp_path, monkeypatch):
    (tmp_path / "BUSI.json").write_text(json.dumps({"normal": ["a normal breast."]}))
    monkeypatch.setenv("PROMPTS", "/absent")
    assert load_prompts("BUSI", ["normal"], bank=str(tmp_path)) == [["a normal breast."]]
    with pytest.raises(UserError, match="There are no teacher prompts for Kvasir"):
        load_prompts("Kvasir", ["polyps"], bank=f"{tmp_path}/")
    with pytest.raises(UserError, match="PROMPTS is set to the folder /absent, which does not exist"):
        load_prompts("BUSI", ["normal"])
