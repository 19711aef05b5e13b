"""Split files, few-shot sampling, the base/novel split and the benchmark's data sets."""

from __future__ import annotations

import json
import math
import os
import random
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from yacs.config import CfgNode

import datasets.btmri
from dassl.data.datasets import DATASET_REGISTRY
from ogkd.core import UserError
from ogkd.core.config_files import configs_in, read_config
from ogkd.data import catalogue
from ogkd.data.duplicates import identical
from ogkd.data.registered import register_all
from ogkd.data.sampling import MISSING, PROPORTIONAL, draw_shots, shortage, take_classes
from ogkd.data.splits import PARTS, Item, check_images, class_names, fingerprint, is_below, parse_split, read_split

ROOT = Path(__file__).resolve().parents[2]
register_all()
AT_HAND = sorted({facts.name for facts in catalogue.load().published()} - {"OCTMNIST"})


def config(root: Path, name: str = "BTMRI", shots: int = -1, subset: str = "all", seed: int = 1) -> CfgNode:
    dataset = {"ROOT": str(root), "NAME": name, "NUM_SHOTS": shots, "SUBSAMPLE_CLASSES": subset, "FOLDER": ""}
    return CfgNode({"SEED": seed, "DATASET": dataset})


def lay_out(root: Path, content: dict | str | bytes, name: str = "BTMRI") -> Path:
    """A data set's folder with the split `content` and an empty file for each image that it names."""
    folder = root / name
    (folder / name).mkdir(parents=True, exist_ok=True)
    if isinstance(content, dict):
        for path in (entry[0] for part in content.values() for entry in part):
            (folder / name / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / name / path).touch()
        content = json.dumps(content)
    (folder / f"split_{name}.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def made_split(classes: int, train: int = 3, val: int = 2, test: int = 2) -> dict[str, list[list]]:
    """Classes in descending order, as a reminder that the order of the file is not that of the labels."""
    numbers = {"train": train, "val": val, "test": test}
    return {
        part: [[f"c{c}/{part}{i}.png", c, f"class {c}"] for c in reversed(range(classes)) for i in range(number)]
        for part, number in numbers.items()
    }


def published_draw(entries: dict[str, list[list]], shots: int, seed: int, subset: str) -> dict[str, list[tuple]]:
    """The published sampler's rule, written from its description and on the module's own generator."""
    random.seed(seed)
    sample = {}
    for part, k in (("train", shots), ("val", min(shots, 4))):
        by_label = defaultdict(list)
        for entry in entries[part]:
            by_label[entry[1]].append(entry)
        sample[part] = []
        for group in by_label.values():
            sample[part].extend(random.sample(group, k) if len(group) >= k else group)
    sample["test"] = entries["test"]
    labels = sorted({entry[1] for entry in sample["train"]})
    half = math.ceil(len(labels) / 2)
    chosen = {"all": labels, "base": labels[:half], "new": labels[half:]}[subset]
    return {
        part: [(path, chosen.index(label), name) for path, label, name in items if label in chosen]
        for part, items in sample.items()
    }


@pytest.mark.parametrize("name", AT_HAND)
def test_the_images_drawn_are_those_that_the_published_sampler_draws(split_folder, name):
    file = split_folder / f"split_{name}.json"
    split, entries = read_split(file), json.loads(file.read_text())
    for seed, shots in ((1, 1), (2, 4), (3, 16)):
        for subset in ("all", "base", "new"):
            sample = take_classes(draw_shots(split, shots, seed), subset)
            assert sample == published_draw(entries, shots, seed, subset)
    facts = catalogue.load().lookup(name)
    assert facts.counts == tuple(len(split[part]) for part in PARTS) and list(facts.classes) == class_names(split)
    counts = Counter((item.classname, part) for part in PARTS for item in split[part])
    for classname, known in facts.classes.items():
        assert known == tuple(counts[classname, part] for part in PARTS)


@given(
    counts=st.lists(st.integers(1, 12), min_size=1, max_size=7),
    shots=st.integers(1, 9),
    seed=st.integers(0, 2**32),
    subset=st.sampled_from(["all", "base", "new"]),
    order=st.randoms(use_true_random=False),
)
def test_classes_with_fewer_images_than_shots_are_drawn_by_the_published_rule_too(counts, shots, seed, subset, order):
    entries = {p: [[f"{c}/{p}{i}.png", c, f"n{c}"] for c, n in enumerate(counts) for i in range(n)] for p in PARTS}
    for part in entries.values():
        order.shuffle(part)
    split = parse_split(json.dumps(entries).encode(), "made up")
    sample = draw_shots(split, shots, seed)
    assert take_classes(sample, subset) == published_draw(entries, shots, seed, subset)
    few, sentence = sum(count < shots for count in counts), shortage(sample["train"], shots)
    assert not sentence if not few else f"{few} of the {len(counts)} classes" in sentence
    assert not few or f"{sum(min(count, shots) for count in counts)} images in all" in sentence
    assert shortage(sample["train"], -1) == ""


def test_drawing_neither_uses_nor_disturbs_the_global_generator():
    split = parse_split(json.dumps(made_split(4, train=9)).encode(), "made up")
    random.seed(5)
    expected = [random.random() for _ in range(3)]
    random.seed(5)
    first = draw_shots(split, 2, seed=1)
    assert [random.random() for _ in range(3)] == expected
    assert draw_shots(split, 2, seed=1) == first
    assert draw_shots(split, 2, seed=2) != first


def test_every_data_set_of_the_catalogue_is_registered_and_has_a_config():
    for facts in catalogue.load().datasets.values():
        settings = read_config(ROOT / "configs/datasets" / f"{facts.config}.yaml")
        made = DATASET_REGISTRY.get(settings["DATASET"]["NAME"])
        assert (made.__name__, made.dataset_dir) == (facts.name, facts.name)
        assert len(facts.counts) == 3 and facts.counts[0] > 0
    assert configs_in(ROOT / "configs/datasets") == {
        *(facts.config for facts in catalogue.load().everything()),
        "imagefolder",
    }


def test_data_sets_are_found_by_either_name_and_others_are_refused():
    published = catalogue.load()
    assert published.lookup("covid") is published.lookup("COVID_19") is published.lookup("Covid_19")
    with pytest.raises(UserError, match=r"'mnist'.*btmri, busi"):
        published.lookup("mnist")


def test_a_data_set_has_all_that_a_trainer_asks_for(tmp_path):
    lay_out(tmp_path, made_split(5))
    data = datasets.btmri.BTMRI(config(tmp_path, shots=2, subset="new"))
    assert data.image_dir == str(tmp_path / "BTMRI" / "BTMRI")
    assert data.classnames == ["class 3", "class 4"]
    assert data.num_classes == 2
    assert (len(data.train_x), len(data.val), len(data.test)) == (4, 4, 4)
    assert all(Path(d.impath).is_file() and d.impath.startswith(data.image_dir) for d in data.train_x)
    assert {(d.label, d.classname) for d in data.test} == {(0, "class 3"), (1, "class 4")}


def test_the_fingerprint_is_of_the_whole_split_and_not_of_what_is_drawn(tmp_path):
    lay_out(tmp_path / "a", made_split(4))
    lay_out(tmp_path / "b", made_split(4, test=3))
    prints = {
        datasets.btmri.BTMRI(config(tmp_path / "a", shots=s, subset=c, seed=k)).fingerprint
        for s, c, k in ((-1, "all", 1), (1, "base", 2), (2, "new", 3))
    }
    other = datasets.btmri.BTMRI(config(tmp_path / "b")).fingerprint
    assert len(prints) == 1 and other not in prints and len(other) == 64
    split = read_split(tmp_path / "a/BTMRI/split_BTMRI.json")
    renamed = {part: [item._replace(classname=item.classname.upper()) for item in split[part]] for part in PARTS}
    assert fingerprint(split) in prints and fingerprint(renamed) not in prints


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"shots": 0}, "NUM_SHOTS is .*-1"),
        ({"subset": "novel"}, "'novel': give one of"),
        ({"subset": "base"}, "has 3 classes, but base-to-novel needs at least 4"),
    ],
)
def test_settings_that_mean_nothing_are_refused(tmp_path, wrong, words):
    lay_out(tmp_path, made_split(3))
    with pytest.raises(UserError, match=words):
        datasets.btmri.BTMRI(config(tmp_path, **wrong))


def test_absent_data_are_answered_with_the_command_that_fetches_them(tmp_path):
    with pytest.raises(UserError) as error:
        datasets.btmri.BTMRI(config(tmp_path))
    assert str(tmp_path / "BTMRI" / "BTMRI") in str(error.value)
    assert f"python scripts/download.py btmri --root {tmp_path}" in str(error.value)
    (tmp_path / "BTMRI" / "BTMRI").mkdir(parents=True)
    with pytest.raises(UserError, match=r"split_BTMRI.json is missing: .*download.py btmri"):
        datasets.btmri.BTMRI(config(tmp_path))
    with pytest.raises(UserError, match=r"python -m ogkd\.phantom\.dataset phantom --root"):
        DATASET_REGISTRY.get("Phantom")(config(tmp_path, "Phantom"))


def test_missing_images_are_counted_and_the_first_is_named(tmp_path):
    folder = lay_out(tmp_path, made_split(3))
    for path in ("c2/train1.png", "c0/test0.png"):
        (folder / "BTMRI" / path).unlink()
    (folder / "BTMRI/c0/test0.png").mkdir()  # a folder is no image
    with pytest.raises(UserError, match=r"2 of the 21 .* missing \(the first is .*c2/train1.png\): .*download.py"):
        datasets.btmri.BTMRI(config(tmp_path))


FAULTS = {
    "no JSON": "{",
    "no text": b"\xff\xfe\x00",
    "nested": "[" * 100_000,
    "a list": "[]",
    "an empty part": made_split(2) | {"val": []},
    "a pair": made_split(2) | {"val": [["a.png", 0]]},
    "a label of truth": made_split(2) | {"val": [["a.png", True, "class 1"]]},
    "a negative label": made_split(2) | {"val": [["a.png", -1, "class 1"]]},
    "no class name": made_split(2) | {"val": [["a.png", 0, " "]]},
    "two names for a label": made_split(2) | {"val": [["a.png", 0, "class 1"]]},
    "two labels for a name": {part: [*items, [f"{part}x.png", 2, "class 0"]] for part, items in made_split(2).items()},
    "a gap": {part: [*items, [f"{part}x.png", 3, "class 3"]] for part, items in made_split(2).items()},
    "a class that is not trained": made_split(2) | {"test": [["a.png", 2, "class 2"]]},
    "an image in two parts": made_split(2) | {"test": [["c1/train0.png", 1, "class 1"]]},
}


@pytest.mark.parametrize("content", FAULTS.values(), ids=FAULTS.keys())
def test_a_malformed_split_is_named_with_its_fault(tmp_path, content):
    lay_out(tmp_path, json.dumps(content) if isinstance(content, dict) else content)
    sentence = r"split_BTMRI.json is not usable, .*: correct it or fetch it again\.$"
    with pytest.raises(UserError, match=sentence) as error:
        datasets.btmri.BTMRI(config(tmp_path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "a/../../b.png", "..\\a.png", "C:/a.png", "C:\\a.png", "", ".", "a\0.png"]
)
def test_an_image_outside_the_image_folder_is_refused(tmp_path, path):
    assert not is_below(path)
    lay_out(tmp_path, json.dumps(made_split(2) | {"val": [[path, 0, "class 0"]]}))
    with pytest.raises(UserError, match="outside the image folder"):
        datasets.btmri.BTMRI(config(tmp_path))


@pytest.mark.parametrize("spelling", ["./a.png", ".//x/./a.png"])
def test_one_image_in_two_spellings_is_one_image(spelling):
    plain = "x/a.png" if "x" in spelling else "a.png"
    split = {"train": [[plain, 0, "c"]], "val": [["v.png", 0, "c"]], "test": [[spelling, 0, "c"]]}
    with pytest.raises(UserError, match=f"in \"train\" too as '{plain}'"):
        parse_split(json.dumps(split).encode(), "s.json")


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_one_file_under_two_names_in_two_parts_is_refused(tmp_path, link):
    for name in "abd":
        (tmp_path / f"{name}.png").touch()
    link(tmp_path / "a.png", tmp_path / "c.png")
    split = {part: [Item(f"{name}.png", 0, "x")] for part, name in zip(PARTS, "abc", strict=True)}
    with pytest.raises(UserError, match=r"c\.png in the part test of s\.json is the same file as a\.png in the part"):
        check_images(tmp_path, split, "s.json", "")
    twice = {"train": split["train"] + split["test"], "test": [Item("d.png", 0, "x")]}
    check_images(tmp_path, split | twice, "s.json", "")  # twice in one part, which is no leak


def test_equal_bytes_in_training_and_test_are_counted(tmp_path):
    names = [tmp_path / name for name in "abc"]
    for path, content in zip(names, ("one", "two", "one"), strict=True):
        path.write_text(content)
    assert identical(names[1:], names[:1]) == names[2:]


def sampled_counts(split: dict, shots: int, draw: str) -> dict[str, list[int]]:
    """The images per class of a draw, by part."""
    sample = draw_shots(split, shots, 7, draw)
    assert sample == draw_shots(split, shots, 7, draw) and sample["test"] == split["test"]
    classes = range(1 + max(item.label for item in split["train"]))
    assert all(len(set(sample[part])) == len(sample[part]) and set(sample[part]) <= set(split[part]) for part in PARTS)
    return {part: [sum(item.label == label for item in sample[part]) for label in classes] for part in ("train", "val")}


@given(
    sizes=st.lists(st.tuples(st.integers(1, 80), st.integers(1, 9)), min_size=1, max_size=8),
    shots=st.integers(1, 20),
    order=st.randoms(use_true_random=False),
)
def test_a_proportional_draw_shares_out_as_many_images_as_a_balanced_one(sizes, shots, order):
    entries = {
        part: [Item(f"{c}/{part}{i}.png", c, f"n{c}") for c, counts in enumerate(sizes) for i in range(counts[place])]
        for place, part in ((0, "train"), (1, "val"), (1, "test"))
    }
    for part in entries.values():
        order.shuffle(part)
    for least, draw in ((1, PROPORTIONAL), (0, MISSING)):
        sampled = sampled_counts(entries, shots, draw)
        for place, part, of_class in ((0, "train", shots), (1, "val", min(shots, 4))):
            there = np.array([counts[place] for counts in sizes])
            wanted = min(of_class * len(sizes), there.sum())
            assert sum(sampled[part]) == wanted and (np.array(sampled[part]) <= there).all()
            quotas = wanted * there / there.sum()
            if least:
                assert min(sampled[part]) >= 1
            if not least or (quotas >= 1).all():
                assert (abs(np.array(sampled[part]) - quotas) < 1).all()
            assert (np.diff(np.array(sampled[part])[np.argsort(there, kind="stable")]) >= (-1)).all()


@pytest.mark.parametrize(
    ("sizes", "shots", "draw", "expected"),  # by hand
    [
        ((60, 30, 10), 4, MISSING, [7, 4, 1]),  # quotas 7.2, 3.6, 1.2
        ((90, 9, 1), 4, MISSING, [11, 1, 0]),  # 10.8, 1.08, 0.12
        ((90, 9, 1), 4, PROPORTIONAL, [10, 1, 1]),  # 1 for the last, then 11 to 90 and 9: 10, 1
        ((50, 50), 3, MISSING, [3, 3]),
        ((5, 5, 5), 9, PROPORTIONAL, [5, 5, 5]),
        ((1000, 1, 1, 1), 1, PROPORTIONAL, [1, 1, 1, 1]),
    ],
)
def test_a_proportional_draw_rounds_by_largest_remainders(sizes, shots, draw, expected):
    items = [Item(f"{c}/{i}.png", c, f"n{c}") for c, size in enumerate(sizes) for i in range(size)]
    assert sampled_counts({"train": items, "val": [], "test": []}, shots, draw)["train"] == expected


@pytest.mark.parametrize(
    ("subset", "names", "numbers"),
    [("base", ["class 0", "class 1", "class 2"], [5, 1, 0]), ("new", ["class 3", "class 4"], [4, 0])],
)
def test_a_proportional_draw_of_a_half_is_within_its_classes_and_a_class_without_images_stays(
    tmp_path, subset, names, numbers
):
    sizes = (40, 10, 1, 30, 4)
    lay_out(
        tmp_path, {p: [[f"{p}{c}/{i}.png", c, f"class {c}"] for c in range(5) for i in range(sizes[c])] for p in PARTS}
    )
    cfg = config(tmp_path, shots=2, subset=subset)
    cfg.DATASET.DRAW = MISSING
    data = datasets.btmri.BTMRI(cfg)
    assert (data.classnames, data.num_classes) == (names, len(names))
    assert [sum(item.label == label for item in data.train_x) for label in range(len(names))] == numbers
    assert names[-1] in data.notes[1] and MISSING in data.notes[0]
