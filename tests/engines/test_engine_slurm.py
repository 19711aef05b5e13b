"""Jobs by submitit: its executor on this machine, the batch script, and Slurm itself where this machine has one."""

import shutil
import subprocess
from functools import partial

import pytest

from ogkd.core import UserError
from ogkd.runs.engines import dry_run, go_through, slurm
from ogkd.runs.engines.options import Settings
from tests.support.jobs import completed, phantom_job, scripted
from tests.support.runs import learned, same

pytestmark = pytest.mark.slow

submitit = pytest.importorskip("submitit")


def in_a_cluster() -> bool:
    """Whether Slurm takes jobs here."""
    if shutil.which("sinfo") is None:
        return False
    try:
        found = subprocess.run(
            ["sinfo", "--noheader", "--states=idle,mixed"], capture_output=True, text=True, timeout=5
        )
    except subprocess.TimeoutExpired:  # installed, and not running
        return False
    return found.stdout != ""


@pytest.mark.parametrize("cluster", ["local", "slurm"])
def test_jobs_end_as_they_do_without_it_and_what_diverges_is_named(data, cache, tmp_path, capsys, monkeypatch, cluster):
    if cluster == "slurm" and not in_a_cluster():
        pytest.skip("no Slurm takes jobs here")
    whole, mine = (phantom_job("CoOp", data, tmp_path / name, cache) for name in ("here", "there"))
    whole()
    capsys.readouterr()
    monkeypatch.setattr(slurm, "outcomes", partial(slurm.outcomes, cluster=cluster))
    settings = Settings(engine="slurm", logs=tmp_path / "logs", further={"time": "10"})
    jobs = [completed(scripted("A", "fault", tmp_path)), mine, scripted("B", "diverge", tmp_path)]
    report = go_through(jobs, settings)
    assert (report.total, report.succeeded, report.failed) == (2, 1, [])
    assert ["the loss is not finite" in one for one in report.diverged] == [True]
    for one, other in zip(mine.folders(), whole.folders(), strict=True):
        assert same(learned(one), learned(other))
        assert (one / "predictions.npz").read_bytes() == (other / "predictions.npz").read_bytes()
    assert "1 of 3 jobs are complete." in capsys.readouterr().out
    assert len([path for path in (tmp_path / "logs").iterdir() if list(path.glob("*_log.err"))]) == 2


def test_the_batch_script_is_one_array_with_the_resources_and_the_commands_asked_for(data, cache, tmp_path, capsys):
    jobs = [phantom_job("CoOp", data, tmp_path, cache, seed=seed) for seed in range(1, 4)]
    further = {"account": "lab", "exclusive": "", "time": "90", "mem": "16G", "partition": "gpu"}
    settings = Settings(engine="slurm", logs=tmp_path / "logs", cpus=4, gpus=1.0, jobs=2, further=further)
    dry_run(jobs, settings)
    out, err = capsys.readouterr()
    assert err == "3 of 3 runs to do, 0 complete\n"
    options = {line.removeprefix("#SBATCH --") for line in out.splitlines() if line.startswith("#SBATCH")}
    asked = {
        "array=0-2%2", "time=90", "cpus-per-task=4", "gpus-per-node=1", "mem=16G", "partition=gpu", "account=lab",
        "exclusive", "requeue",
    }  # fmt: skip
    assert asked <= options
    for job in jobs:
        assert job.specs[0].command() in out
    assert subprocess.run(["bash", "-n"], input=out, text=True, capture_output=True).returncode == 0
    assert not (tmp_path / "logs").exists()


def test_an_array_is_no_longer_than_slurm_takes(tmp_path):
    script = slurm.preview([scripted("A", "work", tmp_path)] * 1001, Settings(engine="slurm", logs=tmp_path))
    assert script.count("#!/bin/bash") == 2
    assert script.count("--array=0-999%256") == 1


@pytest.mark.skipif(shutil.which("srun") is not None, reason="this machine has Slurm")
def test_without_slurm_it_is_one_sentence(tmp_path):
    with pytest.raises(UserError, match="needs srun, which is not on this machine"):
        go_through([scripted("A", "work", tmp_path)], Settings(engine="slurm", logs=tmp_path))
