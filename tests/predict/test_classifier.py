"""PromptClassifier: scikit-learn's contract around the trainer that train.py runs."""

from __future__ import annotations

import pickle
import random
from pathlib import Path

import numpy as np
import pytest
import torch
from joblib import parallel_backend
from PIL import Image
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import StratifiedKFold, cross_val_predict, cross_val_score
from sklearn.utils import estimator_checks

from ogkd.cli import train
from ogkd.core import UserError, find_checkpoint, read_json
from ogkd.data.splits import read_split
from ogkd.evaluation.predictions import Predictions
from ogkd.predict.classifier import PromptClassifier
from tests.conftest import ROOT
from tests.support.pictures import phantom_scans

CLASSES = ("smooth mass", "simple cyst", "nodular opacity")
PHANTOM = {"INPUT.RRCROP_SCALE": (0.5, 1.0)}  # as in its configuration file
SHORT = {"OPTIM.MAX_EPOCH": 2, "DATALOADER.NUM_WORKERS": 0}


@pytest.fixture(scope="module")
def own_images(tmp_path_factory) -> Path:
    """A user's own folder: three classes of Phantom's images, ten each."""
    return phantom_scans(tmp_path_factory.mktemp("own"), CLASSES, seed=5, count=10, file="case-{number}.png")


@pytest.fixture(scope="module")
def fitted(listed, cache) -> PromptClassifier:
    """CoOp, fitted to all images; not to be changed."""
    return classifier(cache, method="Co-Op", backbone="phantomclip").fit(*listed)


@pytest.fixture(scope="module")
def listed(own_images) -> tuple[list[str], list[str]]:
    """The paths of all images, and their class names."""
    paths = sorted((own_images / "scans").glob("*/*.png"))
    return [str(path) for path in paths], [path.parent.name.replace("_", " ") for path in paths]


def classifier(cache: Path, **params) -> PromptClassifier:
    defaults = {"method": "CoOp", "backbone": "PhantomCLIP", "shots": 2, **SHORT, "FEATURES.CACHE_DIR": str(cache)}
    return PromptClassifier(**defaults | params)


def learned(estimator: PromptClassifier) -> dict[str, torch.Tensor]:
    return estimator.prompt_.learned["prompt_learner"]


@pytest.mark.parametrize("method", ["OGKD", "CLIPAdapter"])
def test_fit_learns_bit_for_bit_what_train_py_learns(own_images, cache, tmp_path, method):
    pairs = [word for key, value in SHORT.items() for word in (key, str(value))]
    teacher = ["TRAINER.OGKD.PROMPTS", "templates"] if method == "OGKD" else []
    configuration = ROOT / f"configs/trainers/{method}/few_shot/default.yaml"
    train.main([
        *("--root", str(own_images), "--output-dir", str(tmp_path / "run"), "--seed", "3", "--trainer", method),
        *("--backbone", "PhantomCLIP", "--config-file", str(configuration), "DATASET.NAME", "ImageFolder"),
        *("DATASET.FOLDER", "scans", "DATASET.NUM_SHOTS", "2", "FEATURES.CACHE_DIR", str(cache), *pairs, *teacher),
    ])  # fmt: skip
    split = read_split(own_images / "scans" / "split_scans.json")
    images = [str(own_images / "scans" / item.path) for item in split["train"]]
    fitted = classifier(cache, method=method, seed=3).fit(images, [item.classname for item in split["train"]])

    (name,) = fitted.prompt_.learned
    theirs = torch.load(find_checkpoint(tmp_path / "run" / name), weights_only=True)["state_dict"]
    mine = fitted.prompt_.learned[name]
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[key], theirs[key]) for key in mine)
    tested = Predictions.load(tmp_path / "run" / "predictions.npz")
    assert list(fitted.classes_) == list(tested.classnames)
    logits = fitted.predict_logits([own_images / "scans" / image for image in tested.images])
    np.testing.assert_allclose(logits, tested.logits, rtol=1e-4, atol=1e-4)


def test_all_images_in_the_drawn_order_give_the_prompt_of_the_draw(arguments, data, cache, tmp_path):
    train.main(arguments("KgCoOp", method_file=str(ROOT / "configs/trainers/KgCoOp/few_shot/default.yaml")))
    drawn = read_json(tmp_path / "run" / "split.json")["train"]
    order = [name for _, _, name in drawn]
    images = [data / "Phantom" / "Phantom" / path for path, _, _ in drawn]
    same = {"OPTIM.MAX_EPOCH": 3, "DATALOADER.TRAIN_X.BATCH_SIZE": 12}
    fitted = classifier(cache, method="KgCoOp", shots=None, **PHANTOM, **same).fit(images, order)
    theirs = torch.load(find_checkpoint(tmp_path / "run" / "prompt_learner"), weights_only=True)["state_dict"]["ctx"]
    # train.py numbers the classes as the split does, fit by name: the sums of the loss run in another order.
    torch.testing.assert_close(learned(fitted)["ctx"], theirs, rtol=1e-3, atol=1e-4)


def test_images_in_memory_give_what_their_files_give(listed, cache, fitted):
    paths, labels = listed
    pictures = [Image.open(path) for path in paths]
    from_memory = classifier(cache).fit(pictures, labels)
    assert torch.equal(learned(fitted)["ctx"], learned(from_memory)["ctx"])
    assert (fitted.predict_proba(paths[:4]) == from_memory.predict_proba(pictures[:4])).all()


def test_fit_leaves_the_caller_s_random_numbers_and_folder_alone(listed, cache, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    classifier(cache).fit(*listed)
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == states
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr().out == ""


def test_settings_fast_are_those_of_the_commands(listed, cache, fitted, tmp_path):
    fast = classifier(cache, settings="fast").fit(*listed)
    assert not torch.equal(learned(fast)["ctx"], learned(fitted)["ctx"])
    precision = fast.prompt_.config["FEATURES"]["PRECISION"]
    by_hand = {"FEATURES.CROPS": 8, "FEATURES.PRECISION": precision, "FEATURES.PACKED_TEXT": True}
    assert torch.equal(learned(fast)["ctx"], learned(classifier(cache, **by_hand).fit(*listed))["ctx"])
    fast.save(tmp_path / "prompt")
    assert PromptClassifier.load(tmp_path / "prompt").get_params()["settings"] == "fast"


def test_parameters_are_read_set_and_cloned_with_the_options_of_the_method():
    estimator = PromptClassifier(method="OGKD", seed=4, gamma=0.25)
    assert estimator.get_params() == {
        "method": "OGKD", "backbone": "BiomedCLIP", "shots": 16, "seed": 4, "prompts": None,
        "class_names": None, "gamma": 0.25,
    }  # fmt: skip
    copy = clone(estimator)
    assert copy is not estimator and copy.get_params() == estimator.get_params()
    assert copy.set_params(gamma=0.5, seed=5) is copy
    assert (copy.get_params()["gamma"], copy.seed, estimator.get_params()["gamma"]) == (0.5, 5, 0.25)


def test_the_contract_of_a_classifier(listed, cache):
    paths, labels = listed
    estimator = classifier(cache)
    with pytest.raises(NotFittedError):
        estimator.predict(paths)
    assert estimator.fit(paths, labels) is estimator
    assert list(estimator.classes_) == sorted(CLASSES)
    chances = estimator.predict_proba(paths)
    assert chances.shape == (len(paths), len(CLASSES))
    np.testing.assert_allclose(chances.sum(1), 1)
    assert (estimator.predict(paths) == estimator.classes_[chances.argmax(1)]).all()
    assert estimator.score(paths, labels) == np.mean(estimator.predict(paths) == np.array(labels))
    again = pickle.loads(pickle.dumps(estimator))
    assert (again.predict_proba(paths[:3]) == estimator.predict_proba(paths[:3])).all()


def test_it_works_in_cross_validation_and_calibration(listed, cache):
    paths, labels = listed
    scores = cross_val_score(classifier(cache), paths, labels, cv=2)
    assert scores.shape == (2,) and (scores > 1 / len(CLASSES)).all()
    calibrated = CalibratedClassifierCV(classifier(cache), cv=2).fit(paths, labels)
    np.testing.assert_allclose(calibrated.predict_proba(paths[:5]).sum(1), 1)
    assert set(calibrated.predict(paths)) <= set(CLASSES)


@pytest.mark.slow
def test_processes_and_threads_fit_what_this_process_fits(listed, cache):
    paths, labels = listed
    estimator = classifier(cache, **{"DATALOADER.NUM_WORKERS": 2})
    apart = cross_val_score(estimator, paths, labels, cv=2, n_jobs=2, error_score="raise")
    here = cross_val_score(estimator, paths, labels, cv=2)
    assert (apart == here).all()
    with parallel_backend("threading"):
        assert (cross_val_score(classifier(cache), paths, labels, cv=2, n_jobs=2) == here).all()


def test_where_scikit_learn_numbers_the_classes_their_names_are_given(listed, cache):
    paths, labels = listed
    plain, named = classifier(cache), classifier(cache, class_names=sorted(CLASSES))
    chances = cross_val_predict(named, paths, labels, cv=2, method="predict_proba")
    halves = StratifiedKFold(2).split(paths, labels)
    for train_rows, test_rows in halves:
        plain.fit([paths[row] for row in train_rows], [labels[row] for row in train_rows])
        assert (chances[test_rows] == plain.predict_proba([paths[row] for row in test_rows])).all()
    voting = VotingClassifier([("one", named)], voting="soft").fit(paths, labels)
    assert (voting.predict(paths) == clone(plain).fit(paths, labels).predict(paths)).all()


def test_numbers_are_answered_with_numbers_also_when_loaded(listed, cache, tmp_path, fitted):
    paths, labels = listed
    numbers = [10 * CLASSES.index(label) for label in labels]
    names = {10 * number: name for number, name in enumerate(CLASSES)}
    estimator = classifier(cache, class_names=names).fit(paths, numbers)
    words = fitted
    assert estimator.classes_.tolist() == [0, 10, 20]
    assert estimator.prompt_.classnames == CLASSES
    order = [list(CLASSES).index(name) for name in words.classes_]
    np.testing.assert_allclose(estimator.predict_proba(paths)[:, order], words.predict_proba(paths), atol=1e-3)
    assert set(estimator.predict(paths).tolist()) <= {0, 10, 20}
    estimator.save(tmp_path / "saved")
    loaded = PromptClassifier.load(tmp_path / "saved")
    assert loaded.class_names == names
    assert (loaded.predict(paths) == estimator.predict(paths)).all()


def test_one_image_is_answered_as_a_list_of_one(listed, fitted):
    paths, estimator = listed[0], fitted
    expected = estimator.predict(paths[:1])
    column = np.array(paths[:1], dtype=object)[:, None]
    for one in (paths[0], Path(paths[0]), Image.open(paths[0]), column, np.array(paths[:1])):
        assert estimator.predict(one).tolist() == expected.tolist()
    with pytest.raises(UserError, match="no-such"):
        estimator.predict("no-such.png")
    with pytest.raises(UserError, match="fromarray"):
        estimator.predict(np.zeros((8, 8, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    "check",
    [
        estimator_checks.check_estimator_cloneable,
        estimator_checks.check_estimator_repr,
        estimator_checks.check_estimator_tags_renamed,
        estimator_checks.check_valid_tag_types,
        estimator_checks.check_parameters_default_constructible,
        estimator_checks.check_get_params_invariance,
        estimator_checks.check_set_params,
        estimator_checks.check_mixin_order,
    ],
)
def test_scikit_learns_own_checks_that_need_no_numbers_as_images(check):
    check("PromptClassifier", PromptClassifier())


@pytest.mark.parametrize("method", ["OGKD", "ZeroShotEnsemble"])
def test_what_is_saved_is_loaded_with_its_parameters_and_answers(listed, cache, tmp_path, method):
    paths, labels = listed
    prompts = {name: [f"a scan of a {name}.", f"{name} in an image."] for name in CLASSES}
    estimator = classifier(cache, method=method, prompts=prompts).fit(paths, labels)
    estimator.save(tmp_path / "saved")
    loaded = PromptClassifier.load(tmp_path / "saved")
    kept = {name: value for name, value in estimator.get_params().items() if name not in
            ("FEATURES.CACHE_DIR", "DATALOADER.NUM_WORKERS")}  # fmt: skip
    assert loaded.get_params() == kept
    assert (loaded.predict_proba(paths[:5]) == estimator.predict_proba(paths[:5])).all()
    assert loaded.temperature_ == estimator.temperature_


def test_the_sentences_that_are_given_decide_what_the_teacher_says(listed, cache):
    paths, labels = listed
    swapped = {"smooth mass": ["a simple cyst."], "simple cyst": ["a nodular opacity."], "nodular opacity": ["a mass."]}
    general = classifier(cache, method="ZeroShotEnsemble").fit(paths, labels)
    given = classifier(cache, method="ZeroShotEnsemble", prompts=swapped).fit(paths, labels)
    named = {name: [f"a photo of a {name}."] for name in CLASSES}
    template = classifier(cache, method="ZeroShotEnsemble", prompts=named).fit(paths, labels)
    zero_shot = classifier(cache, method="ZeroShot").fit(paths, labels)
    np.testing.assert_allclose(template.predict_logits(paths), zero_shot.predict_logits(paths), rtol=1e-4, atol=1e-4)
    assert given.score(paths, labels) < general.score(paths, labels)


@pytest.mark.parametrize(
    ("params", "labels", "sentence"),
    [
        ({}, [0, 1, 2] * 10, r"The label 0 is not .* give words.* VotingClassifier.*class_names=sorted"),
        ({"class_names": {0: "mass"}}, [0, "cyst"] * 15, "of several types"),
        ({"class_names": ["mass", "cyst"]}, [0, 1] * 15, "not in alphabetical order"),
        ({"class_names": {0: "mass", 1: "mass"}}, [0, 1] * 15, "Several labels have one class name"),
        ({"class_names": ["benign", "malignant"]}, ["mass", "cyst"] * 15, "'mass' is not in class_names"),
        ({}, ["mass"] * 30, "needs two or more"),
        ({}, ["mass", "cyst"], "give each image one label"),
        ({}, ["mass", "nan"] * 15, "missing label"),
        ({}, ["mass", None] * 15, "None is not a class name"),
        ({}, ["mass", "Mass "] * 15, "'mass' and 'Mass ' both give the class"),
        ({}, ["塊", "瘤"] * 15, "have the same prompt"),
        ({"shots": 0}, ["mass", "cyst"] * 15, "shots is 0"),
        ({"shots": "all"}, ["mass", "cyst"] * 15, "shots is 'all'.*None for all"),
        ({"method": "CoOpp"}, ["mass", "cyst"] * 15, "did you mean 'CoOp'"),
        ({"gama": 0.1, "method": "OGKD"}, ["mass", "cyst"] * 15, r"TRAINER\.OGKD\.GAMMA"),
        ({"prompts": {"mass": ["a mass."]}}, ["mass", "cyst"] * 15, "'cyst' has no teacher prompts in prompts"),
        ({"prompts": {"mass": ["a."], "cyst": ["a.", "b."]}}, ["mass", "cyst"] * 15, "needs the same number"),
    ],
)
def test_what_a_caller_can_get_wrong_is_reported_in_one_sentence(listed, cache, params, labels, sentence):
    with pytest.raises(UserError, match=sentence):
        classifier(cache, **params).fit(listed[0], labels)


def test_what_is_not_an_image_is_reported_in_one_sentence(listed, cache):
    paths, labels = listed
    with pytest.raises(UserError, match="a path or a PIL image, not ndarray"):
        classifier(cache).fit([np.zeros((8, 8)), *paths[1:]], labels)
