"""One description of a run: its command is complete, and parsing the command gives the same run."""

import shlex
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ogkd.core import UserError
from ogkd.data.catalogue import own_folder
from ogkd.runs.config import method_config, resolve
from ogkd.runs.protocols import Places, job
from ogkd.runs.spec import RunSpec, is_name

words = st.text(st.characters(codec="utf-8", exclude_categories=("C",)), min_size=1, max_size=12).filter(
    lambda text: not text.startswith("-") and text.strip() == text
)
names = words.filter(lambda text: not text.startswith("configs") and is_name(text) and own_folder(text) == text)
pairs = st.lists(st.tuples(st.sampled_from(["OPTIM.LR", "TRAINER.OGKD.GAMMA", "X.Y"]), words), max_size=3)
specs = st.builds(
    RunSpec,
    method=words,
    folder=words,
    dataset=st.one_of(st.sampled_from(["", "phantom", "btmri"]), names),
    shots=st.one_of(st.none(), st.integers(-1, 100)),
    subsample=st.sampled_from(["", "all", "base", "new"]),
    seed=st.integers(-1, 2**40),
    backbone=st.one_of(st.just(""), words),
    data=st.one_of(st.just(""), words),
    method_file=st.one_of(st.just(""), words),
    pairs=pairs.map(lambda found: tuple(word for pair in found for word in pair)),
    eval_only=st.booleans(),
    model_dir=st.one_of(st.just(""), words),
    load_epoch=st.one_of(st.none(), st.integers(0, 100)),
    no_train=st.booleans(),
    resume=st.one_of(st.just(""), words),
    transforms=st.lists(words, max_size=2).map(tuple),
    rerun=st.booleans(),
)


@given(specs)
def test_a_runs_command_describes_exactly_that_run(spec):
    assert RunSpec.parse(spec.arguments()) == spec
    program, script, *arguments = shlex.split(spec.command())
    assert (program, script) == ("python", "train.py")
    assert RunSpec.parse(arguments) == spec


@given(specs)
def test_starting_afresh_is_in_a_runs_command_and_makes_it_no_other_run(spec):
    assert RunSpec.parse(spec.arguments()).rerun == spec.rerun
    assert replace(spec, rerun=True) == replace(spec, rerun=False)


@pytest.mark.parametrize("protocol", ["base2new", "few_shot"])
@pytest.mark.parametrize("method", ["ZeroShot", "OGKD", "LinearProbe"])
def test_a_protocols_runs_have_the_same_configuration_when_their_commands_are_parsed(protocol, method, tmp_path):
    places = Places(data=tmp_path / "data", output=tmp_path / "output")
    for spec in job(protocol, method, "phantom", 16, 1, places, ["OPTIM.MAX_EPOCH", "3"]).specs:
        assert resolve(RunSpec.parse(spec.arguments())).cfg == resolve(spec).cfg


def test_a_backbone_as_a_pair_of_a_protocol_is_refused(tmp_path):
    with pytest.raises(UserError, match="BACKBONE=NAME"):
        job("few_shot", "CoOp", "phantom", 16, 1, Places(tmp_path, tmp_path), ["MODEL.BACKBONE.NAME", "PhantomCLIP"])


def test_base_to_novel_tests_novel_classes_only_with_what_can_name_them(tmp_path):
    places = Places(data=tmp_path, output=tmp_path)
    assert len(job("base2new", "CoOp", "phantom", 16, 1, places).specs) == 2
    assert len(job("base2new", "CoOp", "phantom", 16, 1, places, ["TRAINER.COOP.CSC", "True"]).specs) == 1
    assert len(job("base2new", "LinearProbe", "phantom", 16, 1, places).specs) == 1


def test_a_data_sets_yaml_is_recognised_by_any_path_to_it():
    from tests.conftest import ROOT

    for path in ("configs/datasets/phantom.yaml", str(ROOT / "configs/datasets/phantom.yaml")):
        assert RunSpec.parse(["--dataset-config-file", path]).dataset == "phantom"
    assert RunSpec.parse(["--dataset-config-file", "other/phantom.yaml"]).dataset_file == "other/phantom.yaml"


def test_a_yaml_in_the_current_folder_is_that_of_the_checkout_there(tmp_path, monkeypatch):
    path = "configs/datasets/phantom.yaml"
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).write_text("DATASET:\n  NAME: Theirs\n")
    monkeypatch.chdir(tmp_path)
    assert RunSpec.parse(["--dataset-config-file", path]).dataset_file == path


def changed(*pairs, method="OGKD", file=None):
    file = method_config(method, "few_shot", "phantom") if file is None else file
    spec = RunSpec(method, "x", "phantom", backbone="PhantomCLIP", method_file=file, pairs=pairs)
    return resolve(spec).complete().changed


def test_a_run_says_what_its_user_changed():
    assert changed() == {}
    assert changed("DATASET.NUM_SHOTS", "4", "FEATURES.CACHE_DIR", "", "TRAIN.PRINT_FREQ", "1") == {}
    assert changed("TRAINER.OGKD.GAMMA", "0.6", "OPTIM.LR", "0.0025") == {"TRAINER.OGKD.GAMMA": 0.6}
    assert changed("INPUT.SIZE", "(96, 96)") == {"INPUT.SIZE": [96, 96]}


def test_a_run_without_its_methods_file_says_what_is_missing(tmp_path):
    (tmp_path / "own.yaml").write_text("OPTIM:\n  LR: 0.5\n")
    assert changed(method="CoOp", file=str(tmp_path / "own.yaml"))["OPTIM.LR"] == 0.5
