"""The executor ray with a stand-in for ray; `tests/clusters` has real clusters of Ray."""

import itertools
import types

import pytest

from spjax.studies.executor import Site
from spjax.studies.executors import ray
from spjax.studies.executors.ray import Ray


class RayError(Exception):
    """The error of a lost machine."""


class RayTaskError(RayError):
    """The error of code of ours in an actor."""


class Actor:
    """An actor whose events a test sends.

    Attributes:
      options: with which it was made.
      arguments: of its class.
      sent: events or an exception, for the next call.
      orders: gangs that it was given.
    """

    def __init__(self, options, arguments):
        self.options, self.arguments = options, arguments
        self.sent, self.orders, self.is_killed = [], [], False
        self.submit = types.SimpleNamespace(remote=self.orders.append)
        self.coordinator = types.SimpleNamespace(remote=lambda: "the address")
        numbers = itertools.count()
        self.events = types.SimpleNamespace(remote=lambda seconds: (self, next(numbers)))


class Cluster:
    """Stands in for the module ray; it has three machines of two cores.

    Attributes:
      actors: all that were made.
      placements: groups that are reserved.
    """

    exceptions = types.SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self):
        self.actors, self.placements = [], []
        strategy = types.SimpleNamespace(PlacementGroupSchedulingStrategy=self.strategy)
        self.util = types.SimpleNamespace(
            placement_group=self.reserve,
            remove_placement_group=self.placements.remove,
            scheduling_strategies=strategy,
        )

    def reserve(self, bundles, strategy):
        self.placements.append((len(self.actors), bundles, strategy))
        return self.placements[-1]

    def strategy(self, placement, placement_group_bundle_index):
        assert placement in self.placements
        return placement_group_bundle_index

    def remote(self, host):
        def options(**options):
            def remote(*arguments):
                self.actors.append(Actor(options, arguments))
                return self.actors[-1]

            return types.SimpleNamespace(remote=remote)

        return types.SimpleNamespace(options=options)

    def nodes(self):
        return [{"Alive": True, "Resources": {"CPU": 2.0}}] * 3

    def cluster_resources(self):
        return {"CPU": 6.0}

    def wait(self, calls, num_returns=1, timeout=None):
        return [call for call in calls if call[0].sent], []

    def get(self, call):
        sent, call[0].sent = call[0].sent, []
        if isinstance(sent, Exception):
            raise sent
        return sent

    def kill(self, actor):
        actor.is_killed = True

    def is_initialized(self):
        return True


@pytest.fixture
def cluster(monkeypatch):
    cluster = Cluster()
    monkeypatch.setattr("spjax.extras.import_module", lambda *names: cluster)
    return cluster


def opened(folder, **settings):
    executor = Ray(**settings)
    executor.open(Site(folder, 0))
    return executor


@pytest.fixture
def pair(cluster, tmp_path):
    """Returns an executor whose worker 0 has two machines, and its actors."""
    executor = opened(tmp_path, nodes=2)
    executor.start(0)
    return executor, *cluster.actors


READY, DONE = {"type": "ready"}, {"type": "done"}
DIED = {"type": "died", "message": "ended", "code": -9}


def test_processes_on_two_machines_are_one_worker(cluster, pair, tmp_path):
    executor, first, second = pair
    assert cluster.placements == [(0, [{"CPU": 1.0}] * 2, "STRICT_SPREAD")]
    assert [actor.options["scheduling_strategy"] for actor in (first, second)] == [0, 1]
    assert first.arguments[1] == "worker_0.log" and first.arguments[-2:] == (2, 0)
    assert second.arguments[1] == "worker_0.1.log"
    assert second.arguments[-3:] == (2, 1, "the address")
    first.sent = second.sent = [READY]
    assert executor.events(0) == [(0, READY)]
    executor.submit(0, [tmp_path])
    assert first.orders == second.orders == [[str(tmp_path)]]
    second.sent = [{"type": "progress"}, DONE]
    assert executor.events(0) == []
    first.sent = [DONE]
    assert executor.events(0) == [(0, DONE)]
    executor.close()
    assert first.is_killed and second.is_killed and not cluster.placements


@pytest.mark.parametrize("rank", [0, 1])
def test_a_failure_in_any_process_replaces_all(cluster, pair, tmp_path, rank):
    """The others may wait for it. The new processes take a gang when they have said so."""
    executor, *actors = pair
    failed = {"type": "failed", "message": "no data", "disk": ""}
    actors[rank].sent = [failed]
    assert executor.events(0) == [(0, {**failed, "restarts": True})]
    assert all(actor.is_killed for actor in actors)
    _, _, *others = cluster.actors
    actors[1 - rank].sent = [DIED]
    others[0].sent = [READY]
    assert executor.events(0) == [(0, READY)]
    executor.submit(0, [tmp_path])
    assert [actor.orders for actor in others] == [[[str(tmp_path)]]] * 2
    others[0].sent = [DONE]
    assert executor.events(0) == [(0, DONE)]
    assert len(cluster.placements) == 1


def test_a_lost_machine_is_the_reason_though_its_process_is_missed_later(cluster, pair):
    executor, first, second = pair
    first.sent = [DIED]
    assert executor.events(0) == []
    second.sent = RayError("the node is dead")
    ((worker, event),) = executor.events(0)
    assert worker == 0 and event["type"] == "died" and event["lost"]
    assert "process 0 of 2: ended" in event["message"]
    assert "process 1 of 2: the node is dead" in event["message"]
    assert first.is_killed and second.is_killed and not cluster.placements


def test_a_process_that_ends_on_a_machine_that_lives(pair, monkeypatch):
    executor, first, second = pair
    second.sent = [DIED]
    assert executor.events(0) == []  # a machine may be lost
    first.sent = [DIED]
    ((_, event),) = executor.events(0)
    assert not event["lost"]
    executor.start(0)
    monkeypatch.setattr(ray, "_LOSS_SECONDS", -1)
    executor._ray.actors[-1].sent = [DIED]
    ((_, event),) = executor.events(0)  # the other one may wait for ever
    assert event["message"] == "process 1 of 2: ended" and executor._ray.actors[-2].is_killed


@pytest.mark.parametrize(
    "settings, workers",
    [({}, 6), ({"nodes": 2}, 3), ({"nodes": 3}, 2), ({"nodes": 2, "cpus": 2}, 1)],
)
def test_workers_that_fit(cluster, tmp_path, settings, workers):
    assert opened(tmp_path, **settings).size(100) == workers


def test_more_machines_than_there_are(cluster, tmp_path, caplog):
    assert opened(tmp_path, nodes=4).size(100) == 1
    assert "no set of 4 machines of the Ray cluster has room for a worker with" in caplog.text


def test_several_machines_without_a_resource():
    with pytest.raises(ValueError, match="Ray.nodes is 2: give a worker a resource on each"):
        Ray(nodes=2, cpus=0)
