"""OGKD's distillation terms as an option of every prompt method."""

import pytest
import torch

from ogkd.core import UserError
from ogkd.runs.config import method_config, resolve
from ogkd.runs.spec import RunSpec
from tests.support.check_method import SmallRuns
from tests.support.methods import build
from tests.support.runs import same
from tests.test_methods import PROMPT_METHODS
from tests.test_trainings import BATCHES, CLASSES, PICTURES, SENTENCES, WIDTH, WORDS

STUDENTS = [name for name in PROMPT_METHODS if name != "OGKD"]
COMMON = {"OPTIM__MAX_EPOCH": 3, "OPTIM__LR": 0.05, "DATALOADER__TRAIN_X__BATCH_SIZE": 4}


def made(folder, method, **options):
    folder.mkdir()
    prompted = {"CTX_INIT": "", "TEXT_DROPOUT": 0.0} if method != "VPT" else {}
    return build(method, folder, CLASSES, WORDS, SENTENCES, WIDTH, **COMMON, **prompted, **options)


@pytest.mark.parametrize("graph", ["text", "uniform"])
def test_coop_with_ogkds_terms_learns_what_ogkd_learns_without_consistency_to_the_digit(tmp_path, graph):
    common = {"TRAINER__OGKD__GAMMA": 0.3, "TRAINER__OGKD__LAMBDA_LGD": 2.0, "TRAINER__OGKD__GRAPH": graph}
    ogkd = made(tmp_path / "ogkd", "OGKD", LAMBDA_SCCM=0.0, **common)
    coop = made(tmp_path / "coop", "CoOp", DISTIL="ogkd", **common)
    with torch.no_grad():
        coop.learned["ctx"].copy_(ogkd.learned["ctx"])
    for built in (ogkd, coop):
        built.train(BATCHES)
    assert same(ogkd.learned, coop.learned)
    terms, mine = ogkd.losses(*BATCHES[0])[0], coop.losses(*BATCHES[0])[0]
    assert set(mine) == {"ce", "gad", "lgd"}
    assert all(torch.equal(terms[name], value) for name, value in mine.items())


def test_a_run_of_coop_with_ogkds_terms_is_that_of_ogkd_and_says_what_it_added(tmp_path, data, cache):
    runs = SmallRuns("OGKD", tmp_path, data, cache)
    pairs = ("TRAINER.OGKD.GAMMA", "0.9", "OPTIM.LR", "0.01", "OPTIM.MAX_EPOCH", "2")
    runs.run("ogkd", *pairs, "TRAINER.OGKD.LAMBDA_SCCM", "0.0", "TRAINER.OGKD.TEXT_DROPOUT", "0.0")
    coop = runs.run("coop", *pairs, "TRAINER.COOP.DISTIL", "ogkd", method="CoOp")
    assert same(runs.learned("ogkd"), runs.learned("coop"))
    added = {key: value for key, value in coop["changed"].items() if key.startswith("TRAINER")}
    assert added == {"TRAINER.COOP.DISTIL": "ogkd", "TRAINER.OGKD.GAMMA": 0.9}
    assert coop["fingerprints"]["sentences"]
    before = (tmp_path / "coop/results.json").stat().st_mtime_ns
    runs.run("coop", *pairs, "TRAINER.COOP.DISTIL", "ogkd", method="CoOp")
    assert (tmp_path / "coop/results.json").stat().st_mtime_ns == before
    with pytest.raises(UserError, match="GAMMA"):
        runs.run("coop", "OPTIM.LR", "0.01", "TRAINER.COOP.DISTIL", "ogkd", method="CoOp")


@pytest.mark.parametrize("method", STUDENTS)
def test_every_prompt_method_takes_the_terms(tmp_path, method):
    terms, learned = [], []
    for folder, distil in (("off", "none"), ("on", "ogkd")):
        built = made(tmp_path / folder, method, DISTIL=distil, **({"OPTIM__NAME": "sgd"} if method == "TCP" else {}))
        batches = BATCHES if built.method.frozen_images else PICTURES
        built.train(batches)
        terms.append(set(built.losses(*batches[0])[0]))
        learned.append(built.learned)
    assert terms[1] - terms[0] == {"gad", "lgd"}
    assert not same(*learned)


@pytest.mark.parametrize("protocol", ["base2new", "few_shot"])
@pytest.mark.parametrize("dataset", ["btmri", "phantom"])
def test_the_terms_have_the_values_of_ogkds_own_runs(protocol, dataset):
    classes = {"subsample": "base"} if protocol == "base2new" else {}
    options = []
    for method, pairs in (("OGKD", ()), ("PromptSRC", ("TRAINER.PROMPTSRC.DISTIL", "ogkd"))):
        file = method_config(method, protocol, dataset)
        spec = RunSpec(method, "run", dataset, backbone="PhantomCLIP", method_file=file, pairs=pairs, **classes)
        options.append(resolve(spec).complete())
    ogkd, other = (one.cfg.TRAINER for one in options)
    assert other.OGKD == ogkd.OGKD
    assert options[1].changed == {"TRAINER.PROMPTSRC.DISTIL": "ogkd"}


def test_options_of_the_terms_have_ranges():
    spec = RunSpec("CoOp", "run", "phantom", pairs=("TRAINER.COOP.DISTIL", "ogkd", "TRAINER.OGKD.GAMMA", "2"))
    from trainers.coop import CoOp

    with pytest.raises(UserError, match="GAMMA"):
        CoOp.check_cfg(resolve(spec).cfg)
