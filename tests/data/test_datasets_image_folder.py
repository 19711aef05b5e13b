"""ImageFolder: the split of a user's own images depends on nothing but their names."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.data import get_testdata_file

from dassl.data.datasets import DATASET_REGISTRY
from ogkd.core import UserError
from ogkd.data.image_folder import ImageFolder
from ogkd.data.listing import SUFFIXES
from ogkd.data.splits import PARTS, parse_split
from ogkd.data.splitting import make_split
from tests.support.folders import config

NAMES = st.text("abcXYZ01 _-é", min_size=1, max_size=6).map(lambda name: f"{name}.png")


def contents(suffix: str) -> bytes:
    """The smallest image of the format given by the suffix; empty for other files."""
    if suffix == ".dcm":
        path = Path(get_testdata_file("SC_rgb_small_odd.dcm"))  # within pydicom's package
        return path.read_bytes()
    if suffix not in SUFFIXES:
        return b""
    file = io.BytesIO()
    Image.new("L", (1, 1)).save(file, Image.registered_extensions()[suffix])
    return file.getvalue()


IMAGES = {suffix: contents(suffix) for suffix in SUFFIXES}


def put(folder: Path, *paths: str) -> None:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(IMAGES.get(Path(path).suffix.lower(), b""))


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Two classes of ten images, one of them with one folder per patient, and files that are not images."""
    folder = tmp_path / "scans"
    put(folder, *(f"lung_nodule/p{i % 3}/{i}{SUFFIXES[i % len(SUFFIXES)].upper()}" for i in range(10)))
    put(folder, *(f"normal_lung/{i}.png" for i in range(10)))
    put(
        folder,
        "notes.txt",
        "loose.png",
        ".git/a.png",
        "normal_lung/.hidden.png",
        "normal_lung/.cache/b.png",
        "normal_lung/Thumbs.db",
        "__MACOSX/normal_lung/._0.png",
    )
    return folder


def images(data: ImageFolder) -> dict[str, list[str]]:
    return {
        part: [datum.impath for datum in items]
        for part, items in zip(PARTS, (data.train_x, data.val, data.test), strict=True)
    }


def test_folders_become_classes_and_each_is_split_half_a_fifth_the_rest(scans):
    data = ImageFolder(config(scans.parent))
    assert DATASET_REGISTRY.get("ImageFolder") is ImageFolder
    assert data.classnames == ["lung nodule", "normal lung"]
    assert data.image_dir == str(scans)
    assert (len(data.train_x), len(data.val), len(data.test)) == (10, 4, 6)
    assert len({path for paths in images(data).values() for path in paths}) == 20
    assert all(Path(path).is_file() for paths in images(data).values() for path in paths)


def test_the_split_is_stored_and_stays_when_images_are_added(scans, capsys):
    before = ImageFolder(config(scans.parent))
    assert "Stored the split" in capsys.readouterr().out
    assert parse_split((scans / "split_scans.json").read_bytes(), "stored")
    put(scans, "normal_lung/new.png", "third/0.png", "third/1.png", "third/2.png")
    after = ImageFolder(config(scans.parent, seed=2))
    assert images(after) == images(before) and after.fingerprint == before.fingerprint
    assert any("third is not in the split" in warning for warning in after.warnings)
    assert any("images that are not in the split" in warning for warning in after.warnings)
    (scans / "split_scans.json").unlink()
    assert ImageFolder(config(scans.parent)).classnames == ["lung nodule", "normal lung", "third"]
    assert not list(scans.glob(".split*"))


@settings(max_examples=25, deadline=None)
@given(names=st.sets(NAMES, min_size=3, max_size=25), order=st.randoms(use_true_random=False), seed=st.integers(0, 99))
def test_the_split_depends_on_nothing_but_the_images_paths(tmp_path_factory, names, order, seed):
    splits = []
    for _ in range(2):
        root = tmp_path_factory.mktemp("data")
        made = sorted(names)
        order.shuffle(made)
        put(root / "scans", *(f"{c}/{name}" for name in made for c in ("a_b", "c")))
        random.seed(seed)
        data = ImageFolder(config(root, seed=seed))
        splits.append({part: [os.path.relpath(p, root) for p in paths] for part, paths in images(data).items()})
        seed += 1
        again = ImageFolder(config(root, seed=seed))
        assert images(again) == images(data) and again.fingerprint == data.fingerprint
        shutil.rmtree(root)
    assert splits[0] == splits[1]


@given(counts=st.lists(st.integers(3, 60), min_size=1, max_size=5))
def test_every_class_is_in_every_part_and_no_image_is_lost_or_doubled(counts):
    found = {f"c{c}": [f"c{c}/{i}.png" for i in range(n)] for c, n in enumerate(counts)}
    split = make_split("anywhere", found)
    assert parse_split(json.dumps(split).encode(), "made") == split
    assert sorted(item.path for part in PARTS for item in split[part]) == sorted(p for v in found.values() for p in v)
    for part, share in zip(PARTS, (0.5, 0.2, 0.3), strict=True):
        for label, count in enumerate(counts):
            number = sum(item.label == label for item in split[part])
            assert number >= 1 and abs(number - share * count) < 2


def test_the_fractions_are_those_of_the_published_splits(split_folder):
    published = parse_split((split_folder / "split_RETINA.json").read_bytes(), "published")
    found: dict[str, list[str]] = {}
    for part in PARTS:
        for item in published[part]:
            found.setdefault(f"{item.label}", []).append(item.path)
    made = make_split("anywhere", dict(sorted(found.items())))
    assert {part: len(made[part]) for part in PARTS} == {part: len(published[part]) for part in PARTS}


def test_an_existing_split_file_is_used_as_it_is(scans):
    own = {part: [[f"normal_lung/{3 * i + j}.png", 0, "healthy"] for j in range(2)] for i, part in enumerate(PARTS)}
    (scans / "split_scans.json").write_text(json.dumps(own))
    data = ImageFolder(config(scans.parent))
    assert data.classnames == ["healthy"] and len(data.test) == 2
    (scans / "normal_lung/0.png").unlink()
    with pytest.raises(UserError, match=r"1 of the 6 .*\(the first is .*normal_lung/0.png\): put them back"):
        ImageFolder(config(scans.parent))


def test_a_split_that_cannot_be_stored_is_the_same_each_time(tmp_path, capsys):
    name = "x" * 240  # leaves no room for the longer name under which the file is first written
    put(tmp_path / name, *(f"{c}/{i}.png" for c in "ab" for i in range(8)))
    first = ImageFolder(config(tmp_path, name))
    assert "could not be stored" in capsys.readouterr().out
    assert images(ImageFolder(config(tmp_path, name, seed=9))) == images(first)
    assert {path.name for path in (tmp_path / name).iterdir()} == {"a", "b"}


def test_what_cannot_be_split_is_refused_with_the_way_out(tmp_path):
    with pytest.raises(UserError, match=r"ImageFolder needs DATASET\.FOLDER"):
        ImageFolder(config(tmp_path, ""))
    with pytest.raises(UserError, match=r"scans is missing: create it with one folder of images per class"):
        ImageFolder(config(tmp_path))
    folder = tmp_path / "scans"
    put(folder, "a.png", ".b/c.png")
    with pytest.raises(UserError, match="has no class folders"):
        ImageFolder(config(tmp_path))
    put(folder, "a_b/0.png", "a_b/1.png", "a_b/note.txt")
    with pytest.raises(UserError, match=r"has one class folder, 'a_b'"):
        ImageFolder(config(tmp_path))
    put(folder, "c/0.png", "c/1.png", "c/2.png")
    with pytest.raises(UserError, match=r"a_b has 2 images .*at least 3"):
        ImageFolder(config(tmp_path))
    put(folder, "a_b/2.png", "a b/0.png", "a b/1.png", "a b/2.png")
    with pytest.raises(UserError, match=r"'a b' and 'a_b' both give the class 'a b'.* rename or merge"):
        ImageFolder(config(tmp_path))
    shutil.rmtree(folder / "a b")
    (folder / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty has no images .*or remove it"):
        ImageFolder(config(tmp_path))
    assert not (folder / "split_scans.json").exists()
