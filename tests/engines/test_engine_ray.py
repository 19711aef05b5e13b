"""Jobs on a Ray cluster of two nodes on this machine, one of which is killed in the middle of its runs."""

import threading
import time
from pathlib import Path

import pytest

from ogkd.core import UserError
from ogkd.runs.engines import go_through
from ogkd.runs.engines.options import Settings
from tests.support.jobs import phantom_job, trains
from tests.support.runs import learned, same

ray = pytest.importorskip("ray")
cluster_utils = pytest.importorskip("ray.cluster_utils")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def nodes():
    """A cluster whose head has no cores, so that every run is on one of the two nodes that can be killed."""
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    workers = [cluster.add_node(num_cpus=1) for _ in range(2)]
    cluster.wait_for_nodes()
    yield cluster, workers
    ray.shutdown()
    cluster.shutdown()


def test_a_run_that_no_node_has_room_for_is_an_error_rather_than_an_endless_wait(nodes, data, cache, tmp_path):
    settings = Settings(engine="ray", further={"address": nodes[0].address}, cpus=3)
    with pytest.raises(UserError, match="No node of the Ray cluster has 3 cores for a run: lower cpus"):
        go_through([phantom_job("CoOp", data, tmp_path, cache)], settings)


def test_a_node_that_is_killed_loses_nothing_and_what_fails_or_diverges_is_named(nodes, data, cache, tmp_path, capsys):
    cluster, (first, _) = nodes
    many = ("OPTIM.MAX_EPOCH", "40")
    whole = [phantom_job("CoOp", data, tmp_path / "local", cache, many, seed=seed) for seed in (1, 2)]
    broken = [phantom_job("CoOp", data, tmp_path / "ray", cache, many, seed=seed) for seed in (1, 2)]
    complete = phantom_job("ZeroShot", data, tmp_path / "ray", cache)
    fails = phantom_job("CoOp", data, tmp_path / "fails", cache, ("OPTIM.NO_SUCH_KEY", "1"))
    diverges = phantom_job("CoOp", data, tmp_path / "diverges", cache, ("OPTIM.LR", "1e30"))
    assert go_through([complete, *whole], Settings()).succeeded == 3
    capsys.readouterr()
    waiting_at_death = []

    def kill_one_node() -> None:
        while not all(map(trains, broken)):
            time.sleep(0.05)
        cluster.remove_node(first, allow_graceful=False)
        waiting_at_death.extend(job for job in broken if job.waiting())

    settings = Settings(engine="ray", further={"address": cluster.address})
    killer = threading.Thread(target=kill_one_node, daemon=True)
    killer.start()
    report = go_through([complete, *broken, fails, diverges], settings)
    killer.join(30)

    assert waiting_at_death == broken
    assert report.total == 4  # what is complete is none of them
    assert report.succeeded == 2
    assert [("NO_SUCH_KEY" in one, "fails" not in one) for one in report.failed] == [(True, True)]
    assert ["the term 'ce' is not finite" in one for one in report.diverged] == [True]
    resumed = ["Resuming after epoch" in Path(job.specs[0].folder, "log.txt").read_text() for job in broken]
    assert sorted(resumed) == [False, True]
    for mine, theirs in zip(broken, whole, strict=True):
        (mine,), (theirs,) = mine.folders(), theirs.folders()
        assert same(learned(mine), learned(theirs))
        assert (mine / "predictions.npz").read_bytes() == (theirs / "predictions.npz").read_bytes()
    assert "1 of 5 jobs are complete." in capsys.readouterr().out
