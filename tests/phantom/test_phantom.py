"""The embedded data sets and model: the same everywhere, small, and of the promised shape."""

import hashlib
import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from ogkd import models
from ogkd.cli import train
from ogkd.core import UserError
from ogkd.phantom import png
from ogkd.phantom.dataset import DATASETS, draw_class, ensure_dataset, write_dataset
from ogkd.phantom.findings import CLASSES, GRADES, GROUPS
from ogkd.phantom.images import MODALITIES, draw_with_mask
from ogkd.prompts.bank import FOLDER, read_bank
from ogkd.prompts.check import check_bank
from ogkd.prompts.token_counts import tower_of
from phantom.captions import LOOKALIKES, LOOKS, caption, loosely
from phantom.corpus import FINDINGS
from phantom.image_stage import new_trunk
from phantom.pretrain import build, write_model, write_tokenizer
from phantom.sentences import FORMS, compose
from tests.conftest import ROOT

COUNTS = {"train": 2, "val": 1, "test": 1}


def fingerprint(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("name", DATASETS)
def test_the_same_seed_draws_the_same_bytes_and_another_seed_draws_others(name, tmp_path):
    for folder, seed in (("one", 0), ("two", 0), ("other", 1)):
        write_dataset(tmp_path / folder, seed, COUNTS, name)
    one, two, other = (fingerprint(tmp_path / folder) for folder in ("one", "two", "other"))
    assert one == two
    assert len(one) == 4 * len(DATASETS[name].classes) + 1
    images = [file for file in one if file.endswith(".png")]
    assert all(one[file] != other[file] for file in images)
    assert len({one[file] for file in images}) == len(images)


def test_the_shift_has_the_classes_of_phantom_and_other_images():
    assert DATASETS["phantom_shift"].classes == DATASETS["phantom"].classes
    images, shifted = (
        np.stack([image for label in range(4) for image, _ in draw_class(name, label, 0, 4)])
        for name in ("phantom", "phantom_shift")
    )
    assert not any((one == other).all() for one in images for other in shifted)
    assert shifted.mean() > images.mean() + 10  # greys: its gain is higher


def test_a_higher_grade_takes_more_of_the_organ():
    sizes = [
        np.mean([mask.mean() for _, mask in draw_class("phantom_grades", grade, 0, 12)]) for grade in range(len(GRADES))
    ]
    assert sizes == sorted(sizes) and sizes[0] == 0
    assert len(set(sizes)) == len(GRADES)


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_mask_marks_a_part_of_the_image_that_holds_the_finding(modality):
    for number, finding in enumerate(CLASSES):
        image, mask = draw_with_mask(np.random.default_rng(number), finding, modality)
        assert image.dtype == np.uint8 and image.shape[:2] == mask.shape == (96, 96)
        assert 0 < mask.mean() < 0.6


@settings(max_examples=30, deadline=None)
@given(arrays(np.uint8, st.one_of(array_shapes(min_dims=2, max_dims=2, max_side=300), st.just((150, 170, 3)))))
def test_any_image_comes_back_from_its_png(image):
    with Image.open(io.BytesIO(png.encode(image))) as opened:
        opened.load()
        assert np.array_equal(np.asarray(opened), image)


@pytest.mark.slow
def test_a_data_set_is_made_once_and_another_draw_does_not_pass_for_it(tmp_path, capsys):
    folder = ensure_dataset(tmp_path, 3, "phantom_grades")
    assert ensure_dataset(tmp_path, 3, "phantom_grades") == folder == tmp_path / "PhantomGrades"
    assert ensure_dataset(tmp_path, name="phantom_grades") == folder
    assert capsys.readouterr().out.count("Making") == 1
    with pytest.raises(UserError, match=r"seed 3, not 0"):
        ensure_dataset(tmp_path, 0, "phantom_grades")
    with pytest.raises(UserError, match=r"'phantoms'.*phantom_shift"):
        ensure_dataset(tmp_path, 0, "phantoms")
    assert [path.name for path in tmp_path.iterdir()] == ["PhantomGrades"]


@pytest.mark.parametrize("name", DATASETS)
def test_the_sentences_pass_the_checker_and_are_what_the_program_composes(name):
    data = DATASETS[name]
    bank = read_bank(FOLDER / f"{data.folder}.json")
    assert check_bank(bank, data.classes, [tower_of("PhantomCLIP")]).faults == []
    first = data.classes[0]
    assert bank[first] == compose(first, FORMS[data.folder], 0)


def test_no_sentence_is_a_caption():
    rng = np.random.default_rng(0)
    captions = {caption(rng, finding, kind) for finding in FINDINGS for kind in MODALITIES for _ in range(50)}
    banks = [json.loads((FOLDER / f"{data.folder}.json").read_text()) for data in DATASETS.values()]
    assert not captions & {line.lower() for bank in banks for lines in bank.values() for line in lines}


def test_no_look_gives_a_name_away():
    named = {word for finding in CLASSES for word in finding.split()} - {"simple"}
    for finding in CLASSES:
        assert not named & {word for look in LOOKS[finding] for word in look.split()}


@given(st.sampled_from(FINDINGS), st.integers(0, 2**32))
def test_a_loose_name_is_anothers_of_the_group_or_the_lookalikes(finding, seed):
    name = loosely(np.random.default_rng(seed), finding)
    assert name != finding
    if finding in GRADES:
        assert abs(GRADES.index(name) - GRADES.index(finding)) == 1
    else:
        assert GROUPS[name] == GROUPS[finding] or name == LOOKALIKES[finding]


def test_the_pre_training_writes_a_folder_that_loads_with_the_shipped_tokenizer(tmp_path):
    write_tokenizer(tmp_path)
    write_model(build(new_trunk(0), 0), tmp_path)
    shipped = ROOT / "ogkd/models/phantomclip"
    assert models.load(tmp_path).tokenizer.words() == (shipped / "vocab.txt").read_text().splitlines()
    assert (tmp_path / "tokenizer.json").read_bytes() == (shipped / "tokenizer.json").read_bytes()
    assert sum(path.stat().st_size for path in shipped.iterdir()) < 6e6


@pytest.mark.slow
def test_zero_shot_lies_between_chance_and_perfection(arguments, tmp_path):
    write_dataset(tmp_path / "Phantom", counts={"train": 2, "val": 1, "test": 20})
    words = arguments("ZeroShot")
    words[words.index("--root") + 1] = str(tmp_path)
    assert 30 <= train.main(words)["accuracy"] <= 60
