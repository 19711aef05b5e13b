"""Patients: from people's own tables, from expressions and from DICOM files; what is unclear is refused or said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pydicom
import pytest

from ogkd.core import UserError, read_json
from ogkd.data.image_folder import ImageFolder
from ogkd.data.patients import across_parts, patients_of, read_patients
from ogkd.data.splits import part_of_image, read_split, split_file
from tests.core.test_dicom import made
from tests.support.folders import config
from tests.support.pictures import put

IMAGES = ["nv/ISIC_001.jpg", "nv/ISIC_002.jpg", "mel/ISIC_003.png"]
OWNERS = {"nv/ISIC_001.jpg": "007", "nv/ISIC_002.jpg": "007", "mel/ISIC_003.png": "012"}


@pytest.fixture
def scans(tmp_path) -> Path:
    """Two classes with six patients each, three images a patient: <class>/<number>_<patient>.png."""
    folder = tmp_path / "scans"
    put(folder, [f"{('cyst', 'mass')[n % 2]}/{n:03d}_P{n // 3:02d}.png" for n in range(36)])
    return folder


ROWS = [("ISIC_001", "007"), ("ISIC_002", "007"), ("ISIC_003", "012")]


def lines(header: str, row: str) -> str:
    return "\n".join([header, *(row.format(image=image, patient=patient) for image, patient in ROWS)]) + "\n"


TABLES = {
    "HAM10000": lines("lesion_id,image_id,dx,age", "{patient},{image},nv,50.0").encode(),
    "a space after the comma": lines("image, patient", "{image}.jpg, {patient}").encode(),
    "tabs": lines("Image Index\tPatient ID", "{image}.jpg\t{patient}").encode(),
    "semicolons": lines("Image;Age, years;PatientID", "{image}.jpg;3,5;{patient}").encode(),
    "bars": lines("filename|subject", "{image}|{patient}").encode(),
    "quoted": lines('"IMAGE","SUBJECT_ID"', '"{image}.JPG","{patient}"').encode(),
    "UTF-16": lines("image\tpatient", "{image}\t{patient}").encode("utf-16"),
    "UTF-16 without its mark": lines("image,patient", "{image},{patient}").encode("utf-16-le"),
    "UTF-8 with its mark": lines("image,patient", "{image},{patient}").encode("utf-8-sig"),
    "Latin-1": lines("image,patient,Größe", "{image},{patient},groß").encode("latin-1"),
    "Windows": lines("image,patient", "D:\\data\\{image}.jpg,{patient}").replace("\n", "\r\n").encode(),
    "Excel's first line": lines("sep=;\nimage;patient", "{image};{patient}").encode(),
    "old Mac": lines("image,patient", "{image},{patient}").replace("\n", "\r").encode(),
    "an index": "\n".join([",image,patient", *(f"{n},{a},{b}" for n, (a, b) in enumerate(ROWS))]).encode(),
    "the same rows twice": (lines("image,patient", "{image},{patient}") * 2).replace("\nimage,patient", "").encode(),
    "patient and lesion": lines("patient_id,lesion_id,img_id", "{patient},L{image},{image}.png").encode(),
    "two names of one patient": lines("PatientID,subject,file", "{patient},s{patient},x/{image}.jpg").encode(),
}


@pytest.mark.parametrize("name", TABLES)
def test_a_table_is_read_as_its_program_wrote_it(tmp_path, name):
    (tmp_path / "meta.csv").write_bytes(TABLES[name])
    assert patients_of(IMAGES, str(tmp_path / "meta.csv")).of == OWNERS


def test_a_sheet_is_read_as_text(tmp_path):
    import pandas as pd

    pd.DataFrame(ROWS, columns=["Image", "Patient ID"]).to_excel(tmp_path / "meta.xlsx", index=False)
    assert patients_of(IMAGES, str(tmp_path / "meta.xlsx")).of == OWNERS


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("image,patient,subject\nISIC_001,1,a\nISIC_002,1,b\nISIC_003,2,a\n", r"--patient-column \(patient, subject\)"),
        ("image,file,patient\nISIC_001,ISIC_002,1\nISIC_002,ISIC_001,2\nISIC_003,ISIC_003,3\n", r"--image-column \(im"),
        ("image,patient\nISIC_001,1\nISIC_001,2\n", r"contradicts itself in the column patient.*ISIC_001.jpg: 1, 2"),
        ("image,patient\nISIC_001,1\nISIC_002,nan\nISIC_003,\n", r"2 of 3 images have no .*--else-one-per-image"),
        ("image,age\nISIC_001,1\n", r"no column of patients.*--patient-column"),
        ("image,patient\nother,1\n", r"No column .* names the images"),
        ("ISIC_001,1\nISIC_002,1\n", r"no first line that names its columns"),
        ("image,patient\nISIC_001,1,2\n", r"each line needs as many cells"),
        ("image,patient,patient\nISIC_001,1,2\n", r"two columns named 'patient'"),
        ("", r"is empty"),
    ],
)  # fmt: skip
def test_what_a_table_leaves_unclear_is_refused(tmp_path, text, sentence):
    (tmp_path / "meta.csv").write_text(text)
    with pytest.raises(UserError, match=sentence):
        patients_of(IMAGES, str(tmp_path / "meta.csv"))


def test_a_table_in_an_encoding_that_is_guessed_says_so_where_its_words_are_not_recognised(tmp_path):
    (tmp_path / "meta.csv").write_text("文件名,患者\n图1.jpg,1\n图2.jpg,2\n", encoding="gbk")
    for column in ("", "文件名"):
        with pytest.raises(UserError, match=r"read as Windows-1252.*save it in UTF-8"):
            patients_of(["图1.jpg", "图2.jpg"], str(tmp_path / "meta.csv"), image_column=column)


def test_a_name_that_fits_two_images_is_refused_and_a_path_is_not(tmp_path):
    images = ["a/1.png", "b/1.png"]
    (tmp_path / "short.csv").write_text("image,patient\n1.png,x\n")
    with pytest.raises(UserError, match=r"fit several images \(1\.png fits a/1\.png and b/1\.png\)"):
        patients_of(images, str(tmp_path / "short.csv"))
    (tmp_path / "long.csv").write_text("image,patient\nroot/a/1.png,x\nb/1.png,y\n")
    assert patients_of(images, str(tmp_path / "long.csv")).of == {"a/1.png": "x", "b/1.png": "y"}


def test_a_chosen_column_goes_before_the_usual_ones(tmp_path):
    (tmp_path / "meta.csv").write_text("image,patient,Family\nISIC_001,1,a\nISIC_002,2,a\nISIC_003,3,b\n")
    result = patients_of(IMAGES, str(tmp_path / "meta.csv"), column="family")
    assert list(result.of.values()) == ["a", "a", "b"]
    with pytest.raises(UserError, match=r"no column 'group': give --patient-column one of image, patient, Family"):
        patients_of(IMAGES, str(tmp_path / "meta.csv"), column="group")


def test_several_spellings_of_a_patient_and_images_without_one_are_said(tmp_path):
    (tmp_path / "meta.csv").write_text("image,patient\nISIC_001,P7\nISIC_002,p07\n")
    result = patients_of(IMAGES, str(tmp_path / "meta.csv"), one_per_image=True)
    assert result.of == dict(zip(IMAGES, ("P7", "p07", IMAGES[2]), strict=True))
    notes = " ".join(result.notes)
    assert "written in several ways and count as different: 1 (P7 = p07)" in notes
    assert "without a patient, which count as one each: 1" in notes


def test_as_many_patients_as_images_are_said_and_not_praised(command, scans):
    each = command(["scripts/split.py", str(scans), "--patients", r"(\d+)_P"])
    assert each.returncode == 0 and "as many patients as images (36)" in each.stdout
    assert "No patient is in two parts" not in each.stdout
    right = command(["scripts/split.py", str(scans), "--patients", r"P\d+", "--replace"])
    assert "36 images of 12 patients" in right.stdout and "No patient is in two parts" in right.stdout


def test_an_expression_with_several_groups_must_name_the_patients_one():
    images = ["a/site1_p07.png"]
    with pytest.raises(UserError, match=r"2 groups: write \(\?P<patient>"):
        patients_of(images, r"(site\d)_(p\d+)")
    assert patients_of(images, r"(site\d)_(?P<patient>p\d+)").of == {images[0]: "p07"}


def test_without_any_patients_the_command_asks_for_them(command, scans):
    done = command(["scripts/split.py", str(scans)])
    assert done.returncode == 2 and "--patients" in done.stderr and "--by-image" in done.stderr
    done = command(["scripts/split.py", str(scans), "--by-image"])
    assert done.returncode == 0 and "patients are not known" in done.stdout


def test_columns_of_a_table_are_recorded_as_groups(command, scans, tmp_path):
    images = sorted(path.relative_to(scans).as_posix() for path in scans.rglob("*.png"))
    lines = [f"{image},{number // 3},{'fm'[number % 2]},{'' if number % 4 else 'x'},{number}"
             for number, image in enumerate(images)]  # fmt: skip
    (tmp_path / "meta.csv").write_text("\n".join(["image,patient,Sex,skin type,age", *lines]))
    words = ["scripts/split.py", str(scans), "--patients", str(tmp_path / "meta.csv"), "--group-column", "sex"]
    done = command(words)
    assert done.returncode == 0 and f"Images by Sex: f {len(images) / 2:.0f}, m {len(images) / 2:.0f}" in done.stdout
    groups = json.loads((scans / f"groups_{scans.name}.json").read_text())
    assert groups == {image: {"Sex": "fm"[number % 2]} for number, image in enumerate(images)}
    for column, why in (("age", "has 36 values"), ("skin type", "has 1 value"), ("site", "no column 'site'")):
        wrong = command([*words[:-1], column, "--replace"])
        assert wrong.returncode == 2 and why in wrong.stderr
    untold = command(["scripts/split.py", str(scans), "--patients", r"P\d+", "--replace", "--group-column", "sex"])
    assert untold.returncode == 2 and "--labels or --patients" in untold.stderr


# DICOM


@pytest.fixture
def slices(tmp_path) -> Path:
    """Two classes of DICOM files, six patients each with three slices."""
    folder = tmp_path / "slices"
    for number in range(36):
        path = folder / ("cyst", "mass")[number % 2] / f"{number:03d}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 255, (8, 8), dtype=np.uint8)
        made(path, pixels, PatientID=f"P{number // 3:02d}")
    return folder


def set_patients(folder: Path, patient: str, files: str = "*.dcm") -> None:
    for path in folder.rglob(files):
        data = pydicom.dcmread(path)
        data.PatientID = patient
        data.save_as(path)


def test_the_patient_of_a_dicom_file_is_used_by_default(command, slices):
    done = command(["scripts/split.py", str(slices)])
    assert done.returncode == 0, done.stderr
    assert "36 images of 12 patients by the PatientID" in done.stdout and "No patient is in two parts" in done.stdout
    assert read_patients(slices)["mass/001.dcm"] == "P00"
    for path in (split_file(slices, "patients"), slices / "split_slices.json"):
        path.unlink()
    data = ImageFolder(config(slices.parent, "slices"))
    split, owner = read_split(data.split_path), read_patients(slices)
    assert not across_parts(part_of_image(split), owner) and len(owner) == 36 and data.warnings == []


def test_an_empty_or_shared_patient_id_is_not_a_patient(command, slices):
    set_patients(slices, "", "00*.dcm")
    done = command(["scripts/split.py", str(slices)])
    assert done.returncode == 2 and "10 of 36 images have no patient" in done.stderr
    done = command(["scripts/split.py", str(slices), "--else-one-per-image"])
    assert done.returncode == 0 and "DICOM files without a PatientID: 10" in done.stdout
    split_file(slices, "patients").unlink()
    set_patients(slices, "ANON")
    done = command(["scripts/split.py", str(slices), "--replace"])
    assert done.returncode == 2 and "All DICOM files have the same PatientID" in done.stderr


def test_a_split_made_again_keeps_the_patients_that_are_recorded(command, scans):
    command(["scripts/split.py", str(scans), "--patients", r"P\d+"])
    (scans / "split_scans.json").unlink()
    data = ImageFolder(config(scans.parent, "scans"))
    assert not across_parts(part_of_image(read_split(data.split_path)), read_patients(scans))


def test_patients_in_several_parts_are_said_in_log_results_table_and_check(command, slices, tmp_path, cache):
    command(["scripts/split.py", str(slices), "--by-image"])
    env = {"DATA": str(tmp_path), "OUTPUT": str(tmp_path / "output"), "BACKBONE": "PhantomCLIP"}
    done = command(
        ["scripts/run.py", "ZeroShot", "few_shot", "slices", "2", "1", "FEATURES.CACHE_DIR", str(cache)], env
    )
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "output").rglob("results.json")
    said = "patients with images in several parts of the split"
    assert any(said in warning for warning in read_json(run)["warnings"])
    assert said in (run.parent / "log.txt").read_text()
    assert said in command(["parse_test_res.py", str(tmp_path / "output"), "--table", "few_shot"]).stdout
    checked = command(["scripts/check_data.py", str(slices)])
    assert checked.returncode == 1 and "Patients in several parts of the split" in checked.stdout
    assert "by the PatientID of the DICOM files" in checked.stdout
