"""What every method promises (tests/support/check_method.py), and the facts about the methods here."""

import pytest

from ogkd.core.config_files import configs_in
from ogkd.runs.registry import benchmark_methods, method_class
from tests.conftest import ROOT
from tests.support.check_method import CHECKS, SmallRuns
from tests.support.methods import small_resnet

pytestmark = pytest.mark.slow

METHODS = benchmark_methods()
PROMPT_METHODS = [
    "CoOp", "CoCoOp", "KgCoOp", "ProGrad", "TCP",
    "MaPLe", "VPT", "IVLP", "PromptSRC",
    "BiomedCoOp", "BiomedDPT", "OGKD",
]  # fmt: skip
HEADLESS = [
    "CLIPAdapter", "TipAdapter", "TipAdapterF", "ResNet18", "LinearProbe", "LPPlusPlus",
    "ZSLP", "CLAP", "SSText", "SSTextPlus",
]  # fmt: skip
AT_ONCE = [
    "TipAdapter",
    "LinearProbe",
    "GDA",
    "SSText",
    "SSTextPlus",
]  # whose run is one epoch, so there is no second one to be killed in
PUBLISHED = [
    "ZeroShot",
    "ZeroShotEnsemble",
    *HEADLESS[:6],
    "GDA",
    *HEADLESS[6:],
    "ProLIP",
    "CLIPLoRA",
    "CLIPSVD",
    "EviSteer",
    *PROMPT_METHODS,
]


@pytest.fixture(scope="module")
def small_runs(tmp_path_factory, data, cache):
    """Short runs by method, shared by its checks."""
    made = {}

    def of(method):
        if method not in made:
            made[method] = SmallRuns(method, tmp_path_factory.mktemp(method), data, cache)
        return made[method]

    with small_resnet():
        yield of


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_every_method_keeps_the_promise_that(small_runs, method, check):
    check(small_runs(method))


def test_the_methods_stand_in_the_order_of_the_tables():
    assert [name for name in METHODS if name in PUBLISHED] == PUBLISHED


def test_a_method_says_its_title_its_row_and_whether_it_has_a_head_for_novel_classes():
    facts = {method: vars(method_class(method)) for method in PUBLISHED}
    assert all(fact["title"] and isinstance(fact["row"], int) for fact in facts.values())
    assert [method for method in METHODS if not method_class(method).has_novel_head] == HEADLESS


def test_class_specific_contexts_make_a_run_headless_and_not_its_class(command, data, cache, tmp_path):
    env = {"DATA": str(data), "OUTPUT": str(tmp_path / "output")}
    pairs = ["FEATURES.CACHE_DIR", str(cache), "OPTIM.MAX_EPOCH", "1", "TRAINER.COOP.CSC", "True"]
    done = command(["scripts/run.py", "CoOp", "base2new", "phantom", "1", *pairs], env)
    assert "no head for novel" in done.stdout
    assert not (tmp_path / "output/base2new/test_new").exists()
    done = command(["scripts/run.py", "CoOp", "base2new", "phantom", "1", *pairs], env)
    assert "is complete" in done.stdout


@pytest.mark.parametrize("protocol", ["base2new", "few_shot"])
def test_there_is_a_script_and_a_configuration_for_each_protocol(protocol):
    scripts = [path.read_text() for path in (ROOT / "scripts").glob(f"*/{protocol}.sh")]
    for method in PUBLISHED:
        assert "default" in configs_in(ROOT / "configs/trainers" / method / protocol)
        assert sum(f" {method} " in script for script in scripts) == 1, method
