"""The executor ray on a real cluster of several node processes on this machine."""

import contextlib
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import ray
import yaml
from ray.autoscaler._private import util
from ray.cluster_utils import Cluster

from spjax.studies.executor import Site
from spjax.studies.executors.ray import Ray
from tests import kill_battery
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


def test_more_machines_than_the_cluster_has_are_waited_for(cluster, tmp_path, caplog):
    executor = Ray(address=cluster.address, nodes=9)
    executor.open(Site(tmp_path, 0))
    assert executor.size(5) == 1
    executor.close()
    assert "no set of 9 machines of the Ray cluster has room for a worker with" in caplog.text


def test_failures_on_two_machines(cluster, tmp_path):
    """A failing run, and one that ends its process, cost no other run."""
    plan = specs(4, fail={1: "raise", 2: "crash_once"})
    executor = Ray(address=cluster.address, nodes=2)
    outcome = executor_battery.sweep(tmp_path, plan, executor)
    assert (outcome.finished, outcome.stopped) == (3, "")
    assert outcome.failed == {plan[1].key: "ValueError: this run cannot be trained"}
    assert len(list(plan[1].folder(tmp_path).glob("try*"))) == 1


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


def test_runs_over_two_machines(cluster, sweeps):
    """One machine is lost, then the driver is killed and started again."""
    sweeps = sweeps(seeds=1, steps=100)
    sweeps.run("local", "--workers=2")
    flags = ("--executor=ray", f"--address={cluster.address}", "--nodes=2")
    process = sweeps.start("ray", *flags, "--workers=1")
    folder = sweeps.folder / "ray" / "study"
    sweeps.wait_for(lambda: list(folder.glob("runs/*/checkpoints/20")), process)
    lost = next(node for node in cluster.worker_nodes if pids_of(sweeps, node))
    cluster.add_node(**NODE)
    kill_node(lost)
    before = sweeps.finished("ray")
    sweeps.wait_for(lambda: sweeps.finished("ray") > before, process)
    sweeps.kill(process)
    assert sweeps.finished("ray") < 2
    assert "2 of 2 runs finished" in sweeps.run("ray", *flags)
    for run in folder.glob("runs/*"):
        alone = sweeps.folder / "local" / "study" / "runs" / run.name
        prompts = [np.load(path / "prompt.npy") for path in (run, alone)]
        np.testing.assert_allclose(*prompts, rtol=1e-4, atol=1e-4)  # sums in another order
    assert list(folder.glob("logs/worker_0.1.log"))
    sweeps.check_ending("ray")


def parent(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def pids_of(sweeps, node):
    """Returns the worker processes of a sweep on a machine: children of its raylet's children."""
    (info,) = node.all_processes["raylet"]
    pids = []
    for pid in kill_battery.living(sweeps.mark):
        with contextlib.suppress(OSError):  # it has ended
            pids += [pid] * (parent(parent(pid)) == info.process.pid)
    return pids
