"""Jobs run with the commands of their runs, as cluster engines run them, and the options of the engines."""

import argparse
import os
import pickle
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ogkd.core import UserError
from ogkd.runs.engines import go_through
from ogkd.runs.engines.command import do
from ogkd.runs.engines.options import add_options, minutes, settings_of
from ogkd.runs.engines.ray_cluster import files_of, write
from ogkd.runs.spec import RunSpec
from tests.conftest import ROOT
from tests.support.jobs import phantom_job, processes_of, trains
from tests.support.runs import learned, same

pytestmark = pytest.mark.slow

LONG = ("OPTIM.MAX_EPOCH", "5000")


def wait_for(condition, seconds: float = 120) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and kills processes")
class TestKilled:
    def test_a_run_that_is_killed_by_a_signal_is_begun_again_and_ends_with_the_same_bits(self, data, cache, tmp_path):
        many = ("OPTIM.MAX_EPOCH", "30")
        whole, broken = (phantom_job("CoOp", data, tmp_path / name, cache, many) for name in ("whole", "broken"))
        whole()
        killed = []

        def kill() -> None:
            if wait_for(lambda: trains(broken)):
                killed.extend(processes_of(broken))
                os.kill(killed[0], signal.SIGKILL)

        killer = threading.Thread(target=kill, daemon=True)
        killer.start()
        outcome = do(broken, retries=1)
        killer.join(10)
        assert len(killed) == 1
        assert outcome.error == ""
        (mine,), (theirs,) = broken.folders(), whole.folders()
        assert "Resuming after epoch" in (mine / "log.txt").read_text()
        assert same(learned(mine), learned(theirs))

    def test_a_run_ends_with_the_process_that_started_it_even_if_that_one_is_killed(self, data, cache, tmp_path):
        job = phantom_job("CoOp", data, tmp_path, cache, LONG)
        do = "from ogkd.runs.engines.command import do\ndo(pickle.loads(bytes.fromhex(sys.argv[1])))\n"
        program = f"import pickle, sys\n{do}"
        words = [sys.executable, "-c", program, pickle.dumps(job).hex()]
        starter = subprocess.Popen(words, cwd=ROOT)
        assert wait_for(lambda: trains(job))
        assert len(processes_of(job)) == 1
        starter.kill()
        starter.wait()
        assert wait_for(lambda: not processes_of(job), 10)
        assert job.waiting()


@pytest.mark.slow
def test_what_is_brought_back_is_the_run_with_its_results_last(data, cache, tmp_path, monkeypatch):
    job = phantom_job("CoOp", data, tmp_path, cache)
    job()
    (folder,) = job.folders()
    before, files = learned(folder), files_of(job)
    shutil.rmtree(folder)
    assert job.waiting()
    write(files)
    assert not job.waiting()
    assert same(learned(folder), before)
    newest = max(folder.rglob("*.*"), key=lambda path: path.stat().st_mtime_ns)
    assert newest.name == "results.json"


# Options


def settings(*words: str):
    parser = argparse.ArgumentParser()
    add_options(parser)
    return settings_of(parser.parse_args(words), 1, "PhantomCLIP", ROOT)


@given(st.integers(0, 20), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_a_time_limit_is_read_as_slurm_reads_it(days, hours, mins, seconds):
    total = ((days * 24 + hours) * 60 + mins) * 60 + seconds
    if total:
        assert minutes(f"{days}-{hours:02}:{mins:02}:{seconds:02}") == -(-total // 60)
    for text in (f"{days + 1}-{hours}", f"{days + 1}-{hours}:00", f"{(days + 1) * 24 + hours}:00:00"):
        assert minutes(text) == ((days + 1) * 24 + hours) * 60
    assert minutes(f"{mins + 1}") == minutes(f"{mins + 1}:00") == mins + 1


@pytest.mark.parametrize("text", ["", "0", "soon", "1:2:3:4", "-5", "1-", "0-00:00:00"])
def test_what_is_no_time_limit_is_an_error(text):
    with pytest.raises(UserError, match="--time must be"):
        minutes(text)


@pytest.mark.parametrize("text", ["-1", "1.5", "nan", "inf", "one"])
def test_gpus_are_a_share_or_whole_ones(text):
    with pytest.raises(UserError, match="--gpus must be"):
        settings("--engine", "ray", f"--gpus={text}")
    assert settings("--engine", "ray", "--gpus", "0.25").gpus == 0.25


def test_slurm_gives_no_shares_of_a_gpu():
    with pytest.raises(UserError, match=r"whole number on Slurm, not 0\.5"):
        settings("--engine", "slurm", "--gpus", "0.5")


@pytest.mark.parametrize(
    ("engine", "option", "owner"),
    [("ray", "--mem=8G", "slurm"), ("slurm", "--bring-back", "ray"), ("local", "--cpus=2", "ray or slurm")],
)
def test_an_option_of_another_engine_is_an_error(engine, option, owner):
    with pytest.raises(
        UserError, match=f"{option.partition('=')[0]} is an option of --engine {owner}, not of {engine}"
    ):
        settings("--engine", engine, option)


@pytest.mark.parametrize(("engine", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_an_engine_without_its_package_says_how_to_install_it(data, cache, tmp_path, monkeypatch, engine, package):
    monkeypatch.setitem(sys.modules, package, None)  # Python's way to say that it cannot be imported
    with pytest.raises(UserError, match=rf"--engine {engine} needs .*: pip install -r requirements-cluster\.txt$"):
        go_through([phantom_job("CoOp", data, tmp_path, cache)], settings("--engine", engine))


@pytest.mark.parametrize("words", [["compare.py", "phantom"], ["reproduce.py", "few_shot", "--datasets", "phantom"]])
def test_a_dry_run_prints_the_command_of_each_run_that_is_left_and_starts_none(command, data, tmp_path, words):
    words = [f"scripts/{words[0]}", *words[1:], "--methods", "CoOp", "--seeds", "1", "2", "--shots", "2", "--dry-run"]
    words += ["--protocol", "few_shot"] if "compare" in words[0] else []
    done = command([*words, "--engine", "ray"], env={"DATA": str(data), "OUTPUT": str(tmp_path / "out")})
    assert done.returncode == 0
    specs = [RunSpec.parse(shlex.split(line)[2:]) for line in done.stdout.splitlines()]
    assert [(spec.method, spec.shots, spec.seed) for spec in specs] == [("CoOp", 2, 1), ("CoOp", 2, 2)]
    assert done.stderr == "2 of 2 runs to do, 0 complete\n"
    assert not (tmp_path / "out").exists()
