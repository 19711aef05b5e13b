"""The first look at a folder: near copies, frames of videos, shortcuts, files that are not images, several labels."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from ogkd.core import UserError, read_json, write_json
from ogkd.core.opening import Look
from ogkd.data.first_look import divided_by_name
from ogkd.data.inspection import inspect
from ogkd.data.labels import labels_in
from ogkd.data.tables import read_table
from ogkd.evaluation.shortcuts import shortcuts

CLASSES = ("cyst", "mass")


def blots(random: np.random.Generator, side: int = 96) -> Image.Image:
    """A picture of soft coloured blots."""
    blot = Image.fromarray(random.integers(0, 256, (side // 4, side // 4, 3), dtype=np.uint8))
    return blot.resize((side, side), Image.Resampling.BICUBIC)


def scans(folder: Path, count: int = 20, seed: int = 0) -> Path:
    """Images of two classes that share an anatomy, as chest X-rays do, with names that only count."""
    random = np.random.default_rng(seed)
    anatomy = blots(random)
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
        for number in range(count):
            Image.blend(anatomy, blots(random), 0.3).save(folder / name / f"{number:03d}.png")
    return folder


def videos(folder: Path, form: str) -> Path:
    """Two classes of three videos of eight frames each."""
    random = np.random.default_rng(0)
    for name in CLASSES:
        (folder / name).mkdir(parents=True)
        for video in range(3):
            whole = blots(random, 120)
            for frame in range(8):
                file = form.format(video=video, frame=frame, number=8 * video + frame)
                whole.crop((frame, frame, frame + 96, frame + 96)).save(folder / name / file)
    return folder


def test_a_clean_folder_has_no_warnings(data, tmp_path):
    phantom = inspect(data / "Phantom")
    assert [line for line in phantom.warnings if "patients are not known" not in line] == []
    assert shortcuts(phantom.classes) == []
    for seed in range(3):
        seen = inspect(scans(tmp_path / str(seed), seed=seed))
        assert (seen.faults, seen.warnings, shortcuts(seen.classes)) == ([], [], [])


def test_near_copies_are_found_within_and_across_classes_and_parts(command, tmp_path):
    folder = scans(tmp_path / "scans")
    images = [Image.open(folder / "cyst" / f"{number:03d}.png") for number in range(2)]
    images[0].resize((150, 150)).save(folder / "cyst" / "resized.jpg", quality=60)
    ImageOps.mirror(images[1]).point(lambda value: value * 0.85).save(folder / "mass" / "mirrored.png")
    seen = inspect(folder)
    assert any("one class" in line and "cyst/000.png ~ cyst/resized.jpg" in line for line in seen.warnings)
    assert any("two classes" in line and "cyst/001.png ~ mass/mirrored.png" in line for line in seen.warnings)
    command(["scripts/split.py", str(folder), "--by-image"])
    split = read_json(folder / "split_scans.json")
    train, test = split["train"][0][0], split["test"][0][0]
    Image.open(folder / train).convert("RGB").save(folder / test, "JPEG", quality=70)
    done = command(["scripts/check_data.py", str(folder)])
    assert done.returncode == 1
    assert any("two parts" in line and train in line and test in line for line in done.stdout.splitlines())


def test_frames_of_a_video_in_several_parts_are_a_warning_whose_command_mends_it(command, tmp_path):
    folder = videos(tmp_path / "clips", "v{video}_{frame:03d}.png")
    command(["scripts/split.py", str(folder), "--by-image"])
    said = command(["scripts/check_data.py", str(folder)]).stdout
    assert "frames of a video" in said and "were divided" in said and ": 6 (cyst/v0_000.png to v0_007.png" in said
    expression = said.partition("--patients '")[2].partition("'")[0]
    done = command(["scripts/split.py", str(folder), "--patients", expression, "--replace"])
    assert done.returncode == 0 and "48 images of 6 patients" in done.stdout
    assert "were divided" not in command(["scripts/check_data.py", str(folder)]).stdout


def test_frames_that_are_numbered_through_need_a_table(tmp_path):
    (said,) = (line for line in inspect(videos(tmp_path / "clips", "{number:04d}.png")).warnings if "frames" in line)
    assert "--patients TABLE" in said


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda image: image.resize((128, 128)), "size of the images alone"),
        (lambda image: image.convert("L"), "colour mode alone"),
        (lambda image: image.point(lambda value: value // 3), "mean brightness"),
        (lambda image: ImageOps.expand(image.crop((9, 9, 87, 87)), 9), "border"),
    ],
    ids=("size", "mode", "brightness", "border"),
)
def test_what_tells_the_classes_without_the_picture_is_a_warning_with_an_interval(command, tmp_path, change, words):
    folder = scans(tmp_path / "scans")
    for path in (folder / "mass").iterdir():
        change(Image.open(path)).save(path)
    said = command(["scripts/check_data.py", str(folder)]).stdout
    (line,) = (line for line in said.splitlines() if "predicts the class" in line)
    assert words in line and "balanced accuracy of" in line and "chance 50.0 %" in line


def test_a_shortcut_of_few_patients_is_not_claimed(tmp_path):
    folder = scans(tmp_path / "scans")
    for path in (folder / "mass").iterdir():
        Image.open(path).resize((128, 128)).save(path)
    seen = inspect(folder)
    assert shortcuts(seen.classes) != []
    assert shortcuts(seen.classes, {look.path: name for name, look in seen.looks()}) == []


def test_indexes_and_unread_kinds_are_skipped_with_a_word_and_jfif_is_an_image(tmp_path):
    folder = scans(tmp_path / "scans")
    blots(np.random.default_rng(9)).save(folder / "mass" / "photo.jfif", format="JPEG")
    blots(np.random.default_rng(8)).save(folder / "mass" / "moving.gif")
    for place in (folder, folder / "cyst"):
        (place / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    seen = inspect(folder)
    assert (seen.faults, len(seen.classes["mass"])) == ([], 21)
    assert any("DICOMDIR" in note and ": 2 (" in note for note in seen.notes)
    assert any(".gif" in warning for warning in seen.warnings)


def test_few_small_and_dark_images_are_said(tmp_path):
    folder = scans(tmp_path / "scans")
    for path in sorted((folder / "mass").iterdir())[5:]:
        path.unlink()
    Image.open(folder / "mass" / "000.png").resize((40, 40)).save(folder / "mass" / "000.png")
    dark = np.zeros((96, 96), np.uint8)
    dark[0, 0] = 9
    Image.fromarray(dark).save(folder / "cyst" / "dark.png")
    said = "\n".join(inspect(folder).warnings)
    assert "mass: 5" in said and "64 pixels a side" in said and "cyst/dark.png" in said


def test_a_run_repeats_what_needs_no_second_look_and_names_no_file(command, arguments, tmp_path):
    folder = videos(tmp_path / "clips", "v{video}_{frame:03d}.png")
    for path in (folder / "mass").iterdir():
        Image.open(path).resize((50, 50)).convert("L").save(path)
    shutil.copytree(scans(tmp_path / "scans", count=9) / "cyst", folder / "few")
    command(["scripts/split.py", str(folder), "--by-image"])
    words = ("DATASET.ROOT", str(tmp_path), "DATASET.NAME", "ImageFolder", "DATASET.FOLDER", "clips")
    done = command(["train.py", *arguments("ZeroShot", *words)])
    assert done.returncode == 0, done.stderr
    warnings = "\n".join(read_json(tmp_path / "run/results.json")["warnings"])
    for phrase in ("few: 9", "enlarged for the model: 24 (see", "colour mode", "6 of 6 series"):
        assert phrase in warnings and phrase in done.stdout, phrase
    assert ".png" not in warnings and "v0_" not in warnings


@pytest.mark.parametrize(
    ("names", "warned"),
    [
        ("v{video}_{number}.png", True),
        ("p{video}/IM-{number}.png", True),
        ("ISIC_{number}{video}.png", False),  # one series for each class
        ("scan ({number}{video}).png", False),
        ("grade 2/{letter}_{number}.png", False),  # names that number no series
    ],
)
def test_series_are_told_by_name_only_if_it_numbers_them(names, warned):
    paths = [names.format(video=v, number=n, letter="abc"[v]) for v in range(3) for n in range(6)]
    classes = {"cyst": [Look(f"cyst/{path}") for path in paths]}
    parts = {look.path: ("train", "test")[place % 2] for place, look in enumerate(classes["cyst"])}
    assert bool(divided_by_name(classes, parts, {})) is warned
    assert divided_by_name(classes, dict.fromkeys(parts, "train"), {}) == []
    assert divided_by_name(classes, parts, dict.fromkeys(parts, "known")) == []


def test_a_split_in_either_layout_that_lists_missing_images_has_one_fault(tmp_path):
    for place in (tmp_path / "own", tmp_path / "set" / "set"):
        scans(place)
        rows = [[f"{name}/{n:03d}.png", label, name] for label, name in enumerate(CLASSES) for n in range(20)]
        split = {"train": rows[::3], "val": rows[1::3], "test": [*rows[2::3], ["mass/gone.png", 1, "mass"]]}
        top = tmp_path / place.name
        write_json(split, top / f"split_{top.name}.json")
        (fault,) = inspect(top).faults
        assert "missing" in fault and "mass/gone.png" in fault


def test_an_image_in_two_classes_has_a_word_on_what_is_supported(tmp_path):
    folder = scans(tmp_path / "scans")
    (folder / "mass" / "both.png").write_bytes((folder / "cyst" / "003.png").read_bytes())
    (fault,) = inspect(folder).faults
    assert "in two classes: 1 (cyst/003.png = mass/both.png)" in fault and "several labels" in fault


def test_a_table_of_several_labels_is_refused_with_their_number_and_what_to_do(tmp_path):
    images = [f"{number}.png" for number in range(6)]
    rows = ["0,1,1", "1,1,1", "2,1,1", "3,0,0", "4,1,0", "5,1,1"]
    (tmp_path / "many.csv").write_text("\n".join(["image,effusion,edema", *rows]))
    with pytest.raises(UserError, match=r"4 of 6 rows .* several labels .*one finding"):
        labels_in(read_table(tmp_path / "many.csv"), images)
