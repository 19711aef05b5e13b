"""What every method promises (tests/support/check_method.py), and the facts about the methods here."""

import pytest

from ogkd.core.config_files import configs_in
from ogkd.runs.registry import benchmark_methods, method_class
from tests.conftest import ROOT
from tests.support.check_method import CHECKS, SmallRuns

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

    return of


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_every_method_keeps_the_promise_that(small_runs, method, check):
    check(small_runs(method))


def test_the_methods_stand_in_the_order_of_the_tables():
    assert [name for name in METHODS if name in PUBLISHED] == PUBLISHED


@pytest.mark.parametrize("method", PUBLISHED)
def test_a_method_says_its_title_and_its_paper(method):
    facts = vars(method_class(method))
    assert facts["title"]
    assert isinstance(facts["row"], int)


@pytest.mark.parametrize("method", HEADLESS)
def test_a_method_without_a_head_for_novel_classes_says_so_and_prints_no_number(command, data, cache, tmp_path, method):
    env = {"DATA": str(data), "OUTPUT": str(tmp_path / "output")}
    pairs = ["FEATURES.CACHE_DIR", str(cache), "OPTIM.MAX_EPOCH", "1"]
    done = command(["scripts/run.py", method, "base2new", "phantom", "1", *pairs], env)
    assert done.returncode == 0, done.stderr
    assert "no head for novel" in done.stdout
    assert method_class(method).has_novel_head is False
    assert not (tmp_path / "output/base2new/test_new").exists()


def test_class_specific_contexts_make_a_run_headless_and_not_its_class(command, data, cache, tmp_path):
    env = {"DATA": str(data), "OUTPUT": str(tmp_path / "output")}
    pairs = ["FEATURES.CACHE_DIR", str(cache), "OPTIM.MAX_EPOCH", "1", "TRAINER.COOP.CSC", "True"]
    done = command(["scripts/run.py", "CoOp", "base2new", "phantom", "1", *pairs], env)
    assert "no head for novel" in done.stdout
    assert method_class("CoOp").has_novel_head is True
    done = command(["scripts/run.py", "CoOp", "base2new", "phantom", "1", *pairs], env)
    assert "is complete" in done.stdout


@pytest.mark.parametrize("method", PUBLISHED)
@pytest.mark.parametrize("protocol", ["base2new", "few_shot"])
def test_there_is_a_script_and_a_configuration_for_each_protocol(method, protocol):
    assert "default" in configs_in(ROOT / "configs/trainers" / method / protocol)
    scripts = [path for path in (ROOT / "scripts").glob(f"*/{protocol}.sh") if f" {method} " in path.read_text()]
    assert len(scripts) == 1
