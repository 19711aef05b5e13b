"""Sentences on what a user can fix."""

import pytest

from ogkd.core import did_you_mean
from ogkd.core.errors import cause_of
from ogkd.models.errors import ModelError
from ogkd.models.weights import read


def test_only_a_similar_name_is_suggested():
    assert did_you_mean("biomedclp", ["BiomedCLIP", "PLIP"]) == " (did you mean 'BiomedCLIP'?)"
    assert did_you_mean("foo", ["macro_auroc", "CheXzero"]) == did_you_mean("", ["x"]) == did_you_mean("x", []) == ""


def test_an_error_of_a_half_written_file_names_the_folder():
    sentence = cause_of(PermissionError(13, "Permission denied", "answers/.a.csv.host-1-0123abcd.part"))
    assert "(answers)" in sentence and ".part" not in sentence


def test_a_text_is_no_weights_file(tmp_path):
    (tmp_path / "notes.pt").write_text("hello\n")
    with pytest.raises(ModelError, match="something other than tensors"):
        read(tmp_path / "notes.pt")
