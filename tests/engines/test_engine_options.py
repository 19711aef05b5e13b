"""The options of the engines, what a dry run prints, and run folders that are brought back."""

import argparse
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ogkd.core import UserError
from ogkd.core.places import work_folder
from ogkd.runs.engines import go_through
from ogkd.runs.engines.options import add_options, minutes, settings_of
from ogkd.runs.engines.ray_cluster import files_of, write
from ogkd.runs.engines.report import attempt
from ogkd.runs.spec import RunSpec
from tests.conftest import ROOT
from tests.support.jobs import completed, scripted


def test_what_is_brought_back_is_the_run_with_its_results_last(tmp_path):
    job = completed(scripted("A", "work", tmp_path))
    (folder,) = job.folders()
    (folder / "prompt_learner").mkdir()
    (folder / "prompt_learner" / "model.pth.tar-3").write_bytes(b"\0\1")
    for name in ("val_predictions.npz", ".lock"):
        (folder / name).touch()
    files = files_of(job, work_folder())
    shutil.rmtree(folder)
    write(files)
    assert not job.waiting()
    assert {path.name for path in folder.rglob("*.*")} == {"model.pth.tar-3", "results.json", "val_predictions.npz"}
    assert (folder / "prompt_learner" / "model.pth.tar-3").read_bytes() == b"\0\1"
    assert Path([*files][-1]).name == "results.json"


def test_a_job_on_a_node_has_the_threads_and_starts_from_the_folder_of_the_settings(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    try:
        assert attempt(scripted("A", "work", tmp_path), 2, str(tmp_path)).scores == "71.4 %"
        assert (Path.cwd(), torch.get_num_threads()) == (tmp_path, 2)
    finally:
        torch.set_num_threads(1)


# Options


def settings(*words: str):
    parser = argparse.ArgumentParser()
    add_options(parser)
    return settings_of(parser.parse_args(words), "BiomedCLIP", ROOT)


@given(st.integers(0, 20), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_a_time_limit_is_read_as_slurm_reads_it(days, hours, mins, seconds):
    total = ((days * 24 + hours) * 60 + mins) * 60 + seconds
    if total:
        assert minutes(f"{days}-{hours:02}:{mins:02}:{seconds:02}") == -(-total // 60)
    for text in (f"{days + 1}-{hours}", f"{days + 1}-{hours}:00", f"{(days + 1) * 24 + hours}:00:00"):
        assert minutes(text) == ((days + 1) * 24 + hours) * 60
    assert minutes(f"{mins + 1}") == minutes(f"{mins + 1}:00") == mins + 1


@pytest.mark.parametrize("text", ["", "0", "soon", "1:2:3:4", "-5", "1-", "0-00:00:00", "1-2:3:4:5"])
def test_what_is_no_time_limit_is_an_error(text):
    with pytest.raises(UserError, match="time must be"):
        minutes(text)


@pytest.mark.parametrize("text", ["-1", "1.5", "1e999", "one"])
def test_gpus_are_a_share_or_whole_ones(text):
    with pytest.raises(UserError, match=r"gpus is .* must be"):
        settings("--engine", "ray", "--engine-options", f"gpus={text}")
    assert settings("--engine", "ray", "--engine-options", "gpus=0.25").gpus == 0.25
    with pytest.raises(UserError, match=r"whole number on Slurm, not 0\.5"):
        settings("--engine", "slurm", "--engine-options", "gpus=0.5")


@pytest.mark.parametrize(("engine", "option"), [("ray", "mem=8G"), ("slurm", "bring_back=yes"), ("local", "cpus=2")])
def test_an_option_of_another_engine_is_an_error(engine, option):
    with pytest.raises(UserError, match=f"{option.partition('=')[0]} is no option of --engine {engine}"):
        settings("--engine", engine, "--engine-options", option)


@pytest.mark.parametrize("text", ["cpus", "=4"])
def test_an_option_without_key_or_value_is_an_error(text):
    with pytest.raises(UserError, match="KEY=VALUE"):
        settings("--engine", "ray", "--engine-options", text)


def test_the_flags_of_version_0_2_mean_the_options():
    former = shlex.split("--cpus 4 --gpus=1 --mem 8G --time 2:00:00 --sbatch account=lab --partition a")
    options = ["cpus=4", "gpus=1", "mem=8G", "time=2:00:00", "account=lab", "partition=a"]
    assert settings("--engine", "slurm", *former) == settings("--engine", "slurm", "--engine-options", *options)
    former = ["--address", "auto", "--bring-back", "--retries", "0"]
    options = ["address=auto", "bring_back=yes", "retries=0"]
    assert settings("--engine", "ray", *former) == settings("--engine", "ray", "--engine-options", *options)


@pytest.mark.parametrize(("engine", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_an_engine_without_its_package_says_how_to_install_it(tmp_path, monkeypatch, engine, package):
    monkeypatch.setitem(sys.modules, package, None)  # Python's way to say that it cannot be imported
    with pytest.raises(UserError, match=rf"--engine {engine} needs .*: pip install .*\[cluster\]"):
        go_through([scripted("A", "work", tmp_path)], settings("--engine", engine))


def test_a_dry_run_prints_the_command_of_each_run_that_is_left_and_starts_none(command, data, tmp_path):
    words = shlex.split("few_shot --datasets phantom --methods CoOp --seeds 1 2 --shots 2 --dry-run --engine ray")
    done = command(["scripts/reproduce.py", *words], env={"DATA": str(data), "OUTPUT": str(tmp_path / "out")})
    assert done.returncode == 0
    specs = [RunSpec.parse(shlex.split(line)[2:]) for line in done.stdout.splitlines()]
    assert [(spec.method, spec.shots, spec.seed) for spec in specs] == [("CoOp", 2, 1), ("CoOp", 2, 2)]
    assert done.stderr == "2 of 2 runs to do, 0 complete\n"
    assert not (tmp_path / "out").exists()
