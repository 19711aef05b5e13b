"""The examples of docs/python.md run in order, as a reader would paste them."""

import re

import pytest

from ogkd.phantom.dataset import write_dataset
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

PAGE = ROOT / "docs" / "python.md"


def blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A working directory that already has a small draw of Phantom."""
    folder = tmp_path_factory.mktemp("python-page")
    write_dataset(folder / "data" / "Phantom", counts={"train": 3, "val": 1, "test": 2})
    return folder


def test_the_examples_run_in_order(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    names = {}
    for number, block in enumerate(blocks(), 1):
        exec(compile(block, f"{PAGE.name}, example {number}", "exec"), names)
    printed = capsys.readouterr().out
    assert names["base"].command() in printed
    assert "CoOb" in printed and "CoOp" in printed  # the error names what was meant

    assert set(names["predictions"].classnames) == {*names["frame"].columns} - {"label", "predicted"}
    assert len(names["mistakes"]) == (~names["predictions"].correct).sum()
    by_run = {(row["method"], row["test"]): row["accuracy"] for _, row in names["table"].iterrows()}
    assert by_run["CoOp", "train_base"] == names["results"][0]["accuracy"]
    assert by_run["CoOp", "test_new"] == names["results"][1]["accuracy"]
    assert ("KgCoOp", "few_shot") in by_run
    assert names["calibrated"].sum(1) == pytest.approx(1)


def test_every_example_of_the_page_is_among_them():
    assert PAGE.read_text(encoding="utf-8").count("```") == 2 * len(blocks())
