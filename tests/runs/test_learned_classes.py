"""What was learned for single classes meets them by name, whatever the order, number and spelling of the classes."""

import json
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import tests.toy_trainer  # noqa: F401  registers ToyCoOp
from ogkd.cli import train
from ogkd.core import UserError
from ogkd.core.torchtools import load_checkpoint
from ogkd.data.same_classes import places
from ogkd.evaluation.predictions import Predictions
from ogkd.runs.learned_classes import learned_classes
from ogkd.tuning.registration import register
from trainers.coop import CoOp

HEADS = ("LinearProbe", "TipAdapter", "TipAdapterF", "LPPlusPlus", "CLIPAdapter")
CSC = ("TRAINER.COOP.CSC", "True")


@register
class BiasedCoOp(CoOp):
    """A plugin's method that says nothing of the bias that it learns for each class."""

    def build(self):
        super().build()
        self.bias = nn.Linear(1, len(self.classnames), bias=False)

    def classifier(self):
        of_prompt = super().classifier()
        return lambda features: of_prompt(features) + 1000 * self.bias.weight.t()


def copied(data, place, change):
    """Phantom in `place` with the split that `change` makes of its classes: {class: (position, new name)}."""
    shutil.copytree(data / "Phantom", place / "Phantom", symlinks=True)
    path = place / "Phantom" / "split_Phantom.json"
    split = json.loads(path.read_text())
    names = {label: name for _, label, name in split["train"]}
    new = change([names[label] for label in sorted(names)])
    for part in ("train", "val", "test"):
        split[part] = [[image, *new[name]] for image, _, name in split[part] if name in new]
    path.write_text(json.dumps(split))
    return place


def turned(names):
    return {name: (place, name) for place, name in enumerate(reversed(names))}


def words_of(arguments, method, *more, root, output):
    words = arguments(method, *more, output=output)
    words[words.index("--root") + 1] = str(root)
    return words


def both(arguments, tmp_path, data, method, change, *more):
    """Logits by image and class of a run, and of its test on a data set with other classes."""
    train.main(arguments(method, *more))
    there = copied(data, tmp_path / "data", change)
    words = words_of(arguments, method, *more, root=there, output=tmp_path / "tested")
    results = train.main(["--eval-only", "--model-dir", str(tmp_path / "run"), *words])
    found = []
    for folder in ("run", "tested"):
        of = Predictions.load(tmp_path / folder / "predictions.npz")
        found.append({(image, name): of.logits[i, j] for i, image in enumerate(of.images)
                      for j, name in enumerate(of.classnames)})  # fmt: skip
    return *found, results


@pytest.mark.parametrize(("method", "more"), [(method, ()) for method in HEADS] + [("CoOp", CSC), ("BiasedCoOp", ())])
def test_a_test_with_the_classes_in_another_order_gives_each_the_logit_it_had(arguments, tmp_path, data, method, more):
    mine, theirs, results = both(arguments, tmp_path, data, method, turned, *more)
    assert mine.keys() == theirs.keys()
    assert np.allclose(list(mine.values()), [theirs[key] for key in mine], atol=1e-4)
    assert results["accuracy"] == pytest.approx(json.loads((tmp_path / "run/results.json").read_text())["accuracy"])


@pytest.mark.parametrize("method", ["LinearProbe", "TipAdapter"])
def test_fewer_classes_under_other_spellings_are_found(arguments, tmp_path, data, method):
    def three(names):
        return {name: (place, f" {name.upper()}".replace(" ", "_")) for place, name in enumerate(names[4:1:-1])}

    mine, theirs, results = both(arguments, tmp_path, data, method, three)
    assert len(results["classnames"]) == 3
    for (image, name), value in theirs.items():
        assert value == pytest.approx(mine[image, name.replace("_", " ").strip().lower()], abs=1e-4)


@pytest.mark.parametrize(("method", "more"), [("LinearProbe", ()), ("TipAdapterF", ()), ("CoOp", CSC),
                                              ("BiasedCoOp", ())])  # fmt: skip
def test_what_belongs_to_base_classes_is_refused_on_novel_ones(arguments, tmp_path, method, more):
    train.main(arguments(method, "DATASET.SUBSAMPLE_CLASSES", "base", *more))
    words = arguments(method, "DATASET.SUBSAMPLE_CLASSES", "new", *more, output=tmp_path / "tested")
    with pytest.raises(UserError, match=r"applies only to its classes .* is not one of them"):
        train.main(["--eval-only", "--model-dir", str(tmp_path / "run"), *words])
    assert not (tmp_path / "tested" / "results.json").exists()


def test_a_transfer_goes_by_name_where_the_source_has_changed_its_order(arguments, tmp_path, data):
    train.main(arguments("LinearProbe"))
    there = copied(data, tmp_path / "data", turned)
    target = there / "PhantomShift"
    shutil.copytree(data / "Phantom" / "Phantom", target / "PhantomShift")
    split = json.loads((data / "Phantom" / "split_Phantom.json").read_text())
    three = {part: [[image, label, name.upper()] for image, label, name in split[part] if label < 3]
             for part in ("train", "val", "test")}  # fmt: skip
    (target / "split_PhantomShift.json").write_text(json.dumps(three))
    more = ("DATASET.TEST_ON", "PhantomShift")
    words = words_of(arguments, "LinearProbe", *more, root=there, output=tmp_path / "tested")
    results = train.main(["--eval-only", "--model-dir", str(tmp_path / "run"), *words])
    mine, theirs = (Predictions.load(tmp_path / name / "predictions.npz") for name in ("run", "tested"))
    rows = [mine.images.index(image) for image in theirs.images]
    assert np.allclose(theirs.logits, mine.logits[rows, :3], atol=1e-4)
    assert results["classnames"] == [name.upper() for name in mine.classnames[:3]]


def test_a_test_that_says_other_shots_or_another_seed_than_the_training_is_warned_of(arguments, tmp_path):
    train.main(arguments("CoOp"))
    words = arguments("CoOp", "DATASET.NUM_SHOTS", "1", output=tmp_path / "tested")
    (warning,) = train.main(["--eval-only", "--model-dir", str(tmp_path / "run"), *words])["warnings"]
    assert "DATASET.NUM_SHOTS 2, not 1" in warning and "SEED" not in warning


def test_a_prompt_for_any_class_is_tested_on_novel_ones_as_before(arguments, tmp_path):
    train.main(arguments("CoOp", "DATASET.SUBSAMPLE_CLASSES", "base"))
    words = arguments("CoOp", "DATASET.SUBSAMPLE_CLASSES", "new", output=tmp_path / "tested")
    assert train.main(["--eval-only", "--model-dir", str(tmp_path / "run"), *words])["warnings"] == []


def test_a_renamed_class_is_refused_with_the_name_it_may_have_had(arguments, tmp_path, data):
    def renamed(names):
        return {name: (place, f"{name}s" if place == 2 else name) for place, name in enumerate(names)}

    with pytest.raises(UserError, match=r"is not one of them: if it is '.*', give it that name"):
        both(arguments, tmp_path, data, "LinearProbe", renamed)


def four(names):
    return {name: (place, name) for place, name in enumerate(names[6:2:-1])}


@pytest.mark.parametrize("change", [turned, four])
def test_a_trainer_of_coops_code_base_is_matched_too(arguments, tmp_path, data, change):
    more = ("TRAINER.COOP.N_CTX", "4", "TRAIN.KEEP_CHECKPOINTS", "True")
    train.main(arguments("ToyCoOp", *more))
    there = copied(data, tmp_path / "data", change)
    words = words_of(arguments, "ToyCoOp", *more, root=there, output=tmp_path / "tested")
    train.main(["--eval-only", "--model-dir", str(tmp_path / "run"), "--load-epoch", "3", *words])
    mine, theirs = (Predictions.load(tmp_path / name / "predictions.npz") for name in ("run", "tested"))
    rows, columns = map(mine.images.index, theirs.images), map(mine.classnames.index, theirs.classnames)
    assert np.allclose(theirs.logits, mine.logits[np.ix_([*rows], [*columns])], atol=1e-4)


def without_names(run):
    for path in run.glob("*/model*"):
        content = load_checkpoint(str(path))
        del content["meta"]["classes"]
        torch.save(content, path)


def test_an_older_checkpoint_takes_its_classes_from_the_files_beside_it_or_says_what_it_assumes(arguments, tmp_path):
    results = train.main(arguments("LinearProbe"))
    run, names = tmp_path / "run", tuple(results["classnames"])
    without_names(run)
    for file in ("split.json", "results.json"):
        assert learned_classes(run) == names
        (run / file).unlink()
    assert learned_classes(run) == ()
    words = arguments("LinearProbe", output=tmp_path / "tested")
    again = train.main(["--eval-only", "--model-dir", str(run), *words])
    assert again["accuracy"] == results["accuracy"]
    (warning,) = again["warnings"]
    assert f"does not name its classes, assumed to be the classes {', '.join(names)}" in warning


def test_training_is_not_resumed_with_the_classes_in_another_order(arguments, tmp_path, data):
    train.main(arguments("CoOp", *CSC))
    (tmp_path / "run" / "fingerprints.json").unlink()
    words = words_of(arguments, "CoOp", *CSC, root=copied(data, tmp_path / "data", turned), output=tmp_path / "more")
    with pytest.raises(UserError, match=r"was trained on the classes .* in their order"):
        train.main(["--resume", str(tmp_path / "run"), *words])


NAMES = st.lists(st.text("abAB_ -+é", min_size=1, max_size=4), min_size=1, max_size=6, unique=True)


@given(NAMES, st.randoms())
def test_equal_names_meet_in_any_order_and_no_two_meet_the_same(names, random):
    known = random.sample(names, len(names))
    found = places(names, known)
    assert [known[found[name]] for name in names] == names
    others = places([name.upper() for name in names], known)
    assert len(set(others.values())) == len(others)


def test_spelling_is_case_unicode_form_spaces_and_hyphens_but_no_other_sign():
    known = ("Brain Tumor", "café", "ER+", "ER-", "T-cell")
    assert places(["brain_tumor ", "cafe\u0301", "ER-", "t cell"], known) == {
        "brain_tumor ": 0, "cafe\u0301": 1, "ER-": 3, "t cell": 4}  # fmt: skip
    assert places(["HER+", "er"], known) == {}
    assert places(["a", "A "], ["A"]) == {}
