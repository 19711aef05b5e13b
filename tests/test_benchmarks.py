"""The mutations of the benchmarks: caught, restored, and their texts where they are."""

import pytest

from benchmarks import mutations
from ogkd.core import UserError


@pytest.fixture
def checkout(tmp_path):
    """A checkout of one method and its one test."""
    for name, text in {
        "trainers/moved/half.py": "def half(x):\n    return x / 2  # of x\n",
        "tests/test_half.py": "from trainers.moved.half import half\n\ndef test_half():\n    assert half(4) == 2\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize(("new", "survives"), [("x / 3", False), ("0.5 * x", True)])
def test_a_mutation_is_caught_if_a_test_fails_and_leaves_the_code_as_it_was(checkout, new, survives):
    before = (checkout / "trainers/moved/half.py").read_text()
    mutation = mutations.Mutation("half.py", ("test_half.py",), "x / 2", new, "another share")
    assert mutations.survives(mutation, checkout) == survives
    assert (checkout / "trainers/moved/half.py").read_text() == before


@pytest.mark.parametrize("file", ["half.py", "renamed.py"])
def test_a_mutation_finds_its_text_in_a_file_that_has_moved_or_another_name(checkout, file):
    mutation = mutations.Mutation(file, (), "x / 2", "x / 3", "another share")
    assert mutation.place(checkout) == checkout / "trainers/moved/half.py"


@pytest.mark.parametrize("old", ["x / 4", "x"])  # not there, there twice
def test_a_mutation_of_a_text_that_is_not_there_once_is_an_error(checkout, old):
    with pytest.raises(UserError, match=r"half\.py"):
        mutations.survives(mutations.Mutation("half.py", ("test_half.py",), old, "y", "nothing"), checkout)
