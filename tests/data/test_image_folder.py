"""ImageFolder: the split of a user's own images depends on nothing but their names, and every image can be read."""

from __future__ import annotations

import json
import os
import random
import shutil
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.data import get_testdata_file

from dassl.data.datasets import DATASET_REGISTRY
from ogkd.core import UserError
from ogkd.core.opening import SHOWN, _opened, open_images
from ogkd.data.image_folder import ImageFolder
from ogkd.data.inspection import inspect
from ogkd.data.listing import SUFFIXES
from ogkd.data.splits import PARTS, parse_split
from ogkd.data.splitting import make_split
from tests.support.folders import config, find_images
from tests.support.pictures import numbered, put

NAMES = st.text("abcXYZ01 _-é", min_size=1, max_size=6).map(lambda name: f"{name}.png")
LITTER = [
    "notes.txt",
    "loose.png",
    ".git/a.png",
    "normal_lung/.b.png",
    "normal_lung/.cache/b.png",
    "__MACOSX/n/._0.png",
]


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Two classes of ten images, one of them of all kinds and with one folder per patient, and what is no image."""
    folder = tmp_path / "scans"
    put(folder, [*numbered("normal_lung", count=10), *LITTER])
    for number in range(10):
        suffix = SUFFIXES[number % len(SUFFIXES)]
        path = folder / f"lung_nodule/p{number % 3}/{number}{suffix.upper()}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if suffix == ".dcm":
            shutil.copyfile(get_testdata_file("SC_rgb_small_odd.dcm"), path)
        else:
            Image.new("L", (1, 1)).save(path, Image.registered_extensions()[suffix])
    return folder


def images(data: ImageFolder) -> dict[str, list[str]]:
    return {
        part: [datum.impath for datum in items]
        for part, items in zip(PARTS, (data.train_x, data.val, data.test), strict=True)
    }


def test_folders_become_classes_and_images_of_every_kind_are_split_once_and_for_all(scans, capsys):
    data = ImageFolder(config(scans.parent))
    assert DATASET_REGISTRY.get("ImageFolder") is ImageFolder
    assert data.classnames == ["lung nodule", "normal lung"] and data.image_dir == str(scans)
    assert [len(paths) for paths in images(data).values()] == [10, 4, 6]
    assert len({path for paths in images(data).values() for path in paths}) == 20
    assert all(Path(path).is_file() for paths in images(data).values() for path in paths)
    assert "Stored the split" in capsys.readouterr().out
    put(scans, ["normal_lung/new.png", *numbered("third", count=3)])
    after = ImageFolder(config(scans.parent, seed=2))
    assert images(after) == images(data) and after.fingerprint == data.fingerprint
    assert any("third is not in the split" in warning for warning in after.warnings)
    assert any("images that are not in the split" in warning for warning in after.warnings)
    (scans / "split_scans.json").unlink()
    assert ImageFolder(config(scans.parent)).classnames == ["lung nodule", "normal lung", "third"]
    assert not list(scans.glob(".split*"))


@settings(max_examples=8, deadline=None)
@given(names=st.sets(NAMES, min_size=3, max_size=12), order=st.randoms(use_true_random=False), seed=st.integers(0, 99))
def test_the_split_depends_on_nothing_but_the_images_paths(tmp_path_factory, names, order, seed):
    splits = []
    for turn in range(2):
        root = tmp_path_factory.mktemp("data")
        shuffled = sorted(names)
        order.shuffle(shuffled)
        put(root / "scans", [f"{folder}/{name}" for name in shuffled for folder in ("a_b", "c")])
        random.seed(seed + turn)
        data = ImageFolder(config(root, seed=seed + turn))
        splits.append({part: [os.path.relpath(p, root) for p in paths] for part, paths in images(data).items()})
        shutil.rmtree(root)
    assert splits[0] == splits[1]


@given(counts=st.lists(st.integers(3, 60), min_size=1, max_size=5))
def test_each_class_gives_half_to_training_a_fifth_to_validation_and_the_rest_to_the_test(counts):
    classes = {f"c{c}": sorted(f"c{c}/{i}.png" for i in range(n)) for c, n in enumerate(counts)}
    split = make_split("anywhere", classes)
    assert parse_split(json.dumps(split).encode(), "made") == split
    assert sorted(item.path for part in PARTS for item in split[part]) == sorted(chain(*classes.values()))
    for label, count in enumerate(counts):
        train, val = count // 2, max(1, count // 5)
        numbers = [sum(item.label == label for item in split[part]) for part in PARTS]
        assert numbers == [train, val, count - train - val]


def test_an_existing_split_file_is_used_as_it_is(scans):
    own = {part: [[f"normal_lung/{3 * i + j}.png", 0, "healthy"] for j in range(2)] for i, part in enumerate(PARTS)}
    (scans / "split_scans.json").write_text(json.dumps(own))
    data = ImageFolder(config(scans.parent))
    assert data.classnames == ["healthy"] and len(data.test) == 2
    (scans / "normal_lung/0.png").unlink()
    with pytest.raises(UserError, match=r"1 of the 6 .*\(the first is .*normal_lung/0.png\): put them back"):
        ImageFolder(config(scans.parent))


def test_a_split_of_a_folder_that_was_renamed_is_never_replaced_by_another(scans):
    split = scans / "split_old.json"
    split.write_text("{}")
    with pytest.raises(UserError, match=r"split_old\.json.*must be called split_scans\.json"):
        ImageFolder(config(scans.parent))
    assert any("split_old.json" in fault for fault in inspect(scans).faults)
    split.unlink()
    assert ImageFolder(config(scans.parent)).test


def test_a_split_that_cannot_be_stored_is_the_same_each_time(tmp_path, capsys):
    name = "x" * 240  # leaves no room for the longer name under which the file is first written
    put(tmp_path / name, numbered("a", "b", count=8))
    first = ImageFolder(config(tmp_path, name))
    assert "could not be stored" in capsys.readouterr().out
    assert images(ImageFolder(config(tmp_path, name, seed=9))) == images(first)
    assert {path.name for path in (tmp_path / name).iterdir()} == {"a", "b"}


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        ([], r"scans is missing: create it with one folder of images per class"),
        (["a.png", ".b/c.png"], "has no class folders"),
        ([*numbered("a_b"), "a_b/note.txt"], r"has one class folder, 'a_b'"),
        ([*numbered("a_b", count=2), *numbered("c")], r"a_b has 2 images .*at least 3"),
    ],
)
def test_what_cannot_be_split_is_refused_with_the_way_out(tmp_path, paths, words):
    put(tmp_path / "scans", paths)
    with pytest.raises(UserError, match=words):
        ImageFolder(config(tmp_path))
    assert not (tmp_path / "scans/split_scans.json").exists()


def test_without_a_folders_name_the_setting_is_named(tmp_path):
    with pytest.raises(UserError, match=r"ImageFolder needs DATASET\.FOLDER"):
        ImageFolder(config(tmp_path, ""))


# All images are opened before training


def test_all_unreadable_images_are_named_together_and_no_split_is_stored(tmp_path):
    scans = tmp_path / "scans"
    put(scans, numbered("cyst", "nodule", count=8))
    os.mkfifo(scans / "cyst" / "pipe.png")
    (scans / "nodule" / "note.png").write_text("no image")
    whole = (scans / "nodule" / "3.png").read_bytes()
    (scans / "nodule" / "3.png").write_bytes(whole[:-200])
    with pytest.raises(UserError) as error:
        ImageFolder(config(tmp_path))
    head, *lines = str(error.value).splitlines()
    assert head.startswith("3 of the 18 images cannot be read")
    assert [Path(line.split(" ")[4]).name for line in lines] == ["pipe.png", "3.png", "note.png"]
    assert not list(scans.glob("split_*"))


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
    with pytest.raises(UserError) as error:
        open_images([str(tmp_path / f"{number:03d}.png") for number in range(SHOWN + 7)])
    lines = str(error.value).splitlines()
    assert len(lines) == SHOWN + 2 and "... and 7 more" in lines[-1] and "check_data.py" in lines[-1]


def test_images_that_were_opened_are_not_opened_again_until_one_changes(tmp_path):
    put(tmp_path, numbered("a"))
    paths, cache = [f"{tmp_path}/{path}" for path in numbered("a")], tmp_path / "cache"
    seen = open_images(paths, cache=cache)
    assert [look.path for look in seen] == paths
    (stored,) = cache.iterdir()
    stored.write_text(stored.read_text().replace('"RGB"', '"CMYK"'))
    _opened.cache_clear()
    assert {look.mode for look in open_images(paths, cache=cache)} == {"CMYK"}  # as the cache says
    for content in ("{", "[1]", '{"a": 1}', f"[{', '.join('0' for _ in paths)}]"):  # a corrupt cache only costs time
        stored.write_text(content)
        _opened.cache_clear()
        assert open_images(paths, cache=cache) == seen
    Path(paths[0]).write_bytes(bytes(Path(paths[0]).stat().st_size))
    with pytest.raises(UserError, match="cannot be read"):
        open_images(paths, cache=cache)
    assert [*cache.iterdir()] == [stored]  # what failed is not stored
    (tmp_path / "file").touch()
    assert open_images(paths[1:], cache=tmp_path / "file") == seen[1:]  # nor can it be stored here


def test_a_dicom_file_without_a_suffix_is_an_image(tmp_path):
    put(tmp_path, numbered("cyst", "mass"))
    for name, end in (("IM0001", b"DICM"), ("1.2.840.1", b"DICM"), ("other", b"DICN")):
        (tmp_path / "cyst" / name).write_bytes(bytes(128) + end)
    assert [path for path in find_images(tmp_path)["cyst"] if ".png" not in path] == ["cyst/1.2.840.1", "cyst/IM0001"]


def test_a_name_that_is_no_text_is_refused(tmp_path):
    put(tmp_path, numbered("cyst", "mass"))
    try:
        (tmp_path / "cyst" / os.fsdecode(b"caf\xe9.png")).write_bytes(b"")
    except (OSError, UnicodeError):
        pytest.skip("this file system takes no such name")
    with pytest.raises(UserError, match=r"caf\\xe9\.png' in .* is not valid utf-8.*: rename it"):
        find_images(tmp_path)


def test_no_warning_names_a_file_as_it_may_be_a_patients(scans):
    ImageFolder(config(scans.parent))
    (scans / "normal_lung" / "Erika Muster (1).png").write_bytes((scans / "normal_lung" / "0.png").read_bytes())
    (scans / "Erika Muster.png").write_bytes((scans / "normal_lung" / "0.png").read_bytes())
    data = ImageFolder(config(scans.parent))
    said = " ".join([*data.warnings, *data.notes])
    assert "in no class folder" in said and "not in the split and not used" in said
    assert "Erika" not in said and "Erika" in " ".join(inspect(scans).warnings)
