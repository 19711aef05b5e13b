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

HEADS = ("LinearProbe", "TipAdapter", "TipAdapterF", "LPPlusPlus", "GDA", "CLAP", "SSTextPlus")
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


@pytest.fixture(scope="module")
def folders():
    """The folder of each training, by its words."""
    return {}


@pytest.fixture
def trained(arguments, folders, tmp_path_factory):
    """The folder of a training that the tests share, and must not change: trained(method, *pairs)."""

    def of(*words):
        if words not in folders:
            folders[words] = tmp_path_factory.mktemp(words[0])
            train.main(arguments(*words, output=folders[words]))
        return folders[words]

    return of


@pytest.fixture
def tested(trained, arguments, data, tmp_path):
    """Test a training in the folder "tested", on Phantom with other classes if `change` says which: the results."""

    def of(method, *more, change=None, learned=None, options=()):
        words = arguments(method, *more, output=tmp_path / "tested")
        if change:
            words[words.index("--root") + 1] = str(copied(data, tmp_path / "data", change))
        return train.main(["--eval-only", "--model-dir", str(learned or trained(method, *more)), *options, *words])

    return of


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


def logits_of(folder):
    """The logits of a run's test by image and class."""
    of = Predictions.load(folder / "predictions.npz")
    return {(image, name): of.logits[i, j] for i, image in enumerate(of.images) for j, name in enumerate(of.classnames)}


@pytest.mark.parametrize(("method", "more"), [(method, ()) for method in HEADS] + [("CoOp", CSC), ("BiasedCoOp", ())])
def test_a_test_with_the_classes_in_another_order_gives_each_the_logit_it_had(trained, tested, tmp_path, method, more):
    results = tested(method, *more, change=turned)
    mine, theirs = logits_of(trained(method, *more)), logits_of(tmp_path / "tested")
    assert mine.keys() == theirs.keys()
    assert np.allclose(list(mine.values()), [theirs[key] for key in mine], atol=1e-4)
    before = json.loads((trained(method, *more) / "results.json").read_text())
    assert results["accuracy"] == pytest.approx(before["accuracy"])


@pytest.mark.parametrize("method", ["LinearProbe", "TipAdapter"])
def test_fewer_classes_under_other_spellings_are_found(trained, tested, tmp_path, method):
    def three(names):
        return {name: (place, f" {name.upper()}".replace(" ", "_")) for place, name in enumerate(names[4:1:-1])}

    assert len(tested(method, change=three)["classnames"]) == 3
    mine = logits_of(trained(method))
    for (image, name), value in logits_of(tmp_path / "tested").items():
        assert value == pytest.approx(mine[image, name.replace("_", " ").strip().lower()], abs=1e-4)


BASE, NOVEL = (("DATASET.SUBSAMPLE_CLASSES", subset) for subset in ("base", "new"))


@pytest.mark.parametrize(("method", "more"), [("LinearProbe", ()), ("CoOp", CSC), ("BiasedCoOp", ())])
def test_what_belongs_to_base_classes_is_refused_on_novel_ones(trained, tested, tmp_path, method, more):
    with pytest.raises(UserError, match=r"applies only to its classes .* is not one of them"):
        tested(method, *more, *NOVEL, learned=trained(method, *more, *BASE))
    assert not (tmp_path / "tested" / "results.json").exists()


def test_a_transfer_goes_by_name_where_the_source_has_changed_its_order(trained, tested, tmp_path, data):
    target = tmp_path / "data" / "PhantomShift"
    shutil.copytree(data / "Phantom" / "Phantom", target / "PhantomShift")
    split = json.loads((data / "Phantom" / "split_Phantom.json").read_text())
    three = {part: [[image, label, name.upper()] for image, label, name in split[part] if label < 3]
             for part in ("train", "val", "test")}  # fmt: skip
    (target / "split_PhantomShift.json").write_text(json.dumps(three))
    more = ("DATASET.TEST_ON", "PhantomShift")
    results = tested("LinearProbe", *more, change=turned, learned=trained("LinearProbe"))
    mine, theirs = logits_of(trained("LinearProbe")), logits_of(tmp_path / "tested")
    assert np.allclose([mine[image, name.lower()] for image, name in theirs], list(theirs.values()), atol=1e-4)
    assert results["classnames"] == list(dict.fromkeys(name.upper() for _, name in mine))[:3]


def test_a_test_that_says_other_shots_or_another_seed_than_the_training_is_warned_of(trained, tested):
    (warning,) = tested("CoOp", "DATASET.NUM_SHOTS", "1", learned=trained("CoOp", *BASE))["warnings"]
    assert "DATASET.NUM_SHOTS 2, not 1" in warning and "SEED" not in warning


def test_a_prompt_for_any_class_is_tested_on_novel_ones_without_a_warning(trained, tested):
    assert tested("CoOp", *NOVEL, learned=trained("CoOp", *BASE))["warnings"] == []


def test_a_renamed_class_is_refused_with_the_name_it_may_have_had(tested):
    def renamed(names):
        return {name: (place, f"{name}s" if place == 2 else name) for place, name in enumerate(names)}

    with pytest.raises(UserError, match=r"is not one of them: if it is '.*', give it that name"):
        tested("LinearProbe", change=renamed)


def four(names):
    return {name: (place, name) for place, name in enumerate(names[6:2:-1])}


@pytest.mark.parametrize("change", [turned, four])
def test_a_trainer_of_coops_code_base_is_matched_too(trained, tested, tmp_path, change):
    more = ("TRAINER.COOP.N_CTX", "4", "TRAIN.KEEP_CHECKPOINTS", "True")
    tested("ToyCoOp", *more, change=change, options=("--load-epoch", "3"))
    mine, theirs = logits_of(trained("ToyCoOp", *more)), logits_of(tmp_path / "tested")
    assert np.allclose([mine[key] for key in theirs], list(theirs.values()), atol=1e-4)


def test_an_older_checkpoint_takes_its_classes_from_the_files_beside_it_or_says_what_it_assumes(
    trained, tested, tmp_path
):
    run = shutil.copytree(trained("LinearProbe"), tmp_path / "older")
    results = json.loads((run / "results.json").read_text())
    names = tuple(results["classnames"])
    for path in run.glob("*/model*"):
        content = load_checkpoint(str(path))
        del content["meta"]["classes"]
        torch.save(content, path)
    for file in ("split.json", "results.json"):
        assert learned_classes(run) == names
        (run / file).unlink()
    assert learned_classes(run) == ()
    again = tested("LinearProbe", learned=run)
    assert again["accuracy"] == results["accuracy"]
    (warning,) = again["warnings"]
    assert f"does not name its classes, assumed to be the classes {', '.join(names)}" in warning


def test_training_is_not_resumed_with_the_classes_in_another_order(trained, arguments, tmp_path, data):
    run = shutil.copytree(trained("CoOp", *CSC), tmp_path / "older")
    (run / "fingerprints.json").unlink()
    words = arguments("CoOp", *CSC, output=tmp_path / "more")
    words[words.index("--root") + 1] = str(copied(data, tmp_path / "data", turned))
    with pytest.raises(UserError, match=r"was trained on the classes .* in their order"):
        train.main(["--resume", str(run), *words])


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
