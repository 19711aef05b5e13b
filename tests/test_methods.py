"""What every method promises, run through train.py on a small Phantom data set."""

import os
import signal
import sys
import traceback

import pytest
import torch

import train
from dassl.engine import TRAINER_REGISTRY
from dassl.utils import UserError
from runs.protocols import benchmark_methods, method_config
from tests.conftest import ROOT

METHODS = benchmark_methods()
LEARNING = [name for name in METHODS if name not in ("ZeroShot", "ZeroShotEnsemble")]
PROMPT_METHODS = ["CoOp", "CoCoOp", "KgCoOp", "ProGrad", "MaPLe", "BiomedCoOp", "OGKD"]
HEADLESS = ["CLIPAdapter", "TipAdapter", "TipAdapterF", "LinearProbe", "LPPlusPlus"]
AT_ONCE = ["TipAdapter", "LinearProbe"]  # whose run is one epoch, so there is no second one to be killed in


def configured(arguments, method, *more, output=None):
    """train.py's arguments for a short run of a method with its published configuration."""
    file = str(method_config(method, "few_shot", "phantom"))
    return arguments(method, "DATALOADER.TRAIN_X.BATCH_SIZE", "4", *more, output=output, method_file=file)


def learned(folder):
    """All learned tensors of a run folder's newest checkpoints, by name."""
    states = {}
    for path in sorted(folder.glob("*/model.pth.tar-*")):
        for name, value in torch.load(path, weights_only=True)["state_dict"].items():
            states[f"{path.parent.name}.{name}"] = value
    return states


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def killed_at(words, text):
    """Run train.py in a copy of this process, which is killed (SIGKILL) as soon as it prints `text`."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:

        class Fuse:
            def write(self, printed):
                if text in printed:
                    os.kill(os.getpid(), signal.SIGKILL)

            def flush(self): ...

            def isatty(self):
                return False

        try:
            sys.stdout = Fuse()
            train.main(words)
        except BaseException:
            traceback.print_exc()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert os.WTERMSIG(status) == signal.SIGKILL


def test_all_the_published_baselines_are_there():
    assert sorted(METHODS) == sorted([*PROMPT_METHODS, *HEADLESS, "ZeroShot", "ZeroShotEnsemble"])


@pytest.mark.parametrize("method", METHODS)
def test_a_run_ends_with_a_sound_result(arguments, method):
    results = train.main(configured(arguments, method))
    assert results["method"] == method
    assert 0 <= results["accuracy"] <= 100
    assert sum(map(sum, results["confusion_matrix"])) == results["num_test"] == 48
    assert all(phase["seconds"] >= 0 for phase in results["phases"].values())


@pytest.mark.parametrize("method", LEARNING)
def test_the_same_seed_gives_the_same_parameters_and_another_seed_gives_others(arguments, tmp_path, method):
    for name in ("first", "second"):
        train.main(configured(arguments, method, output=tmp_path / name))
    assert learned(tmp_path / "first")
    assert same(learned(tmp_path / "first"), learned(tmp_path / "second"))
    words = configured(arguments, method, output=tmp_path / "other")
    words[words.index("--seed") + 1] = "2"
    train.main(words)
    assert not same(learned(tmp_path / "first"), learned(tmp_path / "other"))


@pytest.mark.parametrize("method", [name for name in LEARNING if name not in AT_ONCE])
def test_a_killed_run_ends_with_the_same_parameters_after_resuming(arguments, tmp_path, method):
    torch.set_num_threads(1)
    train.main(configured(arguments, method, output=tmp_path / "whole"))
    words = configured(arguments, method, "TRAIN.PRINT_FREQ", "1", output=tmp_path / "broken")
    killed_at(words, "epoch [2/3] batch [1/")
    assert not (tmp_path / "broken" / "results.json").exists()
    train.main(words)
    assert "Resuming after epoch 1" in (tmp_path / "broken" / "log.txt").read_text()
    assert same(learned(tmp_path / "whole"), learned(tmp_path / "broken"))


@pytest.mark.parametrize("method", LEARNING)
def test_a_checkpoint_of_another_method_is_refused_by_name(arguments, tmp_path, method):
    other = "CoOp" if method != "CoOp" else "OGKD"
    train.main(configured(arguments, other, output=tmp_path / other))
    words = configured(arguments, method, output=tmp_path / "test")
    at = words.index("--trainer")
    with pytest.raises(UserError, match=rf"{other}|no checkpoint"):
        train.main([*words[:at], "--eval-only", "--model-dir", str(tmp_path / other), *words[at:]])


@pytest.mark.parametrize("method", LEARNING)
def test_the_parameters_tested_again_give_the_same_result(arguments, tmp_path, method):
    first = train.main(configured(arguments, method, output=tmp_path / "run"))
    words = configured(arguments, method, output=tmp_path / "again")
    at = words.index("--trainer")
    again = train.main([*words[:at], "--eval-only", "--model-dir", str(tmp_path / "run"), *words[at:]])
    assert again["accuracy"] == first["accuracy"]
    assert again["confusion_matrix"] == first["confusion_matrix"]


@pytest.mark.parametrize("method", PROMPT_METHODS)
@pytest.mark.parametrize("csc", ["False", "True"])
@pytest.mark.parametrize("position", ["front", "middle"])
def test_prompts_train_with_every_class_position_and_class_specific_contexts(arguments, method, position, csc):
    node = f"TRAINER.{method.upper()}"
    pairs = (f"{node}.CLASS_TOKEN_POSITION", position, f"{node}.CSC", csc, "OPTIM.MAX_EPOCH", "1")
    assert train.main(configured(arguments, method, *pairs))["novel"] == (csc == "False")


@pytest.mark.parametrize("method", HEADLESS)
def test_a_method_without_a_head_for_novel_classes_says_so_and_prints_no_number(command, data, cache, tmp_path, method):
    env = {"DATA": str(data), "OUTPUT": str(tmp_path / "output")}
    pairs = ["FEATURES.CACHE_DIR", str(cache), "OPTIM.MAX_EPOCH", "1"]
    done = command(["scripts/run.py", method, "base2new", "phantom", "1", *pairs], env)
    assert done.returncode == 0, done.stderr
    assert "no head for novel" in done.stdout
    assert TRAINER_REGISTRY.get(method).has_novel_head is False
    assert not (tmp_path / "output/base2new/test_new").exists()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("protocol", ["base2new", "few_shot"])
def test_there_is_a_script_and_a_configuration_for_each_protocol(method, protocol):
    assert (ROOT / "configs/trainers" / method / protocol / "default.yaml").is_file()
    scripts = [path for path in (ROOT / "scripts").glob(f"*/{protocol}.sh") if f" {method} " in path.read_text()]
    assert len(scripts) == 1
