"""Jobs on a Ray cluster of two nodes on this machine, one of which is killed in the middle of its jobs."""

import threading
from importlib.util import find_spec

import pytest

from ogkd.core import UserError
from ogkd.runs.engines import go_through
from ogkd.runs.engines.options import Settings
from tests.support.jobs import alive, completed, processes, scripted, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.skipif(find_spec("ray") is None, reason="the extra cluster is missing")]


@pytest.fixture(scope="module")
def nodes():
    """A cluster whose head has no cores, so that every job is on one of the two nodes that can be killed."""
    import ray  # takes a second, which only the process with these tests spends
    from ray import cluster_utils

    checks = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 3}
    cluster = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "_system_config": checks})
    workers = [cluster.add_node(num_cpus=1) for _ in range(2)]
    cluster.wait_for_nodes()
    yield cluster, workers
    ray.shutdown()
    cluster.shutdown()


def test_a_run_that_no_node_has_room_for_is_an_error_rather_than_an_endless_wait(nodes, tmp_path):
    settings = Settings(engine="ray", further={"address": nodes[0].address}, cpus=3)
    with pytest.raises(UserError, match="No node of the Ray cluster has 3 cores for a run: lower cpus"):
        go_through([scripted("A", "work", tmp_path)], settings)


def test_a_node_that_is_killed_loses_nothing_and_what_fails_or_diverges_is_named(nodes, tmp_path, capsys):
    cluster, (first, _) = nodes
    broken = [scripted(name, "wait", tmp_path) for name in "AB"]
    others = [scripted(name, deed, tmp_path) for name, deed in {"C": "full", "D": "diverge"}.items()]

    def kill_one_node() -> None:
        wait_for(lambda: all(processes(tmp_path, name) for name in "AB"))
        cluster.remove_node(first, allow_graceful=False)
        wait_for(lambda: not all(alive(processes(tmp_path, name)[0]) for name in "AB"))
        (tmp_path / "go").touch()

    settings = Settings(engine="ray", further={"address": cluster.address})
    killer = threading.Thread(target=kill_one_node, daemon=True)
    killer.start()
    report = go_through([completed(scripted("E", "fault", tmp_path)), *broken, *others], settings)
    killer.join(30)

    assert (report.total, report.succeeded) == (4, 2)  # what is complete is none of them
    assert sorted(len(processes(tmp_path, name)) for name in "AB") == [1, 2]
    assert ["No space left on device" in one for one in report.failed] == [True]
    assert ["the loss is not finite" in one for one in report.diverged] == [True]
    assert "1 of 5 jobs are complete." in capsys.readouterr().out
