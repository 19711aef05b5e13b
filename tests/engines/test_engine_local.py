"""Running many jobs: those that fail, processes that are killed, and what is reported."""

import errno
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from ogkd.core import Diverged, UserError
from ogkd.runs.engines import go_through as execute
from ogkd.runs.engines.options import Settings
from ogkd.runs.engines.report import Outcome, Report, duration
from ogkd.runs.protocols import Job
from ogkd.runs.spec import RunSpec
from tests.conftest import ROOT


@dataclass(frozen=True)
class Scripted(Job):
    """A job that does what its first KEY says, with VALUE a folder for notes."""

    def __call__(self) -> list[dict]:
        deed, folder = self.specs[0].pairs
        notes = Path(folder) / self.specs[0].method
        with notes.open("a") as file:
            file.write(f"{os.getpid()}\n")
        if deed == "die" or (deed == "die once" and len(notes.read_text().splitlines()) == 1):
            os.kill(os.getpid(), signal.SIGKILL)
        if deed == "full":
            raise OSError(errno.ENOSPC, "No space left on device", "prompt.pt")
        if deed == "diverge":
            raise Diverged("the loss is not finite")
        if deed == "fault":
            raise KeyError("ours")
        if deed == "fill" or (deed == "fill once" and len(notes.read_text().splitlines()) == 1):
            raise torch.OutOfMemoryError("CUDA out of memory.")
        if deed == "sleep":
            time.sleep(60)
        return [{"accuracy": 71.44}]


def job(name: str, deed: str, folder: Path) -> Scripted:
    place = str(folder / "runs" / name)
    spec = RunSpec(method=name, folder=place, dataset="phantom", shots=2, pairs=(deed, str(folder)))
    return Scripted("few_shot", (spec,))


def go_through(jobs, workers: int = 1) -> Report:
    return execute(jobs, Settings(jobs=workers))


def pids(folder: Path, name: str) -> list[int]:
    path = folder / name
    return [int(line) for line in path.read_text().splitlines()] if path.exists() else []


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (ProcessLookupError, FileNotFoundError):
        return False


def wait_for(condition, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.1)
    return False


# Jobs that fail


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_what_fails_is_named_with_its_cause_and_the_rest_continue(tmp_path, capsys, workers):
    deeds = {"A": "full", "B": "diverge", "C": "fault", "D": "work"}
    report = go_through([job(name, deed, tmp_path) for name, deed in deeds.items()], workers)
    assert report.succeeded == 1
    assert any("A" in one and "No space left on device (prompt.pt)" in one for one in report.failed)
    assert any("C" in one and "KeyError: 'ours'" in one for one in report.failed)
    assert len(report.diverged) == 1
    out, err = capsys.readouterr()
    assert ": 71.4 % in 0 s" in out
    assert err.count("Traceback") == 1  # of the fault that is ours alone
    with pytest.raises(UserError, match=r"^1 of 4 jobs diverged \(few_shot phantom B .*\) and 2 of 4 jobs failed, "):
        report.conclude()


def test_if_all_jobs_fail_the_last_words_are_the_cause(tmp_path):
    report = go_through([job("A", "full", tmp_path), job("B", "full", tmp_path)])
    with pytest.raises(UserError, match=r"2 of 2 jobs failed, the first: .*No space left on device .*saved epoch\.$"):
        report.conclude()


# Processes that are killed


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and kills processes")
class TestKilled:
    @pytest.mark.slow
    def test_a_job_whose_process_is_killed_is_retried_once_and_the_rest_continue(self, tmp_path, capsys):
        deeds = {"A": "die once", "B": "die", "C": "work", "D": "work"}
        report = go_through([job(name, deed, tmp_path) for name, deed in deeds.items()], 2)
        assert report.succeeded == 3
        (failure,) = report.failed
        assert "phantom B" in failure and "was killed, 2 times" in failure
        assert len(set(pids(tmp_path, "A"))) == len(set(pids(tmp_path, "B"))) == 2
        assert capsys.readouterr().err.count("was killed; retrying") == 2

    @pytest.mark.slow
    def test_jobs_that_find_the_gpu_full_are_retried_at_the_end_half_as_many_at_a_time(self, tmp_path, capsys):
        deeds = {"A": "fill once", "B": "work", "C": "fill"}
        report = go_through([job(name, deed, tmp_path) for name, deed in deeds.items()], 2)
        assert report.succeeded == 2
        assert ["the GPU's memory is full: lower DATALOADER" in one for one in report.failed] == [True]
        first, second = pids(tmp_path, "A")
        assert first != second  # the memory of the first is free
        assert capsys.readouterr().err.count("From now on --jobs 1\n") == 1

    def started(self, folder: Path) -> subprocess.Popen:
        """A program that goes through two jobs that sleep, which have begun."""
        code = (
            "import sys\nfrom pathlib import Path\nfrom dassl.utils import run_program\n"
            "from tests.engines.test_engine_local import go_through, job\n"
            "if __name__ == '__main__':\n"
            "    jobs = [job(name, 'sleep', Path(sys.argv[1])) for name in 'AB']\n"
            "    sys.exit(run_program(lambda: go_through(jobs, 2)))\n"
        )
        program = folder / "program.py"
        program.write_text(code)
        process = subprocess.Popen(
            [sys.executable, str(program), str(folder)], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
            stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        assert wait_for(lambda: pids(folder, "A") and pids(folder, "B"), 60)
        return process

    @pytest.mark.slow
    def test_the_processes_of_a_killed_program_end_too(self, tmp_path):
        process = self.started(tmp_path)
        process.kill()
        process.communicate()
        workers = pids(tmp_path, "A") + pids(tmp_path, "B")
        assert wait_for(lambda: not any(map(alive, workers)), 10)

    @pytest.mark.slow
    def test_an_interrupt_ends_everything_quietly_with_exit_code_130(self, tmp_path):
        process = self.started(tmp_path)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, err = process.communicate(timeout=30)
        assert process.returncode == 130
        assert err.strip() == "Interrupted; the same command resumes after the last saved epoch."
        assert not any(map(alive, pids(tmp_path, "A") + pids(tmp_path, "B")))


# What is reported


def test_the_time_left_is_that_of_the_jobs_that_are_not_done_yet_shared_among_workers(tmp_path, capsys):
    done, *new = [job(name, "work", tmp_path) for name in "ABCD"]
    folder = Path(done.specs[0].folder)
    folder.mkdir(parents=True)
    (folder / "results.json").write_text("{}")
    report = Report([done, *new], workers=2)
    report.add(Outcome(done, 0.1, "71.4 %"))
    assert report.seconds_left() == 0
    report.add(Outcome(new[0], 200.0, "60.0 %"))
    assert report.seconds_left() == 200.0  # two jobs at once
    report.add(Outcome(new[1], 400.0, "60.0 %"))
    assert report.seconds_left() == 300.0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith(": 71.4 % (was complete)")
    assert lines[1].startswith("[2/4] few_shot phantom B ")
    assert lines[1].endswith(": 60.0 % in 3 min, about 3 min left")


@pytest.mark.parametrize(("seconds", "text"), [(9.4, "9 s"), (89, "89 s"), (360, "6 min"), (4800, "1 h 20 min")])
def test_a_time_is_in_seconds_minutes_or_hours(seconds, text):
    assert duration(seconds) == text


# Before anything starts


@pytest.mark.parametrize("number", ["-2", "0", "x", "1.5"])
@pytest.mark.parametrize("script", [("compare.py", "phantom"), ("reproduce.py", "few_shot")])
def test_a_wrong_number_of_jobs_is_one_sentence(command, script, number):
    name, word = script
    done = command([f"scripts/{name}", word, "--jobs", number])
    assert done.returncode == 2
    assert done.stderr.startswith("error: --jobs must be ")
    assert done.stderr.count("\n") == 1


def test_data_sets_that_are_not_there_are_named_together_before_the_first_run(command, tmp_path):
    places = {"DATA": str(tmp_path / "data"), "OUTPUT": str(tmp_path / "out")}
    words = ["scripts/reproduce.py", "few_shot", "--datasets", "busi", "btmri", "--methods", "CoOp"]
    done = command(words, env=places)
    assert done.returncode == 2
    assert done.stderr.startswith("error: BUSI, BTMRI are not in ")
    assert "`python scripts/download.py busi btmri --root " in done.stderr
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()
