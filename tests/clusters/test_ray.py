"""The executor ray on a real cluster of several node processes on this machine."""

import os
import signal
from pathlib import Path

import pytest
import ray
import yaml
from ray.autoscaler._private import util
from ray.cluster_utils import Cluster

from spjax.studies.executor import Site
from spjax.studies.executors.ray import Ray
from tests.studies import executor_battery
from tests.studies.executor_battery import *  # noqa: F403
from tests.studies.fake_sweep import specs

ROOT = Path(__file__).parents[2]
# JAX has begun when Ray forks; its children start other programs at once.
pytestmark = pytest.mark.filterwarnings(
    "ignore:os.fork", "ignore::pytest.PytestUnraisableExceptionWarning"
)
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}


@pytest.fixture(scope="module")
def cluster():
    """A head that trains nothing, and three machines with room for one worker each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_health_check_period_ms", "500")  # lost nodes are noticed at once
        patch.setenv("RAY_health_check_failure_threshold", "3")
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("RAY_worker_niceness", "0")  # 15 by default, below all else on a machine
        cluster = Cluster(initialize_head=True, head_node_args={**NODE, "num_cpus": 0})
        for _ in range(3):
            cluster.add_node(**NODE)
        cluster.wait_for_nodes()
        yield cluster
        cluster.shutdown()


@pytest.fixture
def executor(cluster):
    yield lambda: Ray(address=cluster.address)
    assert not ray.is_initialized()


def kill_node(node):
    """Kills a machine's raylet, without which its workers end."""
    (info,) = node.all_processes["raylet"]
    os.kill(info.process.pid, signal.SIGKILL)


def test_a_worker_that_fits_nowhere_waits_for_a_machine(cluster, tmp_path, caplog):
    executor = Ray(address=cluster.address, cpus=1, memory_gb=10_000)
    executor.open(Site(tmp_path, 0))
    assert executor.size(5) == 1
    executor.close()
    assert "no machine of the Ray cluster has room for a worker with" in caplog.text


def test_a_cluster_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="cannot connect to the Ray cluster '127.0.0.1:9'"):
        Ray(address="127.0.0.1:9").open(Site(tmp_path, 0))


def test_a_machine_without_the_folder_is_told(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "getcwd", lambda: "/absent")
    outcome = executor_battery.sweep(tmp_path, specs(1), Ray(address=cluster.address))
    assert "has no folder /absent: all machines of the cluster need" in outcome.stopped


@pytest.mark.parametrize("file", sorted((ROOT / "scripts" / "launch").glob("ray_*.yaml")))
def test_examples_of_clusters_fit_the_schema_of_ray(file):
    config = yaml.safe_load(file.read_text())
    util.validate_config(util.prepare_config(dict(config)))
    with pytest.raises(Exception, match="'max_worker' was unexpected"):
        util.validate_config(util.prepare_config({**config, "max_worker": 1}))


def test_a_lost_machine_and_a_killed_driver_cost_nothing(cluster, sweeps):
    """24 runs; a machine is lost with a worker on it, then the driver, which is started again."""
    sweeps = sweeps(seeds=12)
    sweeps.run("local", "--workers=2")
    flags = ("--executor=ray", f"--address={cluster.address}")
    process = sweeps.start("ray", *flags)
    sweeps.wait_for(lambda: sweeps.finished("ray") >= 4, process)
    node = cluster.add_node(**NODE)  # in place of the lost one
    kill_node(cluster.worker_nodes.copy().pop())
    before = sweeps.finished("ray")
    sweeps.wait_for(lambda: sweeps.finished("ray") >= before + 4, process)
    sweeps.kill(process)
    assert sweeps.finished("ray") < 24
    assert "24 of 24 runs finished" in sweeps.run("ray", *flags)
    sweeps.check_ending("ray")
    assert node in cluster.worker_nodes
