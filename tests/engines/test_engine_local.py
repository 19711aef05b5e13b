"""Running many jobs: those that fail, processes that are killed, and what is reported."""

import os
import signal
import subprocess
import sys

import pytest

from ogkd.core import UserError, workers
from ogkd.runs.engines import go_through
from ogkd.runs.engines.options import Settings
from ogkd.runs.engines.report import Outcome, Report, attempt, duration
from tests.conftest import ROOT
from tests.support.jobs import alive, completed, processes, scripted, wait_for


def test_if_all_jobs_fail_the_last_words_are_the_cause(tmp_path):
    report = go_through([scripted(name, "full", tmp_path) for name in "AB"], Settings(jobs=1))
    with pytest.raises(UserError, match=r"2 of 2 jobs failed, the first: .*No space left on device .*again\.$"):
        report.conclude()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and kills processes")
@pytest.mark.slow
def test_what_fails_is_named_what_is_killed_or_finds_the_gpu_full_is_retried_and_the_rest_continue(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)  # where the modules that processes import ahead are not
    deeds = {"Died": "die once", "Dies": "die", "Full": "full", "Diverges": "diverge", "Faulty": "fault",
             "Works": "need imports", "Filled": "fill once", "Fills": "fill"}  # fmt: skip
    report = go_through([scripted(name, deed, tmp_path) for name, deed in deeds.items()], Settings(jobs=2))
    assert (report.succeeded, len(report.failed), len(report.diverged)) == (3, 4, 1)
    causes = {
        "Dies": "was killed, 2 times",
        "Full": "No space left on device (prompt.pt)",
        "Faulty": "KeyError: 'ours'",
        "Fills": "the GPU's memory is full: lower DATALOADER",
    }
    for name, cause in causes.items():
        assert any(f"phantom {name}" in one and cause in one for one in report.failed)
    for name, times in {"Died": 2, "Dies": 2, "Filled": 2, "Fills": 2, "Works": 1}.items():
        assert len(set(processes(tmp_path, name))) == times  # each in a process of its own
    out, err = capsys.readouterr()
    assert ": 71.4 % in 0 s" in out
    assert err.count("Traceback") == 1  # of the fault that is ours alone
    assert err.count("was killed; retrying") == 2
    assert err.count("From now on --jobs 1\n") == 1
    with pytest.raises(UserError, match=r"^1 of 8 jobs diverged, .*phantom Diverges .* and 4 of 8 jobs failed, "):
        report.conclude()


def test_what_is_complete_starts_no_process(tmp_path):
    done = [completed(scripted(name, "work", tmp_path)) for name in "AB"]
    assert go_through(done, Settings(jobs=2)).succeeded == 2
    assert processes(tmp_path, "A") == processes(tmp_path, "B") == [os.getpid()]


def test_on_a_cluster_a_run_uses_the_cores_that_it_was_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(workers, "_share_of_cores", 7)
    assert attempt(scripted("A", "work", tmp_path), threads=1, folder=str(tmp_path)).scores == "71.4 %"
    assert workers._cores() == 1


PROGRAM = """
import sys
from pathlib import Path
from ogkd.core import run_program
from ogkd.runs.engines import go_through
from ogkd.runs.engines.options import Settings
from tests.support.jobs import scripted
if __name__ == "__main__":
    jobs = [scripted(name, "wait", Path(sys.argv[1])) for name in "AB"]
    sys.exit(run_program(lambda: go_through(jobs, Settings(jobs=2))))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc and kills processes")
@pytest.mark.slow
@pytest.mark.parametrize("ended_by", [signal.SIGKILL, signal.SIGINT])
def test_a_program_that_ends_takes_its_processes_along_and_an_interrupt_is_quiet(tmp_path, ended_by):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    process = subprocess.Popen(
        [sys.executable, str(program), str(tmp_path)], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert wait_for(lambda: processes(tmp_path, "A") and processes(tmp_path, "B"))
    if ended_by == signal.SIGKILL:
        process.kill()
        process.communicate()
    else:
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, err = process.communicate(timeout=30)
        assert process.returncode == 130
        assert err.strip() == "Interrupted; the same command resumes after the last saved epoch."
    workers = processes(tmp_path, "A") + processes(tmp_path, "B")
    assert wait_for(lambda: not any(map(alive, workers)), 10 if ended_by == signal.SIGKILL else 0)


# What is reported


def test_the_time_left_is_that_of_the_jobs_that_are_not_done_yet_shared_among_workers(tmp_path, capsys):
    done, *new = [scripted(name, "work", tmp_path) for name in "ABCD"]
    report = Report([completed(done), *new], workers=2)
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


@pytest.mark.parametrize(("seconds", "text"), [(89, "89 s"), (360, "6 min"), (4800, "1 h 20 min")])
def test_a_time_is_in_seconds_minutes_or_hours(seconds, text):
    assert duration(seconds) == text


# Before anything starts


@pytest.mark.parametrize("number", ["0", "x"])
def test_a_wrong_number_of_jobs_is_one_sentence(command, number):
    done = command(["scripts/reproduce.py", "few_shot", "--jobs", number])
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("error: --jobs must be ")


def test_data_sets_that_are_not_there_are_named_together_before_the_first_run(command, tmp_path):
    places = {"DATA": str(tmp_path / "data"), "OUTPUT": str(tmp_path / "out")}
    words = ["scripts/reproduce.py", "few_shot", "--datasets", "busi", "btmri", "--methods", "CoOp"]
    done = command(words, env=places)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "BUSI, BTMRI are not in " in done.stderr
    assert "`python scripts/download.py busi btmri --root " in done.stderr
    assert not (tmp_path / "out").exists()
