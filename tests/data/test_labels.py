"""Labels from a table: one folder of images and a CSV, as ISIC, HAM10000 and ChestX-ray14 come."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ogkd.core import UserError
from ogkd.data.catalogue import PARTS
from ogkd.data.image_folder import ImageFolder
from ogkd.data.labels import labels_in
from ogkd.data.patients import read_patients
from ogkd.data.splits import class_names, read_split
from ogkd.data.tables import read_table
from tests.support.folders import config, faults
from tests.support.pictures import put

CLASSES = ("nv", "mel", "bkl")  # the table's order, which is not the alphabet's


@pytest.fixture
def ham(tmp_path) -> Path:
    """36 images in two folders without classes, and HAM10000's table: two images per lesion, four lesions per class and
    part of the body."""
    folder = tmp_path / "ham"
    rows = ["lesion_id,image_id,dx,dx_type,age,sex,localization"]
    for number in range(36):
        put(folder, [f"images_part_{number % 2 + 1}/ISIC_{number:04d}.jpg"])
        sex = ("male", "female")[number // 2 % 2]
        rows.append(f"HAM_{number // 2:04d},ISIC_{number:04d},{CLASSES[number // 2 % 3]},histo,{number}.0,{sex},back")
    (folder / "HAM10000_metadata.csv").write_text("\n".join(rows) + "\n")
    return folder


def table_of(folder: Path, text: str) -> Path:
    (folder / "labels.csv").write_text(text)
    return folder / "labels.csv"


def read(tmp_path: Path, text: str, images: list[str], **more):
    return labels_in(read_table(table_of(tmp_path, text)), images, **more)


IMAGES = [f"{number}.png" for number in range(1, 7)]


def test_a_folder_and_its_table_become_a_split_by_patient_that_training_reads(command, ham):
    put(ham, [f"segmentations/ISIC_{number:04d}.jpg" for number in range(36)])  # masks, by their names
    done = command(["scripts/split.py", str(ham), "--labels", str(ham / "HAM10000_metadata.csv")])
    assert done.returncode == 0, done.stderr
    assert "which are left out: 36 (segmentations/ISIC_0000.jpg" in done.stdout
    assert "36 images of 18 patients by the column lesion_id" in done.stdout and "lesion_id may be less" in done.stdout
    split = read_split(ham / "split_ham.json")
    assert class_names(split) == list(CLASSES)
    owner = read_patients(ham)
    assert sum(len({owner[item.path] for item in split[part]}) for part in PARTS) == 18
    groups = json.loads((ham / "groups_ham.json").read_text())
    assert groups["images_part_1/ISIC_0002.jpg"] == {"sex": "female"}  # one dx_type, one place; each its own age
    put(ham, ["images_part_3/ISIC_0099.jpg"])
    data = ImageFolder(config(ham.parent, "ham"))
    assert (data.classnames, len(data.train_x)) == (list(CLASSES), len(split["train"]))
    masks, new = data.warnings
    assert masks.endswith("that are not used: 36") and new.startswith(
        "images that are not in the split and not used: 1"
    )
    assert not faults(ham)


def test_folders_of_parts_that_a_table_does_not_mention_are_said(command, tmp_path):
    put(tmp_path / "set", [f"{('train', 'test')[number % 2]}/{number}.png" for number in range(12)])
    table = table_of(tmp_path, "image,label\n" + "".join(f"{number},{'ab'[number // 6]}\n" for number in range(12)))
    done = command(["scripts/split.py", str(tmp_path / "set"), "--labels", str(table), "--by-image"])
    assert done.returncode == 0 and "The folders test and train are parts" in done.stdout


def test_check_data_describes_the_classes_of_a_table(command, ham):
    words = ["scripts/check_data.py", str(ham), "--labels", str(ham / "HAM10000_metadata.csv")]
    done = command(words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split()[:2] for line in done.stdout.splitlines()[2:5]] == [[name, "12"] for name in CLASSES]
    command(["scripts/split.py", str(ham), *words[2:]])
    text = (ham / "HAM10000_metadata.csv").read_text()
    (ham / "HAM10000_metadata.csv").write_text(text.replace("ISIC_0003,mel", "ISIC_0003,bkl"))
    done = command(words)
    assert done.returncode == 1 and "another class in the split" in done.stdout
    assert command(words[:2]).returncode == 0  # the split alone describes a folder without class folders


def test_columns_of_0_and_1_are_classes_in_their_order(tmp_path):
    text = "image,MEL,NV,AKIEC,UNK\n1,1.0,0.0,0.0,0.0\n2,0,1,0,0\n3,0,0,1,0\n4,0,1,0,0\n5,1,1,0,0\n6,0,0,0,0\n"
    labels = read(tmp_path, text, IMAGES)
    assert labels.classes == {"MEL": ["1.png"], "NV": ["2.png", "4.png"], "AKIEC": ["3.png"]}
    said = " ".join(labels.notes)
    assert (
        "several labels, which are left out as each image has one class here: 1" in said and "5.png: MEL | NV" in said
    )
    assert "without a label, which are left out: 1" in said and "(6.png)" in said and "UNK" in said


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path):
    (tmp_path / "labels.csv").write_bytes('"MEL",NV,image\n1,0,1\n0,1,2\n'.encode("utf-8-sig"))
    assert list(labels_in(read_table(tmp_path / "labels.csv"), IMAGES).classes) == ["MEL", "NV"]


def test_a_quoted_cell_may_follow_a_space_and_a_path_begin_with_a_dot_or_slash(tmp_path):
    labels = read(tmp_path, 'image, label\n./1.png, "edema, mild"\n/2.png, nodule\n', IMAGES)
    assert labels.classes == {"edema, mild": ["1.png"], "nodule": ["2.png"]}


def test_several_labels_and_missing_doubled_or_foreign_rows_are_listed(tmp_path):
    text = (
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,OriginalImagePixelSpacing[x,y],\n"
        "1.png,Cardiomegaly,0,1,58,2,3,\n2.png,Cardiomegaly|Effusion,1,1,58,2,3,\n3.png,No Finding,0,2,81,2,3,\n"
        "3.png,No Finding,0,2,81,2,3,\n4.png,Hernia,0,3,81,2,3,\n5.png,nan,0,3,81,2,3,\n9.png,Hernia,0,4,8,2,3,\n"
    )
    labels = read(tmp_path, text, IMAGES)
    assert labels.classes == {"Cardiomegaly": ["1.png"], "No Finding": ["3.png"], "Hernia": ["4.png"]}
    for said in (
        "several labels, which are left out as each image has one class here: 1 (2.png: Cardiomegaly|Effusion)",
        "which agree: 1 (3.png)",
        "without a label, which are left out: 1 (5.png)",
        "whose image is not in the folder: 1 (9.png)",
        "which are left out: 1 (6.png)",
    ):
        assert any(said in note for note in labels.notes), said


def test_labels_with_a_mark_between_are_several_if_each_occurs_alone(tmp_path):
    labels = read(tmp_path, "image;label\n1;edema\n2;nodule\n3;edema, nodule\n4;lung, left\n", IMAGES)
    assert list(labels.classes) == ["edema", "nodule", "lung, left"]
    assert any("several labels" in note and "(3.png: edema, nodule)" in note for note in labels.notes)


def test_traits_of_0_and_1_are_no_classes_beside_a_column_of_labels(tmp_path):
    text = "image,grade,smoker,male\n1,2,0,1\n2,0,1,1\n3,1,0,0\n4,0,1,0\n"
    assert list(read(tmp_path, text, IMAGES).classes) == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("image,label\n1,a\n1,b\n2,b\n", r"contradicts itself in the column label about 1 image \(1\.png: a, b\)"),
        ("image,diagnosis,target\n1,a,0\n2,b,0\n3,c,1\n", r"--label-column \(diagnosis, target\)"),
        ("image,age,weight\n1,50,3\n2,60,4\n", r"choose with --label-column among age, weight"),
        ("image,No Finding,Edema\n1,1,\n2,,1\n3,-1,\n", r"choose with --label-column among No Finding, Edema"),
        ("image,label\n001,a\n2,b\n", r"1 class \(b\).*is not in the folder: 1 \(001\)"),
        ("image,label\n1,nevus\n2,Nevus\n3,melanoma\n", r"'nevus' and 'Nevus' both give the class"),
        ("image,label\n1,a\n2,a\n", r"gives the images 1 class \(a\)"),
        ("image,label\nx,a\ny,b\n", r"No column .* names the images"),
    ],
)  # fmt: skip
def test_unclear_labels_are_refused(tmp_path, text, sentence):
    with pytest.raises(UserError, match=sentence):
        read(tmp_path, text, IMAGES)


def test_marks_that_are_neither_0_nor_1_are_named(tmp_path):
    text, columns = "image,No Finding,Edema\n1,1.0,\n2,,1.0\n3,,-1.0\n", ["No Finding", "Edema"]
    with pytest.raises(UserError, match=r"Edema .*not of 0 and 1 \(it has -1\.0\)"):
        read(tmp_path, text, IMAGES, label_columns=columns)


def test_a_column_of_numbers_gives_the_order_of_the_names(tmp_path):
    text = "image,label,class_name\n1,2,severe\n2,0,none\n3,1,mild\n4,0,none\n"
    assert list(read(tmp_path, text, IMAGES).classes) == ["none", "mild", "severe"]
    assert list(read(tmp_path, "image,level\n1,10\n2,0\n3,2\n", IMAGES).classes) == ["0", "2", "10"]


def test_chosen_columns_and_names_are_used(command, tmp_path):
    put(tmp_path / "set", IMAGES)
    rows = "file,dx,second,where\n" + "".join(f"{n},{'ab'[n % 2]},{'abc'[n % 3]},x\n" for n in range(1, 7))
    words = ["scripts/split.py", str(tmp_path / "set"), "--labels", str(table_of(tmp_path, rows))]
    more = ["--label-column", "second", "--class-names", "a=melanoma", "b=nevus", "c=melanoma"]
    done = command([*words, *more])
    assert done.returncode == 2 and "2 images" in done.stderr  # two nevi: too few for three parts
    done = command([*words, "--class-names", "a=melanoma", "b=nevus"])
    assert done.returncode == 0, done.stderr
    assert class_names(read_split(tmp_path / "set" / "split_set.json")) == ["nevus", "melanoma"]
    done = command([*words, "--replace", "--class-names", "z=nevus"])
    assert done.returncode == 2 and "--class-names has z" in done.stderr


# A split in the table


def split_table(folder: Path, parts: str) -> Path:
    """24 images of twelve patients and two classes, with the part that `parts` gives each in turn."""
    rows = ["image,label,patient,split"]
    put(folder, [f"{number}.png" for number in range(24)])
    for number in range(24):
        rows.append(f"{number}.png,{'ab'[number % 2]},p{number // 2},{parts.split()[number // 2]}")
    return table_of(folder.parent, "\n".join(rows))


def test_a_split_column_is_the_split(command, tmp_path):
    table = split_table(tmp_path / "set", "Training " * 6 + "validation " * 3 + "TEST TEST nan")
    done = command(["scripts/split.py", str(tmp_path / "set"), "--labels", str(table)])
    assert done.returncode == 0, done.stderr
    split = read_split(tmp_path / "set" / "split_set.json")
    assert [len(split[part]) for part in PARTS] == [12, 6, 4]
    assert {item.path for item in split["test"]} == {f"{n}.png" for n in range(18, 22)}
    assert "No patient is in two parts" in done.stdout
    assert "without a part in the column split, which are left out: 2 (22.png" in done.stdout


def test_without_a_validation_part_it_is_drawn_by_patient_from_those_for_training(command, tmp_path):
    table = split_table(tmp_path / "set", "train " * 9 + "test " * 3)
    done = command(["scripts/split.py", str(tmp_path / "set"), "--labels", str(table)])
    assert done.returncode == 0, done.stderr
    split, owner = read_split(tmp_path / "set" / "split_set.json"), read_patients(tmp_path / "set")
    train, val = ({owner[item.path] for item in split[part]} for part in PARTS[:2])
    assert val and not train & val and len(split["test"]) == 6
    assert "drawn for validation" in done.stdout


def test_patients_in_several_parts_of_a_given_split_are_said_wherever_it_is_used(command, tmp_path):
    table = split_table(tmp_path / "set", "train train train train train train val val val test test test")
    text = table.read_text().replace(",p11,", ",p0,")
    table.write_text(text)
    done = command(["scripts/split.py", str(tmp_path / "set"), "--labels", str(table)])
    assert "patients in several parts of the given split: 1 (p0)" in done.stdout and "No patient" not in done.stdout
    assert "scripts/split.py --replace: 1 (p0)" in command(["scripts/check_data.py", str(tmp_path / "set")]).stdout
    (warning,) = ImageFolder(config(tmp_path, "set")).warnings
    assert "in several parts of the split: 1 of 11" in warning
