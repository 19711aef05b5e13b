"""Every image is opened before training begins; all that cannot be read are reported together."""

from __future__ import annotations

import json
import os
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ogkd.core import UserError
from ogkd.core.images import load_image, read_image
from ogkd.core.opening import SHOWN, _opened, open_images
from ogkd.data.duplicates import identical
from ogkd.data.image_folder import ImageFolder
from ogkd.data.sampling import draw_shots, shortage
from ogkd.data.splits import Item, check_images, parse_split
from tests.support.folders import config, find_images

KINDS = ("png", "jpg", "tif", "bmp", "webp")


def picture(seed: int = 0, side: int = 24) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8))


@pytest.fixture
def scans(tmp_path) -> Path:
    """Two classes of eight images."""
    folder = tmp_path / "scans"
    for label, name in enumerate(("cyst", "nodule")):
        (folder / name).mkdir(parents=True)
        for number in range(8):
            picture(100 * label + number).save(folder / name / f"{number}.png")
    return folder


def paths_of(folder: Path) -> list[str]:
    return [f"{folder}/{path}" for of_class in find_images(folder).values() for path in of_class]


# One image


@given(kind=st.sampled_from(KINDS), share=st.floats(0, 0.97))
def test_a_truncated_image_is_found(tmp_path_factory, kind, share):
    path = tmp_path_factory.mktemp("cut") / f"a.{kind}"
    picture().save(path)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(UserError, match=r"cannot be read .*intact copy"):
        load_image(path)


@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_bytes_after_the_end_are_no_fault(tmp_path, kind):
    picture().save(tmp_path / f"a.{kind}")
    with (tmp_path / f"a.{kind}").open("ab") as file:
        file.write(b"\0" * 5000)
    assert load_image(tmp_path / f"a.{kind}").frames == 1


def test_a_floating_point_image_with_what_is_no_number_is_refused(tmp_path):
    values = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    for bad in (np.nan, -np.inf):
        values[3, 3] = bad
        Image.fromarray(values).save(tmp_path / "bad.tif")
        with pytest.raises(UserError, match=r"bad\.tif has values that are NaN or infinite"):
            read_image(tmp_path / "bad.tif")


def test_what_is_no_file_is_never_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    os.mkfifo("pipe.png")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("socket.png")
        for name in ("pipe.png", "socket.png", os.devnull):
            with pytest.raises(UserError, match="is a pipe, socket or device"):
                read_image(name)


# All images of a set


def test_all_unreadable_images_are_named_together_and_no_split_is_stored(scans):
    os.mkfifo(scans / "cyst" / "pipe.png")
    (scans / "nodule" / "note.png").write_text("no image")
    whole = (scans / "nodule" / "3.png").read_bytes()
    (scans / "nodule" / "3.png").write_bytes(whole[:-200])
    with pytest.raises(UserError) as error:
        ImageFolder(config(scans.parent))
    head, *lines = str(error.value).splitlines()
    assert head.startswith("3 of the 18 images cannot be read")
    assert [Path(line.split(" ")[4]).name for line in lines] == ["pipe.png", "3.png", "note.png"]
    assert not list(scans.glob("split_*"))
    (scans / "cyst" / "pipe.png").unlink()
    (scans / "nodule" / "note.png").unlink()
    (scans / "nodule" / "3.png").write_bytes(whole)
    assert len(ImageFolder(config(scans.parent)).image_paths()) == 16


def test_a_run_names_unreadable_images_of_a_published_layout_before_it_trains(command, arguments, data, tmp_path):
    shutil.copytree(data / "Phantom", tmp_path / "data" / "Phantom")
    images = sorted((tmp_path / "data/Phantom/Phantom").rglob("*.png"))
    for path in images[:3]:
        path.write_bytes(path.read_bytes()[:100])
    done = command(["train.py", *arguments("CoOp", "DATASET.NUM_SHOTS", "1"), "DATASET.ROOT", str(tmp_path / "data")])
    assert done.returncode == 2
    assert all(path.name in done.stderr for path in images[:3])
    assert "epoch" not in done.stdout


def test_a_long_list_is_cut(tmp_path):
    paths = [str(tmp_path / f"{number:03d}.png") for number in range(SHOWN + 7)]
    with pytest.raises(UserError) as error:
        open_images(paths)
    lines = str(error.value).splitlines()
    assert len(lines) == SHOWN + 2
    assert "... and 7 more" in lines[-1] and "check_data.py" in lines[-1]


def test_images_that_were_opened_are_not_opened_again_until_one_changes(scans, tmp_path):
    paths = paths_of(scans)
    assert open_images(paths, cache=tmp_path / "cache") == (0, 0, [])
    (stored,) = (tmp_path / "cache").iterdir()
    stored.write_text("[3, 1, 0]")
    _opened.cache_clear()
    assert open_images(paths, cache=tmp_path / "cache") == (3, 1, [min(paths)])  # as the cache says
    Path(paths[0]).write_bytes(bytes(Path(paths[0]).stat().st_size))
    with pytest.raises(UserError, match="cannot be read"):
        open_images(paths, cache=tmp_path / "cache")
    assert [*(tmp_path / "cache").iterdir()] == [stored]  # what failed is not stored


def test_a_cache_that_is_corrupt_or_cannot_be_written_only_costs_time(scans, tmp_path):
    paths = paths_of(scans)
    open_images(paths, cache=tmp_path / "cache")
    (stored,) = (tmp_path / "cache").iterdir()
    for content in ("{", "[1]", '{"a": 1}', "[0, 0, 99]"):
        stored.write_text(content)
        _opened.cache_clear()
        assert open_images(paths, cache=tmp_path / "cache") == (0, 0, [])
    (tmp_path / "file").touch()
    assert open_images(paths, cache=tmp_path / "file") == (0, 0, [])


def test_a_dicom_file_without_a_suffix_is_an_image(scans):
    (scans / "cyst" / "IM0001").write_bytes(bytes(128) + b"DICM")
    (scans / "cyst" / "1.2.840.1").write_bytes(bytes(128) + b"DICM")
    (scans / "cyst" / "other").write_bytes(bytes(128) + b"DICN")
    assert [path for path in find_images(scans)["cyst"] if not path.endswith(".png")] == [
        "cyst/1.2.840.1",
        "cyst/IM0001",
    ]


# Names


def test_a_name_that_is_no_text_is_refused(scans):
    try:
        (scans / "cyst" / os.fsdecode(b"caf\xe9.png")).write_bytes(b"")
    except (OSError, UnicodeError):
        pytest.skip("this file system takes no such name")
    with pytest.raises(UserError, match=r"caf\\xe9\.png' in .* is not valid utf-8.*: rename it"):
        find_images(scans)


# One image in two parts


@pytest.mark.parametrize("spelling", ["./a.png", "a//../a.png", "x//a.png", ".//x/./a.png"])
def test_one_image_in_two_spellings_is_one_image(spelling):
    plain = "x/a.png" if "x" in spelling else "a.png"
    split = {"train": [[plain, 0, "c"]], "val": [["v.png", 0, "c"]], "test": [[spelling, 0, "c"]]}
    with pytest.raises(UserError, match="outside" if ".." in spelling else f"in \"train\" too as '{plain}'"):
        parse_split(json.dumps(split).encode(), "s.json")


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_one_file_under_two_names_in_two_parts_is_refused(tmp_path, link):
    for name in "abd":
        picture(ord(name)).save(tmp_path / f"{name}.png")
    link(tmp_path / "a.png", tmp_path / "c.png")
    split = {part: [Item(f"{name}.png", 0, "x")] for part, name in zip(("train", "val", "test"), "abc", strict=True)}
    with pytest.raises(UserError, match=r"c\.png in the part test of s\.json is the same file as a\.png in the part"):
        check_images(tmp_path, split, "s.json", "")
    twice = {"train": split["train"] + split["test"], "test": [Item("d.png", 0, "x")]}
    check_images(tmp_path, split | twice, "s.json", "")  # twice in one part, which is no leak


def test_equal_bytes_in_training_and_test_are_counted(tmp_path):
    first, other = tmp_path / "a.png", tmp_path / "b.png"
    picture(1).save(first)
    picture(2).save(other)
    copy = tmp_path / "c.png"
    copy.write_bytes(first.read_bytes())
    assert identical([copy, other], [first]) == [copy]


# Few shots


@given(counts=st.lists(st.integers(1, 30), min_size=1, max_size=6), shots=st.integers(1, 40), seed=st.integers(0, 99))
def test_classes_with_fewer_images_than_shots_are_reported_and_no_image_is_drawn_twice(counts, shots, seed):
    items = [Item(f"{label}/{n}", label, str(label)) for label, count in enumerate(counts) for n in range(count)]
    drawn = draw_shots({"train": items, "val": items, "test": items}, shots, seed)["train"]
    assert len(drawn) == len(set(drawn)) == sum(min(count, shots) for count in counts)
    sentence, few = shortage(drawn, shots), sum(count < shots for count in counts)
    assert bool(sentence) == bool(few)
    if sentence:
        assert sentence.startswith(f"{few} of the {len(counts)} classes")
        assert f"{len(drawn)} images in all" in sentence
    assert shortage(items, -1) == ""
