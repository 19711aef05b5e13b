"""Predictions: what is stored is what was predicted, and nothing invalid is written or read."""

import pickle
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import log_softmax, softmax

from ogkd.core import UserError
from ogkd.evaluation.predictions import Predictions

ANY_TEXT = st.text(st.characters(exclude_characters="\0"), max_size=20)  # line breaks, commas, surrogate escapes too
LOGITS = st.one_of(st.integers(-2, 2).map(float), st.floats(width=32, allow_nan=False, allow_infinity=False))


@st.composite
def predictions(draw, max_images: int = 12, max_classes: int = 5) -> Predictions:
    number, classes = draw(st.integers(1, max_images)), draw(st.integers(1, max_classes))
    return Predictions(
        tuple(draw(st.lists(ANY_TEXT, min_size=number, max_size=number))),
        draw(arrays(np.int64, number, elements=st.integers(0, classes - 1))),
        draw(arrays(np.float32, (number, classes), elements=LOGITS)),
        tuple(draw(st.lists(ANY_TEXT, min_size=classes, max_size=classes, unique=True))),
    )


@pytest.fixture
def sound() -> dict:
    return {
        "images": ("a/1.png", "a/2.png", "b/1.png"),
        "labels": np.array([0, 0, 1]),
        "logits": np.array([[2.0, 1.0], [0.5, 0.5], [-1.0, 3.0]]),
        "classnames": ("cyst", "stone"),
    }


def assert_same(one: Predictions, other: Predictions) -> None:
    assert (one.images, one.classnames) == (other.images, other.classnames)
    assert one.labels.tobytes() == other.labels.tobytes()
    assert one.logits.tobytes() == other.logits.tobytes()
    assert one.logits.dtype == np.float32


# In memory


def test_predicted_class_is_the_first_of_equal_logits(sound):
    found = Predictions(**sound)
    assert found.predicted.tolist() == [0, 0, 1]
    assert found.correct.tolist() == [True, True, True]
    assert len(found) == 3
    # The logits decide, also where the probabilities are equal but for rounding.
    assert Predictions(("a",), [0], [[0.0, 1e-30]], ("cyst", "stone")).predicted.tolist() == [1]


@settings(max_examples=40, deadline=None)
@given(predictions())
def test_probabilities_are_the_softmax_in_double_precision(found):
    logits = found.logits.astype(np.float64)
    np.testing.assert_allclose(found.probabilities, softmax(logits, axis=1), rtol=1e-12, atol=0)
    np.testing.assert_allclose(found.log_probabilities, log_softmax(logits, axis=1), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(
        found.confidence, found.probabilities[np.arange(len(found)), found.predicted], rtol=0, atol=0
    )


def test_arrays_are_copies_that_nobody_can_change(sound):
    found = Predictions(**sound)
    sound["logits"][0] = [0.0, 9.0]
    assert found.predicted[0] == 0
    for values in (found.labels, found.logits, found.probabilities, found.log_probabilities):
        with pytest.raises(ValueError, match="read-only"):
            values[0] = 1
    with pytest.raises(AttributeError):
        found.labels = sound["labels"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"images": (), "labels": np.zeros(0, int), "logits": np.zeros((0, 2))}, "the test set is empty"),
        ({"images": ("a", "b")}, "2 images and 2 classes, but labels of shape"),
        ({"labels": np.array([[0, 0, 1]])}, r"labels of shape \(1, 3\)"),
        ({"logits": np.zeros(3)}, r"logits of shape \(3,\)"),
        ({"labels": np.array([0, 2, 1])}, "label of 'a/2.png' is 2, but 2 classes"),
        ({"labels": np.array([0, 0, -1])}, "label of 'b/1.png' is -1"),
        ({"labels": np.array([0.0, 0.0, 1.0])}, "whole numbers, not float64"),
        ({"logits": np.array([[0, 0], [np.nan, 0], [np.inf, 0]])}, "of 2 of 3 images, 'a/2.png' first, are not finite"),
        ({"logits": np.array([[0, 0], [0, 0], [1e39, 0]])}, "'b/1.png' first, are not finite in single precision"),
        ({"logits": np.zeros((3, 2), complex)}, "real numbers, not complex128"),
        ({"classnames": ("cyst", "cyst")}, "class 'cyst' twice"),
        ({"classnames": "ab"}, "class names of predictions must be texts"),
        ({"images": ("a\0", "b", "c")}, "without NUL"),
        ({"images": (1, 2, 3)}, "image paths .* must be texts"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(sound, changes, sentence):
    with pytest.raises(UserError, match=sentence):
        Predictions(**{**sound, **changes})


# On disk


@settings(max_examples=40, deadline=None)
@given(predictions())
def test_a_saved_file_gives_back_every_bit(tmp_path_factory, found):
    path = tmp_path_factory.mktemp("saved") / "predictions.npz"
    found.save(path)
    assert_same(Predictions.load(path), found)


def test_equal_predictions_give_equal_bytes(sound, tmp_path):
    Predictions(**sound).save(tmp_path / "one.npz")
    Predictions.load(tmp_path / "one.npz").save(tmp_path / "new" / "other.npz")
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "new" / "other.npz").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.npz") as archive:  # so the clock is not in it
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "one.npz"]


class Exploit:
    """A pickle that leaves a trace when it is read."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return (open, (self.path, "w"))


@pytest.mark.parametrize("kind", ["array of objects", "plain pickle"])
def test_pickles_are_never_run(sound, tmp_path, kind):
    trace = tmp_path / "trace"
    if kind == "plain pickle":
        (tmp_path / "p.npz").write_bytes(pickle.dumps(Exploit(str(trace))))
    else:
        np.savez(tmp_path / "p.npz", **{**sound, "images": np.array([Exploit(str(trace))] * 3, dtype=object)})
    with pytest.raises(UserError, match=r"p\.npz is corrupt or not a file of predictions"):
        Predictions.load(tmp_path / "p.npz")
    assert not trace.exists()


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"images": None}, "images"),
        ({"images": np.array([b"a", b"b", b"c"])}, "not lists of texts"),
        ({"images": np.array([["a"], ["b"], ["c"]])}, "not lists of texts"),
        ({"logits": np.full((3, 2), np.nan)}, "does not contain valid predictions: .*not finite"),
        ({"labels": np.array([0, 0, 7])}, "does not contain valid predictions: .*is 7"),
    ],
)
def test_unsound_content_is_refused(sound, tmp_path, changes, sentence):
    content = {name: value for name, value in {**sound, **changes}.items() if value is not None}
    np.savez(tmp_path / "p.npz", **content)
    with pytest.raises(UserError, match=sentence):
        Predictions.load(tmp_path / "p.npz")


def test_a_file_that_is_missing_foreign_or_cut_anywhere_is_named(sound, tmp_path):
    path = tmp_path / "p.npz"
    with pytest.raises(UserError, match=r"no file .*p\.npz"):
        Predictions.load(path)
    path.write_bytes(b"\x93NUMPY\x01\x00")
    with pytest.raises(UserError, match=r"p\.npz is corrupt"):
        Predictions.load(path)
    Predictions(**sound).save(path)
    whole = path.read_bytes()
    for end in range(0, len(whole), 31):
        path.write_bytes(whole[:end])
        with pytest.raises(UserError, match=r"p\.npz is corrupt"):
            Predictions.load(path)


def test_a_flipped_byte_never_changes_predictions(sound, tmp_path):
    path, found = tmp_path / "p.npz", Predictions(**sound)
    found.save(path)
    whole = path.read_bytes()
    for place in range(0, len(whole), 3):
        content = bytearray(whole)
        content[place] ^= 1 << place % 8
        path.write_bytes(content)
        try:
            loaded = Predictions.load(path)
        except UserError as error:
            assert "p.npz" in str(error)
        else:  # a byte that nobody reads, such as one of the date
            assert_same(loaded, found)
