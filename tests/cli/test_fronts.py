"""What a user types and reads first: method names in any case, demo.sh's arguments, the top of a log, threads."""

import contextlib
import json
import os
import shlex
import shutil
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ogkd.cli import COMMANDS, entry, train
from ogkd.core import UserError
from ogkd.core.places import command as command_line
from ogkd.evaluation.collect import unfinished
from ogkd.evaluation.methods import known_methods, named
from ogkd.runs.config import build_config
from ogkd.runs.execute import threads_for
from ogkd.runs.spec import RunSpec
from scripts.generate import script_folder
from tests.conftest import ROOT
from tests.report_runs import random_predictions, write_run


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@given(st.sampled_from(sorted(known_methods())), st.integers(0, 2), st.randoms())
def test_a_method_is_named_by_its_class_title_or_script_folder_in_any_case(name, which, random):
    title = known_methods()[name].title
    word = (name, title, script_folder(title))[which]
    assert named("".join(random.choice((letter.lower(), letter.upper())) for letter in word)) == name


@pytest.mark.parametrize(
    "words",
    [
        ["scripts/compare.py", "Phantom", "--seeds", "1"],
        ["scripts/reproduce.py", "base2new", "--datasets", "PHANTOM", "phantom", "--seeds", "1"],
        ["scripts/transfer.py", "Phantom:PHANTOM", "--seeds", "1"],
    ],
    ids=lambda words: words[0],
)
def test_programs_take_methods_and_data_sets_in_any_case_and_each_once(command, data, tmp_path, words):
    more = ["--methods", "linear_probe", "coop", "CoOp", "--dry-run"]
    env = {"DATA": str(data), "OUTPUT": str(tmp_path / "output"), "BACKBONE": "phantomclip"}
    done = command([*words, *more], env)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if "--trainer" in line]
    assert len(lines) == len(set(lines))
    assert {line.split("--trainer ")[1].split()[0] for line in lines} == {"LinearProbe", "CoOp"}
    assert all("configs/datasets/phantom.yaml" in line and "--backbone PhantomCLIP " in line for line in lines)


MISSPELT = {
    "scripts/compare.py": ["phantom", "--methods", "CoOp", "linear_prob"],
    "scripts/reproduce.py": ["few_shot", "--datasets", "phantom", "--methods", "CoOp", "linear_prob"],
    "scripts/transfer.py": ["phantom:phantom_shift", "--methods", "CoOp", "linear_prob"],
    "scripts/run.py": ["linear_prob", "few_shot", "phantom", "2", "1"],
    "train.py": ["--trainer", "linear_prob", "--output-dir", "nowhere"],
}


@pytest.mark.parametrize("program", MISSPELT)
def test_a_method_that_there_is_not_is_refused_before_anything_starts(command, data, tmp_path, program):
    done = command([program, *MISSPELT[program]], {"DATA": str(data), "OUTPUT": str(tmp_path / "output")})
    assert done.returncode == 2
    assert "'linear_prob' (did you mean 'LinearProbe'?)" in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "output").exists()


def test_a_data_set_and_a_backbone_that_there_are_not_are_refused_with_the_nearest(command, data, tmp_path):
    env = {"DATA": str(data), "OUTPUT": str(tmp_path / "output")}
    done = command(["scripts/compare.py", "phantm", "--methods", "CoOp"], env)
    assert (done.returncode, "'phantm' (did you mean 'phantom'?)" in done.stderr) == (2, True)
    done = command(["scripts/compare.py", "phantom", "--methods", "CoOp", "--backbone", "biomed-clp"], env)
    assert (done.returncode, "\"biomed-clp\" (did you mean 'BiomedCLIP'?)" in done.stderr) == (2, True)
    for word, near in (("busbra2", "busbra"), ("BiomedCLP", "BiomedCLIP")):
        done = command(["scripts/download.py", word], env)
        assert (done.returncode, f"(did you mean '{near}'?)" in done.stderr) == (2, True)
    assert not (tmp_path / "output").exists()


def test_a_configuration_file_may_name_the_method(arguments, tmp_path):
    file = tmp_path / "probe.yaml"
    file.write_text("TRAINER:\n  NAME: linear_probe\nMODEL:\n  BACKBONE:\n    NAME: phantomclip\n")
    words = arguments("", method_file=str(file))
    words[words.index("--backbone") + 1] = ""
    cfg = build_config(RunSpec.parse(words))
    assert (cfg.TRAINER.NAME, cfg.MODEL.BACKBONE.NAME) == ("LinearProbe", "PhantomCLIP")
    cfg = build_config(RunSpec.parse(arguments("CoOp", "TRAINER.NAME", "tip-adapter-f")))
    assert cfg.TRAINER.NAME == "TipAdapterF"


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="a shell script")
def test_the_demo_passes_its_arguments_on(data, tmp_path):
    env = os.environ | {"DATA": str(data), "OUTPUT": str(tmp_path / "output"), "OMP_NUM_THREADS": "1"}
    env["VIRTUAL_ENV"] = sys.prefix  # without one, the script makes one
    words = ["bash", str(ROOT / "scripts/demo.sh"), "--methods", "coop", "--dry-run"]
    done = subprocess.run(words, env=env, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    trainers = {line.split("--trainer ")[1].split()[0] for line in done.stdout.splitlines() if "--trainer" in line}
    assert trainers == {"CoOp"}


def test_own_images_without_sentences_have_general_ones_if_no_method_is_named(command, data, cache, tmp_path):
    for name in ("smooth_mass", "simple_cyst"):
        shutil.copytree(data / "Phantom" / "Phantom" / name, tmp_path / "moles" / name)
    words = ["few_shot", str(tmp_path / "moles"), "2", "1", "OPTIM.MAX_EPOCH", "1", "FEATURES.CACHE_DIR", str(cache)]
    done = command(["scripts/run.py", *words], env={"OUTPUT": str(tmp_path / "out"), "BACKBONE": "PhantomCLIP"})
    assert done.returncode == 0, done.stderr
    assert "use general ones (TRAINER.OGKD.PROMPTS templates)" in done.stdout
    (results,) = (tmp_path / "out").rglob("results.json")
    assert json.loads(results.read_text())["changed"]["TRAINER.OGKD.PROMPTS"] == "templates"
    typo = command(["scripts/run.py", "few-shot", "mols", "2", "1"], env={"DATA": str(tmp_path)})
    assert typo.returncode == 2 and "did you mean 'moles'" in typo.stderr and "general" not in typo.stdout


def test_compare_gives_every_teacher_general_sentences_or_those_of_a_bank(command, data, tmp_path):
    for name in ("smooth_mass", "simple_cyst"):
        shutil.copytree(data / "Phantom" / "Phantom" / name, tmp_path / "my moles" / name)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "my moles.json").write_text('{"smooth_mass": ["x"], "simple_cyst": ["y"]}')
    words = ["--methods", "coop", "OGKD", "BiomedCoOp", "--protocol", "few-shot", "--seeds", "1", "--dry-run"]
    for more, expected in (([], "PROMPTS templates"), (["--bank", str(tmp_path / "mine")], "PROMPT_BANK")):
        done = command(["scripts/compare.py", str(tmp_path / "my moles"), *words, *more])
        assert done.returncode == 0, done.stderr
        for method in ("OGKD", "BiomedCoOp"):
            (line,) = [line for line in done.stdout.splitlines() if f"--trainer {method} " in line]
            assert f"TRAINER.{method.upper()}.{expected}" in line
        assert ("general ones" in done.stderr) == (not more)


def test_a_refused_run_is_no_unfinished_one(arguments, tmp_path):
    with pytest.raises(UserError, match=r"TRAINER\.BIOMEDCOOP\.PROMPTS"):
        train.main(arguments("BiomedCoOp", "TRAINER.BIOMEDCOOP.PROMPT_BANK", f"{tmp_path}/none"))
    assert "no teacher prompts" in (tmp_path / "run" / "log.txt").read_text()
    assert unfinished(tmp_path) == []


def test_commands_that_are_printed_can_be_pasted():
    assert shlex.split(command_line("tune", "my moles", "--trials", 8))[-3:] == ["my moles", "--trials", "8"]


@pytest.mark.parametrize("words", [["16", "1"], ["all", "1"], ["16", "1", "OPTIM.MAX_EPOCH", "1"]])
def test_base2new_says_that_it_takes_no_shots(command, words):
    done = command(["scripts/run.py", "CoOp", "base2new", "phantom", *words])
    assert done.returncode == 2
    assert done.stderr.startswith("error: base2new takes no SHOTS")
    assert done.stderr.count("\n") == 1


def test_a_run_of_phantomclip_uses_one_thread_records_it_and_says_first_what_was_chosen(
    command, arguments, tmp_path, two_threads
):
    done = command(["train.py", *arguments("ZeroShot", "DATASET.SUBSAMPLE_CLASSES", "base")])
    assert done.returncode == 0, done.stderr
    assert torch.get_num_threads() == 2
    assert json.loads((tmp_path / "run/results.json").read_text())["threads"] == 1
    log = (tmp_path / "run/log.txt").read_text()
    top = log.partition("\n\n")[0].splitlines()
    assert top[:6] == [
        "Method: ZeroShot",
        "Data: Phantom, base classes",
        "Shots: 2",
        "Seed: 1",
        "Backbone: PhantomCLIP",
        "Threads: 1",
    ]
    changed = json.loads((tmp_path / "run/results.json").read_text())["changed"]
    assert top[6] == "Changed: " + ", ".join(f"{key} {value}" for key, value in changed.items())
    assert changed["OPTIM.MAX_EPOCH"] == 3
    assert top[7:] == [f"Configuration: {tmp_path / 'run/config.yaml'}"]
    assert (tmp_path / "run/config.yaml").is_file()


def test_other_backbones_keep_the_number_of_threads(two_threads):
    with threads_for("BiomedCLIP"):
        assert torch.get_num_threads() == 2
    with pytest.raises(ZeroDivisionError), threads_for("/models/phantomclip"):
        assert torch.get_num_threads() == 1
        1 / 0  # noqa: B018
    assert torch.get_num_threads() == 2


@pytest.fixture
def finished(tmp_path):
    """The folder of finished runs of two methods."""
    labels = [0, 1, 2] * 4
    images = [f"{number}.png" for number in range(len(labels))]
    for method in ("CoOp", "LinearProbe"):
        predictions = random_predictions(images, labels, ("a", "b", "c"), 2, len(method))
        write_run(tmp_path / "output" / method, "few_shot", method, 1, predictions, 4)
    return str(tmp_path / "output")


@pytest.mark.parametrize(
    "words",
    [
        ["--table", "few_shot", "--method", "linear_probe", "--dataset", "PHANTOM", "--backbone", "phantomclip"],
        ["--table", "few_shot", "--against", "LINEAR-PROBE"],
        ["--claims", "linear probe"],
    ],
    ids=lambda words: words[-2],
)
def test_tables_take_names_in_any_case(command, finished, words):
    done = command(["parse_test_res.py", finished, *words])
    assert done.returncode == 0, done.stderr
    assert "Linear probe" in done.stdout


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (["parse_test_res.py", "--table", "few_shot", "--method", "linear_prob"], "LinearProbe"),
        (["parse_test_res.py", "--table", "few_shot", "--against", "linear_prob"], "LinearProbe"),
        (["parse_test_res.py", "--claims", "linear_prob"], "LinearProbe"),
        (["parse_test_res.py", "--table", "few_shot", "--dataset", "phantm"], "phantom"),
        (["parse_test_res.py", "--table", "few_shot", "--backbone", "phantomclp"], "PhantomCLIP"),
        (["report.py", "--methods", "linear_prob"], "LinearProbe"),
    ],
)
def test_what_no_run_has_is_refused_with_the_nearest(command, finished, words, near):
    done = command([words[0], finished, *words[1:]])
    assert done.returncode == 2
    assert f"(did you mean '{near}'?)" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["ogkd"])
    with contextlib.suppress(SystemExit):
        assert entry([name, "--help"]) == 0
    out, err = capsys.readouterr()
    assert "usage: " in out or f"ogkd {name} " in out
    assert err == ""


def test_a_word_that_is_no_command_is_refused(capsys):
    assert entry(["few-shots", "moles", "16", "1"]) == 2
    assert "no command 'few-shots'" in capsys.readouterr().err


@pytest.mark.parametrize(("words", "method"), [((), "OGKD"), (("--method", "coop"), "CoOp")])
def test_a_protocols_command_takes_the_method_as_an_option(data, tmp_path, monkeypatch, capsys, words, method):
    monkeypatch.setattr("sys.argv", ["ogkd"])
    monkeypatch.setenv("DATA", str(data))
    monkeypatch.setenv("OUTPUT", str(tmp_path / "a file"))
    (tmp_path / "a file").touch()
    assert entry(["few-shot", "phantom", "2", "1", *words]) == 2
    assert f"shots_2/{method}/PhantomCLIP" in capsys.readouterr().err


def test_the_demo_is_three_methods_on_phantom(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["ogkd"])
    monkeypatch.setenv("DATA", str(data))
    monkeypatch.setenv("OUTPUT", str(tmp_path))
    assert entry(["demo", "--dry-run"]) == 0
    trained = [line.split("--trainer ")[1].split()[0] for line in capsys.readouterr().out.splitlines()]
    assert list(dict.fromkeys(trained)) == ["ZeroShot", "CoOp", "OGKD"]
