"""A folder of images: its classes and parts are recognised or refused, and what is not used is said."""

from __future__ import annotations

import io
import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ogkd.core import UserError
from ogkd.data.image_folder import ImageFolder
from ogkd.data.inspection import inspect
from ogkd.data.layout import read_layout
from ogkd.data.listing import list_files
from ogkd.data.parts import parts_of
from ogkd.data.splits import PARTS, Split, read_split
from ogkd.data.splitting import divide
from ogkd.predict.command import beside, named_images
from tests.support.dirty_folder import dirty_folder
from tests.support.folders import config, faults, find_images, remarks
from tests.support.pictures import mask, numbered, put

CLASSES = ("benign", "malignant")


def both(*tops: str, count: int = 4, form: str = "{}.png") -> list[str]:
    """Images of both classes in each of the folders `tops`."""
    return numbered(*(f"{top}/{name}" for top in tops for name in CLASSES), count=count, form=form)


def split_of(folder: Path) -> Split:
    layout = read_layout(folder)
    layout.check()
    return divide(folder, layout.classes, {}, layout.parts)


def parts_in(folder: Path) -> dict[str, set[str]]:
    """Part -> the folders of its images."""
    split = split_of(folder)
    return {part: {item.path.rpartition("/")[0] for item in split[part]} for part in PARTS}


# Parts


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train", "test"),
        ("Training", "Testing"),
        ("BrainTrain", "BrainTest"),
        ("01_train", "02_test"),
        ("archive/dataset/Train Set", "archive/dataset/Test Set"),
        ("seg_train/seg_train", "seg_test/seg_test"),
        ("train/images", "test/images"),
    ],
)
def test_folders_of_parts_are_the_split_and_validation_is_drawn_from_training(tmp_path, train, test):
    put(tmp_path, both(train, test, count=6))
    parts = parts_in(tmp_path)
    assert parts["test"] == {f"{test}/{name}" for name in CLASSES}
    assert parts["train"] == parts["val"] == {f"{train}/{name}" for name in CLASSES}
    split = split_of(tmp_path)
    assert [len(split[part]) for part in PARTS] == [10, 2, 12]
    assert {item.classname for item in split["train"]} == set(CLASSES)
    assert "drawn for validation" in remarks(tmp_path) and not faults(tmp_path)


def test_parts_may_lie_within_the_classes_and_have_images_for_validation(tmp_path):
    put(tmp_path, numbered(*(f"{name}/{part}" for name in CLASSES for part in ("Train", "VALIDATION_SET", "Test"))))
    folders = dict(zip(PARTS, ("Train", "VALIDATION_SET", "Test"), strict=True))
    assert parts_in(tmp_path) == {part: {f"{name}/{folder}" for name in CLASSES} for part, folder in folders.items()}
    assert "drawn" not in remarks(tmp_path)


@pytest.mark.parametrize(
    ("paths", "test", "words"),
    [
        (both("fold1", "fold2", "Fold_10"), "Fold_10", "fold 10 is the test"),
        (both("train", "dev"), "dev", "no test part"),
        (both("train") + numbered("test", count=5), "train", "no class folder, which are not used: 5"),
    ],
)
def test_without_a_labelled_test_part_another_is_used_and_said(tmp_path, paths, test, words):
    put(tmp_path, paths)
    assert parts_in(tmp_path)["test"] == {f"{test}/{name}" for name in CLASSES}
    assert words in remarks(tmp_path)


def test_a_folder_in_a_folder_of_the_same_name_is_read_with_its_split_too(tmp_path):
    put(tmp_path / "scans", both("scans/train", "scans/test"))
    before = ImageFolder(config(tmp_path))
    assert ImageFolder(config(tmp_path)).fingerprint == before.fingerprint
    assert [len(of_class) for of_class in inspect(tmp_path / "scans").classes.values()] == [8, 8]
    assert not faults(tmp_path / "scans")


def test_one_class_is_spelled_differently_in_two_parts(tmp_path):
    put(tmp_path, numbered("train/Glioma_tumor", "train/no tumor", "test/glioma tumor", "test/No_Tumor"))
    split = split_of(tmp_path)
    assert {item.classname for part in PARTS for item in split[part]} == {"Glioma tumor", "no tumor"}


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        (both("siteA", "siteB"), r"folders of the same names \(benign and malignant\)"),
        (numbered("a/train", "a/test", "b"), "all need the same parts"),
        (both("siteA/train", "siteA/test", "siteB/train", "siteB/test"), "not clear which are the classes"),
        (numbered("train/a", "train/b", "test/a"), "test in .* has no images of b"),
        (numbered("train/a", "train/b", "test/a", "test/b", "more"), r"beside other folders \(more\)"),
        (both("val", "test"), "none for training"),
        (numbered("train", "test"), "are parts, not classes"),
        (both("fold1/train", "fold1/test", "fold2/train", "fold2/test"), "have parts themselves"),
        (numbered("benign", "benign/malignant", "malignant"), "benign/malignant has the name of another class"),
        ([*both("train", "test"), "train/c/notes.txt"], "train in .* has no images of c"),
        (numbered("images"), "one class folder, 'images'"),
        (numbered("HAM10000_images_part_1", "HAM10000_images_part_2"), "pieces of one set of images.*--labels"),
        (numbered("images_001/images", "images_002/images"), "pieces of one set of images"),
        (both("Treino", "Teste"), "call them train, val and test"),
        (["0.png", "1.png"], "has no class folders.*--labels"),
    ],
)
def test_what_is_not_a_class_is_refused_with_the_way_out(tmp_path, paths, words):
    put(tmp_path / "scans", paths)
    with pytest.raises(UserError, match=words) as error:
        ImageFolder(config(tmp_path))
    assert str(error.value).splitlines()[0] in faults(tmp_path / "scans")
    assert not list((tmp_path / "scans").glob("split_*"))


@pytest.mark.parametrize(
    "paths",
    [[*numbered("a", "b"), "c/notes.txt"], [*numbered("a/p1", "a/p2"), "c/notes.txt"], [*numbered("a/p1"), "c/0.gif"]],
)
def test_a_class_folder_without_images_is_never_passed_over(tmp_path, paths):
    put(tmp_path / "scans", paths)
    with pytest.raises(UserError, match="scans/c has no images"):
        ImageFolder(config(tmp_path))
    assert "class c has 0 readable images" in faults(tmp_path / "scans")


@pytest.mark.parametrize(
    "paths",
    [
        numbered("valid", "invalid"),
        numbered("stress test/p1", "rest test/p2"),
        numbered("training", "control"),
        numbered("benign/p1", "benign/p2", "malignant/p3", "malignant/p4"),
        numbered("benign/p1", "benign/p2", "malignant/p2", "malignant/p3", "malignant/p4"),
        numbered("COVID/images", "Normal/images"),
        numbered("test positive", "test negative"),
        numbered("grade 1", "grade 2"),
        numbered("part A", "part B"),
        numbered("folds", "no folds"),
        numbered("training test 1", "training test 2"),
    ],
)
def test_classes_that_only_look_like_parts_are_classes(tmp_path, paths):
    put(tmp_path, paths)
    assert set(find_images(tmp_path)) == {path.split("/")[0] for path in paths}
    assert not faults(tmp_path)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (
            ["benign/0.jpg", "malignant/3.PNG", "benign/x.png", "benign/X.jpg", "benign/1.2.png", "benign/1.3.png"],
            "may be copies: 3",
        ),
        (["benign/a.gif", "benign/b.nii.gz", "benign/c.HEIC", "benign/d.txt"], "exported as PNG: 3"),
        (numbered("cyst/nevus", "cyst/keratosis", "third/p1", "third/p2"), "cyst (keratosis and nevus) count as one"),
    ],
)
def test_what_may_not_be_meant_is_a_warning(tmp_path, more, words):
    put(tmp_path / "scans", [*numbered(*CLASSES), *more])
    (warning,) = ImageFolder(config(tmp_path)).warnings
    assert words in warning and warning[1:] in remarks(tmp_path / "scans")


def test_class_names_that_are_numbers_are_a_warning_unless_the_split_has_words(tmp_path):
    put(tmp_path / "scans", numbered("0", "1"))
    (warning,) = ImageFolder(config(tmp_path)).warnings
    assert "class names are numbers (0 and 1)" in warning
    file = tmp_path / "scans/split_scans.json"
    rows = json.loads(file.read_text())
    words = {part: [[path, label, CLASSES[label]] for path, label, _ in rows[part]] for part in PARTS}
    file.write_text(json.dumps(words))
    assert not ImageFolder(config(tmp_path)).warnings


def test_other_suffixes_of_jpeg_and_none_are_images(tmp_path):
    put(tmp_path, numbered(*CLASSES, form="{}.jpg"))
    for name, other in zip(CLASSES, ("1.2.840.0", "0.JFIF"), strict=True):
        (tmp_path / f"{name}/0.jpg").rename(tmp_path / name / other)
    assert [len(paths) for paths in find_images(tmp_path).values()] == [4, 4]


@given(st.lists(st.text("abcdefgh _", min_size=1, max_size=8), min_size=2, max_size=5, unique=True))
def test_names_without_a_parts_word_are_no_parts(names):
    assert parts_of(names) == {}


def test_a_split_that_was_made_of_parts_as_classes_is_refused(tmp_path):
    put(tmp_path / "scans", both("train", "test"))
    old = {part: [[f"{top}/benign/{n}.png", label, top] for label, top in enumerate(("test", "train"))]
           for n, part in enumerate(PARTS)}  # fmt: skip
    (tmp_path / "scans/split_scans.json").write_text(json.dumps(old))
    assert "are parts (test and train): delete" in faults(tmp_path / "scans")
    with pytest.raises(UserError, match="are parts"):
        ImageFolder(config(tmp_path))


# Files beside the images


BESIDE = [
    *("benign/0_mask.png", "benign/0_mask_1.png", "benign/0-Segmentation.png", "benign/0 (mask).png"),
    *("benign/0_seg.jpg", "benign/mask_0.png", "benign/0Overlay.png", "benign/0_annotated.png"),
    *("benign/thumb_0.jpg", "benign/0_GT.bmp", "benign/0_superpixels.png", "benign/Ground Truth/9.png"),
    *("labels/0.png", "Segmentations/0_segmentation.png", "annotations/malignant/0.png", "thumbnails/0.png"),
]
MASKS = ["benign/masks/9.png", "masks/benign/9.png", "mask/0.png", "benign_masks/0.png", "malignant masks/0.png"]
LITTER = [
    "benign/._0.png",
    "benign/.DS_Store",
    "__MACOSX/benign/0.png",
    "benign/@eaDir/0.png/SYNOPHOTO_THUMB.jpg",
    "benign/Thumbs.db",
    "benign/0.gif",
]


@pytest.mark.parametrize("beside", [BESIDE, *([name] for name in MASKS)])
def test_files_beside_the_images_are_left_out_and_said(tmp_path, beside):
    images = numbered(*CLASSES)
    put(tmp_path, images)
    put(tmp_path, [*beside, *LITTER, "loose.png"], mask)
    assert sorted(path for paths in find_images(tmp_path).values() for path in paths) == sorted(images)
    notes = remarks(tmp_path)
    assert f"(masks, overlays, thumbnails) that are not used: {len(beside)} (" in notes and not faults(tmp_path)
    assert all(words in notes for words in ("1 (.gif 1", "1 (.db 1", "Hidden", "1 (.png 1; the first is loose"))


@pytest.mark.parametrize(
    "paths",
    [
        numbered("mask", "no_mask"),
        numbered("face", "face mask"),
        numbered("with_mask", form="with_mask_{}.png") + numbered("without_mask", form="without_mask_{}.png"),
        numbered("label", "segmentation", form="{}_label.png"),
        numbered("overlays", form="x{}.png") + numbered("plain", form="y{}.png"),
    ],
)
def test_a_class_or_name_with_such_a_word_is_no_mask(tmp_path, paths):
    put(tmp_path, paths)
    assert sorted(path for of_class in find_images(tmp_path).values() for path in of_class) == sorted(paths)
    assert not faults(tmp_path)


def test_masks_without_such_names_are_found_by_what_they_show(tmp_path):
    put(tmp_path / "scans", numbered(*CLASSES, count=6))
    put(tmp_path / "scans", ["benign/x.png", "malignant/y.png", "malignant/z.png"], mask)
    assert "3 of 15 images have only a few colours" in faults(tmp_path / "scans")
    (warning,) = ImageFolder(config(tmp_path)).warnings
    assert "1 of 'benign', 2 of 'malignant'" in warning
    put(tmp_path / "whole", numbered(*CLASSES, count=6))
    put(tmp_path / "whole", numbered("third"), mask)
    assert "All images of 'third'" in faults(tmp_path / "whole")
    put(tmp_path / "masks", numbered(*CLASSES, form="{}.jpg"), mask)  # of nothing else: these are what is classified
    assert not faults(tmp_path / "masks")


def test_masks_among_images_to_classify_are_counted(tmp_path):
    put(tmp_path, ["a.png", "a_mask.png", "b.png", "thumb_b.png", "face mask.png"])
    assert beside(list(named_images([str(tmp_path)], io.StringIO()))) == 2


def test_notes_for_a_model_card_name_no_file(tmp_path):
    put(tmp_path / "scans", [*numbered(*CLASSES), "benign/Jane Doe.txt", "benign/.Jane Doe.png"])
    data = ImageFolder(config(tmp_path))
    assert len(data.notes) == 2 and "Jane" not in "".join(data.notes) and "Jane" in remarks(tmp_path / "scans")


# Names


def test_accents_of_a_class_name_are_composed_however_the_folder_writes_them(tmp_path):
    put(tmp_path / "scans", numbered(unicodedata.normalize("NFD", "hépatome"), "kyste"))
    assert ImageFolder(config(tmp_path)).classnames == ["hépatome", "kyste"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("melanoma", "Melanoma"),
        ("basal cell", "basal_cell"),
        ("nævus é", unicodedata.normalize("NFD", "nævus é")),
        ("nevus", "nevus\u200b"),
        ("a b", "a\u00a0b"),
    ],
)
def test_classes_whose_names_cannot_be_told_apart_are_refused_and_both_named(tmp_path, one, other):
    put(tmp_path / "scans", numbered(one, other, "third"))
    text = faults(tmp_path / "scans")
    assert "both give the class" in text and repr(one) in text and repr(other) in text
    with pytest.raises(UserError, match="both give the class"):
        ImageFolder(config(tmp_path))


@pytest.mark.parametrize("name", ["nan", "<NA>"])
def test_a_missing_label_is_no_class(tmp_path, name):
    put(tmp_path, numbered(name, "other"))
    assert "missing label" in faults(tmp_path)
    entries = {part: [[f"{part}.png", 0, name], [f"{part}2.png", 1, "other"]] for part in PARTS}
    (tmp_path / "s.json").write_text(json.dumps(entries))
    with pytest.raises(UserError, match="missing label"):
        read_split(tmp_path / "s.json")


def test_a_split_file_from_windows_is_read(tmp_path):
    put(tmp_path / "scans", numbered(*CLASSES))
    ImageFolder(config(tmp_path))
    file = tmp_path / "scans/split_scans.json"
    split = json.loads(file.read_text())
    before = read_split(file)
    windows = {
        part: [[path.replace("/", "\\"), label, f"{name} "] for path, label, name in split[part]] for part in PARTS
    }
    file.write_text(json.dumps(windows))
    assert read_split(file) == before
    assert ImageFolder(config(tmp_path)).warnings == [] and not faults(tmp_path / "scans")


# After the split


def test_what_came_or_went_after_the_split_is_said(tmp_path):
    put(tmp_path / "scans", numbered(*CLASSES))
    assert ImageFolder(config(tmp_path)).warnings == []
    put(tmp_path / "scans", [*numbered("cyst"), "benign/new.png"])
    for text in ("\n".join(ImageFolder(config(tmp_path)).warnings), faults(tmp_path / "scans")):
        assert "cyst is not in the split" in text
    assert "Images that are not in the split and not used: 1" in remarks(tmp_path / "scans")
    (tmp_path / "scans/benign/0.png").unlink()
    assert "1 of the 8 images listed" in faults(tmp_path / "scans")


# Links


def test_links_are_followed_once_loops_end_and_broken_ones_are_a_fault(tmp_path):
    put(tmp_path, numbered("elsewhere/benign", "elsewhere/malignant", "scans/normal"))
    scans = tmp_path / "scans"
    for name in CLASSES:
        (scans / name).symlink_to(tmp_path / "elsewhere" / name)
    (tmp_path / "elsewhere/benign/loop").symlink_to(tmp_path / "elsewhere")
    (scans / "normal/up").symlink_to(tmp_path)
    (scans / "a").symlink_to(scans / "normal")
    images = find_images(scans)
    assert {name: len(paths) for name, paths in images.items()} == {"benign": 4, "malignant": 4, "normal": 4}
    notes = remarks(scans)
    assert "Linked folders, which are followed: 3" in notes
    assert "not followed" in notes and "(a, " in notes
    for path, target in (("benign/9.png", tmp_path / "gone.png"), ("cyst", tmp_path / "gone"), ("self", "self")):
        (scans / path).symlink_to(target)
    assert len(list_files(scans).broken) == 3 and "Broken links in" in faults(scans)
    with pytest.raises(UserError, match=r"Broken links in .*: 3"):
        ImageFolder(config(tmp_path))


# In a run


def test_a_run_says_in_its_log_results_and_table_what_is_not_used(command, arguments, tmp_path):
    put(tmp_path / "scans", [*both("train", "test"), "loose.png"])
    put(tmp_path / "scans", ["train/benign/0_mask.png"], mask)
    words = arguments(
        "ZeroShot", "DATASET.ROOT", str(tmp_path), "DATASET.NAME", "ImageFolder", "DATASET.FOLDER", "scans"
    )
    done = command(["train.py", *words])
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "run/results.json").read_text())
    masks, loose = "thumbnails) that are not used: 1", "images in no class folder, which are not used: 1"
    log = (tmp_path / "run/log.txt").read_text()
    table = command(["parse_test_res.py", str(tmp_path / "run"), "--table", "few_shot"]).stdout
    for text in (log, "\n".join(results["warnings"]), table):
        assert masks in text and loose in text
    assert any("drawn for validation" in note for note in results["notes"])
    assert "Note: The folders train and test are the split" in log


def test_classes_with_the_same_prompt_are_refused(command, arguments, tmp_path):
    put(tmp_path / "scans", numbered("黒色腫", "扁平癌", "nevus"))  # three characters that the tokenizer does not know
    more = ("DATASET.NAME", "ImageFolder", "DATASET.FOLDER", "scans", "TRAINER.OGKD.PROMPTS", "templates")
    done = command(["train.py", *arguments("OGKD", "DATASET.ROOT", str(tmp_path), *more)])
    assert done.returncode == 2
    assert "'扁平癌' and '黒色腫' have the same prompt" in done.stderr


# All of it at once


WORDS = {
    "FAULT": [
        "the name of another class", "both give the class 'cyst'", "missing label", "backslash", "Broken links",
        "in the split: 1", "cyst is not in the split", "fibroadenoma is not in the split", "broken.png",
        "only a few colours", "in two classes",
    ],
    "note": [
        "ductal and lobular", "not followed", "Linked folders, which are followed: 1", "that are not used: 6",
        "no class folder, which are not used: 2", "Images that are not in the split", "not images and not used: 2",
        "Hidden files", "patients are not known",
    ],
}  # fmt: skip


def test_every_kind_of_dirt_in_one_folder_is_named(command, tmp_path):
    done = command(["scripts/check_data.py", str(dirty_folder(tmp_path))])
    assert done.returncode == 1
    for kind, expected in WORDS.items():
        kinds = ("note", "warning") if kind == "note" else (kind,)
        lines = "\n".join(line for line in done.stdout.splitlines() if line.startswith(kinds))
        assert [words for words in expected if words not in lines] == []
