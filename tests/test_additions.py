"""What is added in one place works everywhere, tried in a copy of the repository."""

import json
import os
import re
import shutil

import pytest

from ogkd.phantom.dataset import write_dataset
from ogkd.runs.registry import benchmark_methods, method_class
from tests.conftest import ROOT
from tests.support.forked import python

pytestmark = pytest.mark.slow


FORMER = """
import torch.nn.functional as F

from dassl.engine import TRAINER_REGISTRY
from trainers.parts.options import require
from trainers.parts.prompt_tuner import PromptTuner


@TRAINER_REGISTRY.register()
class OldSmooth(PromptTuner):
    title, paper, row = "OldSmooth", "", 86

    @classmethod
    def default_options(cls):
        return {**super().default_options(), "EPSILON": 0.1}

    @classmethod
    def check_options(cls, options):
        super().check_options(options)
        require(options, "EPSILON", least=0, most=1)

    def losses(self, features, label):
        logits = self.scale * features.global_token @ self.text_features().t()
        return {"ce": F.cross_entropy(logits, label, label_smoothing=self.options.EPSILON)}, logits
"""
"""A method as the page of version 0.1 had it."""

FORMER_FEATURES = """
import torch.nn.functional as F
from torch import nn

from dassl.engine import TRAINER_REGISTRY
from trainers.parts.feature_trainer import FeatureTrainer


@TRAINER_REGISTRY.register()
class OldProbe(FeatureTrainer):
    title, paper, row = "OldProbe", "", 87

    def build_method(self):
        self.head = nn.Linear(self.clip_model.embed_dim, len(self.classnames))
        self.learn("probe", self.head)

    def classifier(self):
        return self.head

    def losses(self, inputs, label):
        logits = self.head(inputs.global_token)
        return {"ce": F.cross_entropy(logits, label)}, logits
"""


def left_out(folder, names):
    """What is left out of a copy of the repository: caches, hidden folders and the output of runs."""
    made = {"data", "output", "cache"} if folder == str(ROOT) else set()
    return [name for name in names if name in made or name == "__pycache__" or name.startswith(".")]


@pytest.fixture(scope="module")
def page():
    return (ROOT / "docs" / "own_method.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory, page):
    """A copy of the repository in which docs/own_method.md was followed, with a data set and two plugins added."""
    folder = tmp_path_factory.mktemp("checkout") / "ogkd"
    shutil.copytree(ROOT, folder, ignore=left_out)
    (source,) = re.findall(r"```python\n(.*?)```", page, re.S)
    (name,) = re.findall(r"^`(trainers/\w+\.py)`:", page, re.M)
    (folder / name).write_text(source, encoding="utf-8")

    catalogue = folder / "ogkd" / "data" / "catalogue.json"
    content = json.loads(catalogue.read_text(encoding="utf-8"))
    content["generated"]["Spots"] = {"config": "spots", "modality": "test", "organ": "none", "backbone": "PhantomCLIP"}
    catalogue.write_text(json.dumps(content), encoding="utf-8")
    write_dataset(folder / "data" / "Spots", counts={"train": 3, "val": 1, "test": 2})
    (folder / "data/Spots/Phantom").rename(folder / "data/Spots/Spots")
    (folder / "data/Spots/split_Phantom.json").rename(folder / "data/Spots/split_Spots.json")

    broken = "from trainers.coop import CoOp\nfrom ogkd.tuning.registration import register\n\n\n"
    broken += "@register\nclass HalfMade(CoOp):\n    title = 'Half made'\n\n\nimport nothing_of_that_name\n"
    (folder / "trainers" / "half_made.py").write_text(broken, encoding="utf-8")
    (folder / "trainers" / "old_smooth.py").write_text(FORMER, encoding="utf-8")
    (folder / "plugins" / "old_probe.py").write_text(FORMER_FEATURES, encoding="utf-8")
    (folder / "plugins" / "broken.py").write_text("import nothing_of_that_name\n", encoding="utf-8")
    (folder / "plugins" / "other.py").write_text(
        "from dassl.engine import TRAINER_REGISTRY\nfrom trainers.coop import CoOp\n\n\n"
        "@TRAINER_REGISTRY.register()\nclass Plugged(CoOp):\n    title = 'Plugged CoOp'\n",
        encoding="utf-8",
    )
    return folder


def run(checkout, *words, code=0, **environment):
    done = python(words, checkout, {**os.environ, **environment})
    assert done.returncode == code, done.stdout + done.stderr
    return done


def test_the_pages_method_keeps_every_promise(checkout, page):
    (check,) = re.findall(r'^python -c "(.*)"$', page, re.M)
    run(checkout, "-c", check)


def test_a_broken_file_in_trainers_is_reported_and_stops_its_own_method_alone(checkout):
    done = run(checkout, "train.py", "--trainer", "SmoothCoOp", "--help")
    assert "TRAINER.SMOOTHCOOP.EPSILON" in done.stdout
    assert "trainers/half_made.py is not used" in done.stderr
    assert "SmoothCoOp" in run(checkout, "train.py", "--help").stdout
    words = ["scripts/run.py", "HalfMade", "few_shot", "spots", "1", "1"]
    done = run(checkout, *words, code=2)
    assert re.search(r"HalfMade of trainers/half_made.py cannot be used.*nothing_of_that_name", done.stderr)


def test_the_pages_commands_run_on_a_new_data_set_and_the_method_its_variant_and_a_plugin_have_rows(checkout):
    methods = ["SmoothCoOp", "CoOp", "ZeroShot", "Plugged"]
    words = ["--protocol", "few_shot", "--seeds", "1", "--shots", "1", "--methods", *methods]
    done = run(checkout, "scripts/compare.py", "spots", *words, "--jobs", "1", "OPTIM.MAX_EPOCH", "1")
    rows = [line.split("|")[1].split(",")[0].strip() for line in done.stdout.splitlines() if line.startswith("| ")]
    assert rows == ["method", "Zero-shot", "CoOp", "Plugged CoOp", "SmoothCoOp"]
    assert "plugins/broken.py is not used" in done.stderr
    assert "nothing_of_that_name" in done.stderr
    results = json.loads(next(checkout.glob("output/few_shot/spots/*/ZeroShot/*/seed1/results.json")).read_text())
    assert results["dataset"] == "Spots"  # which only the catalogue knows
    options = ["TRAINER.SMOOTHCOOP.EPSILON", "0.2", "OPTIM.MAX_EPOCH", "1"]
    words = ["scripts/run.py", "SmoothCoOp", "few_shot", "spots", "1", "1", *options]
    run(checkout, *words, OUTPUT="output/epsilon_0.2")
    done = run(checkout, "parse_test_res.py", "output", "--table", "few_shot", "--dataset", "spots")
    assert "| SmoothCoOp, MAX_EPOCH 1 " in done.stdout
    assert "| SmoothCoOp, MAX_EPOCH 1, EPSILON 0.2 " in done.stdout


SEVERAL = """
import sys
from ogkd.cli.run import main
from ogkd.core import run_program
words = ["few_shot", "data/Spots/Spots", "1", "1", "OPTIM.MAX_EPOCH", "1"]
main(["OldSmooth", *words])
main(["OldProbe", *words])
sys.exit(run_program(lambda: main(["OldSmooth", *words, "TRAINER.OLDSMOOTH.EPSILON", "2"])))
"""


def test_a_method_written_by_the_former_page_still_trains(checkout):
    done = run(checkout, "-c", SEVERAL, code=2, BACKBONE="PhantomCLIP")
    assert "| OldSmooth" in done.stdout and "| OldProbe" in done.stdout
    assert "EPSILON is 2" in done.stderr and "Traceback" not in done.stderr


def test_the_tests_of_structure_stay_green_with_the_new_method(checkout):
    words = ["-m", "pytest", "-n", "0", "-q", "tests/runs/test_configs.py", "tests/test_methods.py"]
    run(checkout, *words, "-k", "accepted and SmoothCoOp or order")


def test_what_the_page_names_exists(page):
    for path in re.findall(r"`((?:ogkd|tests)/[\w/]*)(?:\.py)?`", page):
        assert (ROOT / path).is_dir() or (ROOT / f"{path}.py").is_file(), path
    rows = re.findall(r"^\| [^|]+ \| `(\w+)`.* \| (.*) \|$", page, re.M)
    assert {"PromptMethod", "FeatureMethod", "PrototypeMethod", "Method"} <= {base for base, _ in rows}
    known = {kind.__name__: kind for name in benchmark_methods() for kind in method_class(name).__mro__}
    for base, hooks in rows:
        assert all(hasattr(known[base], hook) for hook in {*re.findall(r"`(\w+)`", hooks)} - {"self"}), base
