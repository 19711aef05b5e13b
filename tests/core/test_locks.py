"""If two processes want the same thing, one does it and the other waits and finds it done."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import filelock
import pytest

from ogkd.core.locks import locked
from ogkd.phantom.dataset import ensure_dataset
from tests.conftest import ROOT
from tests.support import forked

HOLD = """
import sys, time
from pathlib import Path
from ogkd.core.locks import locked
with locked(Path(sys.argv[1]), "the work"):
    print("held", flush=True)
    time.sleep(float(sys.argv[2]))
"""


def start(*words: str, **more) -> subprocess.Popen:
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"} | more
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, *words], cwd=ROOT, stdout=pipe, stderr=pipe, text=True, env=env)


def holder(path: Path, seconds: float) -> subprocess.Popen:
    process = start("-c", HOLD, str(path), str(seconds))
    assert process.stdout.readline() == "held\n"
    return process


@pytest.mark.slow
def test_the_second_waits_and_says_for_whom(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("ogkd.core.locks.SECONDS_BEFORE_SAYING_SO", 0.1)
    first = holder(tmp_path / "lock", 1)
    with locked(tmp_path / "lock", "the work"):
        first.wait(5)
    assert f"Waiting for the work, which process {first.pid} on " in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_a_killed_process_is_free(tmp_path):
    first = holder(tmp_path / "lock", 60)
    first.kill()
    first.wait()
    began = time.monotonic()
    with locked(tmp_path / "lock", "the work"):
        assert time.monotonic() - began < 1
    assert list(tmp_path.iterdir()) == []


def test_who_waits_can_be_interrupted(tmp_path):
    first = holder(tmp_path / "lock", 60)
    second = start("-c", HOLD, str(tmp_path / "lock"), "0")
    assert "Waiting for the work" in second.stderr.readline()
    second.send_signal(signal.SIGINT)
    assert second.wait(5) == 130
    assert "Interrupted" in second.stderr.read()
    first.kill()
    first.wait()


def test_many_threads_hold_a_lock_one_at_a_time(tmp_path):
    inside, most = [], []

    def work():
        for _ in range(10):
            with locked(tmp_path / "lock", "the work"):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.001)
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 40
    assert max(most) == 1


@pytest.mark.parametrize("reason", [OSError(errno.ENOLCK, "No locks available"), NotImplementedError()])
def test_without_locks_the_work_is_done_with_a_warning(tmp_path, monkeypatch, capsys, reason):
    def acquire(self, *_, **__):
        Path(self.lock_file).touch()
        raise reason

    monkeypatch.setattr(filelock.FileLock, "acquire", acquire)
    with locked(tmp_path / "lock", "the work"):
        pass
    assert "has no locks: do not start the work twice at once" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_lock_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"), locked(tmp_path / "file" / "lock", "the work"):
        pass


@pytest.mark.slow
def test_two_that_need_the_phantom_images_at_once_both_find_them(tmp_path):
    few = {"train": 2, "val": 1, "test": 1}
    code = f"from ogkd.phantom.dataset import *; ensure_dataset({str(tmp_path / 'data')!r}, 0, 'phantom_grades', {few})"
    both = [end() for end in [forked.start(["-c", code]) for _ in range(2)]]
    assert [done.returncode for done in both] == [0, 0], both
    assert sum("Making the PhantomGrades" in done.stdout for done in both) == 1
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["PhantomGrades"]
    assert ensure_dataset(tmp_path / "data", 0, "phantom_grades") == tmp_path / "data" / "PhantomGrades"


@pytest.mark.slow
def test_the_same_run_twice_at_once_is_done_once(arguments, tmp_path):
    both = [end() for end in [forked.start(["train.py", *arguments("CoOp")]) for _ in range(2)]]
    assert [done.returncode for done in both] == [0, 0], both
    assert sorted("is complete" in done.stdout for done in both) == [False, True]
    assert not (tmp_path / "run" / ".lock").exists()
