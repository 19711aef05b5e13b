"""What the pages of version 0.2 import still works, with a DeprecationWarning, and is the same module."""

import pytest

from tests.conftest import ROOT
from tests.support.forked import python

# As in docs/python.md, metrics.md, geometry.md, report.md and drop_in.md of that version.
DOCUMENTED = {
    "geometry": ("ogkd.classes", "costs read_geometry"),
    "runs": ("ogkd.runs", ""),
    "reports": ("ogkd.reports", ""),
    "phantom.dataset": ("ogkd.phantom.dataset", "ensure_dataset"),
    "runs.classifier": ("ogkd.predict.classifier", "PromptClassifier"),
    "runs.predictor": ("ogkd.predict.predictor", "Predictor probabilities"),
    "runs.export": ("ogkd.predict.export", "load_prompt"),
    "runs.protocols": ("ogkd.runs.protocols", "Places job"),
    "runs.config": ("ogkd.runs.config", "method_config"),
    "runs.execute": ("ogkd.runs.execute", "execute"),
    "runs.spec": ("ogkd.runs.spec", "RunSpec"),
    "reports.collect": ("ogkd.evaluation.collect", "collect"),
    "reports.metrics": ("ogkd.evaluation.metrics", "compute"),
    "reports.predictions": ("ogkd.evaluation.predictions", "Predictions"),
    "reports.statistics": ("ogkd.evaluation.statistics", "bootstrap paired_difference"),
    "reports.page": ("ogkd.reports.page", "write"),
    "trainers.parts.prompt_tuner": ("ogkd.tuning.former", "PromptTuner"),
    "trainers.parts.options": ("ogkd.tuning.former", "require"),
    "trainers.parts.feature_trainer": ("ogkd.tuning.former", "FeatureTrainer"),
    "trainers.parts.teacher": ("ogkd.tuning.teacher", "Teacher"),
    "trainers.parts.clip_trainer": ("ogkd.tuning.clip_trainer", "ClipTrainer"),
    "datasets.catalogue": ("ogkd.data.catalogue", "load"),
}
PROGRAM = """
import importlib, sys, warnings
for name, (new, attributes) in {documented!r}.items():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        module = importlib.import_module(name)
    assert any(name in str(one.message) and one.category is DeprecationWarning for one in caught), name
    assert module is importlib.import_module(new), name
    assert all(hasattr(module, attribute) for attribute in attributes.split()), name
import clip
assert callable(clip.load)
"""


@pytest.mark.slow
def test_each_documented_import_is_the_new_module_and_warns():
    program = PROGRAM.format(documented=DOCUMENTED)
    done = python(["-c", program])
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["runs", "datasets"])
def test_a_package_of_the_same_name_elsewhere_stays_its_own(tmp_path, name):
    package = tmp_path / name
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "catalogue.py").write_text("OWN = True\n")
    (package / "spec.py").write_text("OWN = True\n")
    program = f"import ogkd\nfrom {name} import catalogue, spec\nassert catalogue.OWN and spec.OWN"
    done = python(["-c", f"import sys; sys.path.append({str(ROOT)!r})\n{program}"], tmp_path)
    assert done.returncode == 0, done.stderr
