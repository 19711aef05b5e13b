"""What killed processes leave behind is removed by later ones."""

import os
import subprocess
import sys

import pytest

from ogkd.core import UserError, atomic_path, sweep
from ogkd.phantom.dataset import ensure_dataset
from tests.support.check_method import SmallRuns, same
from tests.support.runs import killed_at, learned


@pytest.fixture
def dead() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def left_by(process, path):
    """Where a process of this machine would write before it gives the file its name."""
    with atomic_path(path) as temporary:
        temporary.write_text("")
    path.unlink()
    return temporary.with_name(temporary.name.replace(f"-{os.getpid()}-", f"-{process}-"))


@pytest.fixture
def runs(tmp_path, data, cache) -> SmallRuns:
    return SmallRuns("CoOp", tmp_path / "runs", data, cache)


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    with pytest.raises(RuntimeError), atomic_path(tmp_path / "a") as made:
        made.mkdir()
        (made / "file").write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with atomic_path(tmp_path / "a") as made:
        made.mkdir()
        (made / "file").write_text("whole")
    assert (tmp_path / "a" / "file").read_text() == "whole"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_folders_of_dead_processes_are_swept_and_those_of_living_ones_stay(tmp_path, dead):
    of_dead, alive = left_by(dead, tmp_path / "data"), left_by(os.getppid(), tmp_path / "data")
    elsewhere = tmp_path / f".data.otherhost-{dead}-0123abcd.part"
    for folder in (of_dead, alive, elsewhere):
        folder.mkdir()
        (folder / "image.png").write_text("")
    sweep(tmp_path)
    assert set(tmp_path.iterdir()) == {alive, elsewhere}


def test_a_run_sweeps_its_folder_and_the_cache(runs, dead):
    folder = runs.folder / "run"
    (folder / "prompt_learner").mkdir(parents=True)
    left = [
        left_by(dead, folder / "results.json"),
        left_by(dead, folder / "prompt_learner" / "model.pth.tar-1"),
        left_by(dead, runs.cache / "features.safetensors"),
    ]
    for path in left:
        path.write_text("half")
    runs.run("run", "OPTIM.MAX_EPOCH", "1")
    assert not [path for path in left if path.exists()]


@pytest.mark.slow
def test_phantoms_images_half_drawn_by_a_dead_process_are_removed(tmp_path, dead):
    left = left_by(dead, tmp_path / "PhantomGrades")
    (left / "PhantomGrades").mkdir(parents=True)
    ensure_dataset(tmp_path, name="phantom_grades")
    assert [path.name for path in tmp_path.iterdir()] == ["PhantomGrades"]


def test_a_phantom_folder_without_its_split_is_one_sentence(tmp_path):
    (tmp_path / "PhantomGrades" / "PhantomGrades").mkdir(parents=True)
    with pytest.raises(UserError, match=r"has no split_PhantomGrades\.json: delete that folder"):
        ensure_dataset(tmp_path, name="phantom_grades")


def test_an_older_checkpoint_beside_the_newest_is_removed_when_the_run_goes_on(runs):
    pairs = ("OPTIM.MAX_EPOCH", "3", "TRAIN.PRINT_FREQ", "1")
    runs.run("whole", *pairs)
    killed_at(runs.spec("run", *pairs), "epoch [3/3] batch [1/")
    folder = runs.folder / "run" / "prompt_learner"
    (folder / "model.pth.tar-1").write_bytes((folder / "model.pth.tar-2").read_bytes())  # as if killed before removal
    (folder / "checkpoint").write_text("model.pth.tar-1\n")
    killed_at(runs.spec("run", *pairs), "epoch [3/3] batch [1/")
    assert [path.name for path in folder.glob("model.pth.tar-*")] == ["model.pth.tar-2"]
    assert (folder / "checkpoint").read_text() == "model.pth.tar-2\n"
    runs.run("run", *pairs)
    assert [path.name for path in folder.glob("model.pth.tar-*")] == ["model.pth.tar-3"]
    assert same(learned(runs.folder / "whole"), learned(runs.folder / "run"))


def test_resuming_from_a_folder_that_has_nothing_is_one_sentence(runs):
    (runs.folder / "empty").mkdir(parents=True)
    for place in ("empty", "absent"):
        with pytest.raises(UserError, match=f"{place} holds no checkpoint that this run can resume from"):
            runs.run("run", resume=str(runs.folder / place))
