"""What a user types and reads first: method names in any case, demo.sh's arguments, the top of a log, threads."""

import json
import os
import subprocess

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dassl.utils import UserError
from reports.methods import known_methods, named
from runs.execute import threads_for
from runs.protocols import Places, job
from tests.conftest import ROOT


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@given(st.sampled_from(sorted(known_methods())), st.booleans(), st.randoms())
def test_a_method_is_named_by_its_class_or_title_in_any_case(name, by_title, random):
    word = known_methods()[name].title if by_title else name
    assert named("".join(random.choice((letter.lower(), letter.upper())) for letter in word)) == name


def test_a_word_that_names_no_method_stays_and_is_refused(data):
    assert named("ogkdd") == "ogkdd"
    with pytest.raises(UserError, match="ogkdd"):
        job("base2new", "ogkdd", "phantom", 16, 1, Places(data=data))


def test_jobs_and_their_folders_do_not_depend_on_how_a_method_is_spelled(data):
    places = Places(data=data)
    assert job("base2new", "coop", "phantom", 16, 1, places) == job("base2new", "CoOp", "phantom", 16, 1, places)


@pytest.mark.parametrize(
    "words",
    [
        ["scripts/compare.py", "phantom", "--methods", "ogkd", "coop", "--seeds", "1", "--dry-run"],
        ["scripts/reproduce.py", "base2new", "--datasets", "phantom", "--methods", "ogkd", "coop", "--dry-run"],
    ],
    ids=lambda words: words[0],
)
def test_programs_take_methods_in_any_case(command, data, tmp_path, words):
    done = command(words, {"DATA": str(data), "OUTPUT": str(tmp_path / "output")})
    assert done.returncode == 0, done.stderr
    assert "--trainer OGKD " in done.stdout
    assert "--trainer CoOp " in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="a shell script")
def test_the_demo_passes_its_arguments_on(data, tmp_path):
    env = os.environ | {"DATA": str(data), "OUTPUT": str(tmp_path / "output"), "OMP_NUM_THREADS": "1"}
    words = ["bash", str(ROOT / "scripts/demo.sh"), "--methods", "coop", "--dry-run"]
    done = subprocess.run(words, env=env, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    trainers = {line.split("--trainer ")[1].split()[0] for line in done.stdout.splitlines() if "--trainer" in line}
    assert trainers == {"CoOp"}


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


def test_tables_take_methods_in_any_case(command, arguments, tmp_path):
    assert command(["train.py", *arguments("ZeroShot")]).returncode == 0
    done = command(["parse_test_res.py", str(tmp_path), "--table", "few_shot", "--method", "zeroshot"])
    assert done.returncode == 0, done.stderr
    assert "Zero-shot" in done.stdout
