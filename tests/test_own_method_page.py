"""The example of docs/own_method.md runs as it is printed there."""

import re

import pytest

import train
from dassl.engine import TRAINER_REGISTRY
from tests.conftest import ROOT


@pytest.fixture
def page():
    return (ROOT / "docs" / "own_method.md").read_text()


def test_the_example_of_the_page_trains_and_tests(page, arguments, tmp_path):
    (source,) = re.findall(r"```python\n(.*?)```", page, re.S)
    (config,) = re.findall(r"```yaml\n(.*?)```", page, re.S)
    (tmp_path / "default.yaml").write_text(config)
    exec(compile(source, "docs/own_method.md", "exec"), {"__name__": "smooth_coop"})
    try:
        words = arguments("SmoothCoOp", "TRAINER.SMOOTHCOOP.EPSILON", "0.2", method_file=str(tmp_path / "default.yaml"))
        results = train.main(words)
        assert results["config"]["TRAINER"]["SMOOTHCOOP"]["EPSILON"] == 0.2
        assert results["config"]["OPTIM"]["LR"] == 0.002
        assert (tmp_path / "run" / "prompt_learner" / "model.pth.tar-3").is_file()
    finally:
        TRAINER_REGISTRY._obj_map.pop("SmoothCoOp")


def test_what_the_page_names_exists(page):
    for module, name in re.findall(r"`((?:trainers|dassl)\.[\w.]+)\.(\w+)`", page):
        assert hasattr(__import__(module, fromlist=[name]), name)
