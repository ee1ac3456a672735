"""Workers on the machines of a Ray cluster; needs the extra `ray`."""

from __future__ import annotations

import dataclasses
import logging
import os
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from spjax import subprocesses
from spjax.studies.executor import Event, Executor, Site, setting
from spjax.studies.worker_process import WorkerProcess

_log = logging.getLogger(__name__)
_PASSED_ON = ("JAX_", "XLA_", "SPJAX_", "PYTHONPATH")  # beginnings of variables of the environment
_POLL_SECONDS = 1.0
_CONNECT_SECONDS = 20.0
# After the death of a process of a worker, until Ray notices that a machine is why.
_LOSS_SECONDS = 30.0


class Host:
    """An actor: it holds the resources of a worker on one machine, and the process there."""

    def __init__(
        self,
        folder: str,
        log: str,
        train: str,
        variables: Mapping[str, str],
        working_folder: str,
        nodes: int = 1,
        rank: int = 0,
        coordinator: str = "",
    ) -> None:
        """Starts the process; see `WorkerProcess`.

        Args:
          folder: of the study.
          log: name of the file that the process prints to.
          train: see `spjax.studies.executor.Site`.
          variables: of the driver's environment.
          working_folder: of the driver.
          nodes: processes of the worker.
          rank: of this one among them.
          coordinator: address of the first one, empty there.
        """
        for shared in (folder, working_folder):
            if not os.path.isdir(shared):
                raise FileNotFoundError(
                    f"the machine {os.uname().nodename} has no folder {shared}: all machines of "
                    "the cluster need the study's folder and the working directory on a shared "
                    "file system."
                )
        os.environ.update(variables)
        # Ray lets an actor live on whose raylet was killed, and others take its gang over.
        os.environ[subprocesses.VARIABLE] = str(os.getppid())
        subprocesses.exit_with_parent()
        os.chdir(working_folder)  # paths in configurations may be relative to it
        self._coordinator = coordinator or _free_address()
        join = {
            "JAX_COORDINATOR_ADDRESS": self._coordinator,
            "JAX_PROCESS_COUNT": str(nodes),
            "JAX_PROCESS_ID": str(rank),
        }
        self._process = WorkerProcess(
            Path(folder) / "logs" / log,
            train,
            is_distributed=nodes > 1,
            variables=join if nodes > 1 else {},
        )

    def coordinator(self) -> str:
        """Returns the address at which the processes of the worker meet."""
        return self._coordinator

    def submit(self, folders: Sequence[str]) -> None:
        """Gives it a gang."""
        self._process.submit([Path(folder) for folder in folders])

    def events(self, timeout: float) -> list[Event]:
        """Returns what the process has sent, after waiting at most so many seconds."""
        return self._process.events(timeout)


def _free_address() -> str:
    """Returns an address of this machine, with a port at which nothing listens."""
    import ray

    with socket.socket() as free:
        free.bind(("", 0))
        return f"{ray.util.get_node_ip_address()}:{free.getsockname()[1]}"


def _reach(address: str) -> None:
    """Tries to connect to a HOST:PORT; Ray itself tries for many minutes.

    Raises:
      OSError: nothing answers there.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()


@dataclasses.dataclass
class _Group:
    """The actors of a worker, one on each of its machines.

    Attributes:
      actors: in the order of their ranks.
      placement: the placement group, None where there is one actor.
      calls: that ask an actor for events, by rank.
      deaths: of processes, by rank.
      since: time of the first death.
    """

    actors: Sequence[Any]
    placement: Any = None
    calls: dict[int, Any] = dataclasses.field(default_factory=dict)
    deaths: dict[int, Event] = dataclasses.field(default_factory=dict)
    since: float = 0.0

    def add_death(self, rank: int, event: Event) -> None:
        """Takes note of the end of a process."""
        self.since = self.since or time.monotonic()
        self.deaths[rank] = event

    def death(self) -> Event | None:
        """Returns that of the worker: once it is known whether a lost machine is the reason."""
        count = len(self.actors)
        is_lost = any(event.get("lost", False) for event in self.deaths.values())
        is_late = self.deaths and time.monotonic() - self.since > _LOSS_SECONDS
        if not (is_lost or is_late or len(self.deaths) == count):
            return None
        messages = [
            f"process {rank} of {count}: {event['message']}" if count > 1 else event["message"]
            for rank, event in self.deaths.items()
        ]
        return {"type": "died", "message": "\n".join(messages), "lost": is_lost}


@dataclasses.dataclass
class Ray(Executor):
    """Runs gangs in actors, which stay warm from one gang to the next.

    A worker is an actor, or one on each of `nodes` machines, whose processes train together.
    Each holds the resources that are set here; Ray makes its GPUs or TPU chips the visible ones.
    What a worker prints goes to `logs/worker_<i>.log` in the study's folder. A lost machine or a
    preempted actor is replaced when there is room, and its gang goes on from its checkpoints.
    Actors end with this process. Variables of its environment that begin with JAX_, XLA_ or SPJAX_,
    and PYTHONPATH, hold for the workers too.
    """

    address: str = setting(
        "",
        'of the cluster: "auto", HOST:PORT or ray://HOST:10001; empty starts Ray on this machine',
    )
    nodes: int = setting(1, "machines of each worker, whose processes train together")
    cpus: float = setting(1.0, "cores of each worker, on each of its machines")
    gpus: int = setting(0, "GPUs of each worker, on each of its machines")
    tpus: int = setting(0, "TPU chips of each worker, on each of its machines")
    memory_gb: float = setting(
        0.0, "memory of each worker in GB, on each of its machines; 0 to reserve none"
    )

    def __post_init__(self) -> None:
        """Checks the settings."""
        super().__post_init__()
        if self.nodes > 1 and not self._needs():
            raise ValueError(
                f"Ray.nodes is {self.nodes}: give a worker a resource on each of its machines, "
                "such as Ray.cpus = 1."
            )
        self._ray: Any = None
        self._shuts_down = False
        self._groups: dict[int, _Group] = {}

    def open(self, site: Site) -> None:
        """Connects to the cluster, or starts Ray on this machine."""
        from spjax import extras

        ray = extras.import_module("ray", "ray", "the executor ray")
        self._site = site
        if not ray.is_initialized():
            options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.WARNING}
            if not self.address:
                options |= {"address": "local", "include_dashboard": False}
            try:
                _reach(self.address)
                ray.init(**{"address": self.address, **options})
            except (OSError, RuntimeError, ValueError) as error:
                raise ValueError(
                    f"cannot connect to the Ray cluster {self.address!r}: {error}"
                ) from error
            self._shuts_down = True
        self._ray = ray

    def size(self, gangs: int) -> int:
        """Returns the number of workers that the present machines have room for, at least one."""
        fitting = [self._fitting(node["Resources"]) for node in self._ray.nodes() if node["Alive"]]
        room = sum(fitting) // self.nodes
        while sum(min(count, room) for count in fitting) < room * self.nodes:
            room -= 1  # a worker has one process on a machine
        if not room:
            _log.warning(
                "%s of the Ray cluster has room for a worker with %s at the moment; waiting for "
                "%s. The cluster has %s.",
                "no machine" if self.nodes == 1 else f"no set of {self.nodes} machines",
                self._needs(),
                "one" if self.nodes == 1 else "machines",
                self._ray.cluster_resources(),
            )
        return max(1, min(self.workers or room, gangs))

    def start(self, worker: int) -> None:
        """Makes its actors; Ray starts them as soon as there is room for all of them."""
        self._drop(worker)
        variables = {
            name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON)
        }
        if self.cpus <= 1 and not self.gpus and not self.tpus:
            flags = variables.get("XLA_FLAGS", "")
            variables["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()
        actors: list[Any] = []
        placement = self._placement()
        self._groups[worker] = _Group(actors, placement)
        for rank in range(self.nodes):
            actor = self._ray.remote(Host).options(**self._options(placement, rank))
            log = f"worker_{worker}.{rank}.log" if rank else f"worker_{worker}.log"
            place = str(self._site.folder.absolute()), log, self._site.train
            # Ray makes this actor when the first one has told its address.
            join = [actors[0].coordinator.remote()] if rank else []
            actors.append(actor.remote(*place, variables, os.getcwd(), self.nodes, rank, *join))

    def submit(self, worker: int, folders: Sequence[Path]) -> None:
        """Gives the processes of a worker a gang."""
        for actor in self._groups[worker].actors:
            actor.submit.remote([str(folder.absolute()) for folder in folders])

    def events(self, timeout: float) -> list[tuple[int, Event]]:
        """Returns what the first processes have sent, and the failure or death of any."""
        calls: dict[Any, tuple[int, _Group, int]] = {}
        for worker, group in self._groups.items():
            for rank, actor in enumerate(group.actors):
                if rank not in group.calls and rank not in group.deaths:
                    group.calls[rank] = actor.events.remote(_POLL_SECONDS)
            calls |= {call: (worker, group, rank) for rank, call in group.calls.items()}
        self._ray.wait(list(calls), timeout=timeout)
        ended, _ = self._ray.wait(list(calls), num_returns=len(calls), timeout=0)
        result = []
        for call in ended:
            worker, group, rank = calls[call]
            del group.calls[rank]
            for event in self._answer(call):
                if self._groups.get(worker) is group and self._takes(worker, rank, event):
                    result.append((worker, event))
        for worker, group in list(self._groups.items()):
            if death := group.death():
                result.append((worker, death))
                self._drop(worker)
        return result

    def _takes(self, worker: int, rank: int, event: Event) -> bool:
        """Returns whether the event of a process is one of its worker."""
        if event["type"] == "died":
            self._groups[worker].add_death(rank, event)
            return False
        if event["type"] == "failed" and self.nodes > 1:  # the others may wait for that process
            self.start(worker)
            event["restarts"] = True
            return True
        return not rank

    def close(self) -> None:
        """Ends all actors, and the connection or the Ray that `open` has made."""
        if self._ray is None:
            return
        for worker in list(self._groups):
            self._drop(worker)
        if self._shuts_down:
            self._ray.shutdown()

    def _answer(self, call: Any) -> list[Event]:
        """Returns the events that an actor has answered with, or its death."""
        try:
            events: list[Event] = self._ray.get(call)
            return events
        except self._ray.exceptions.RayTaskError as error:  # of our own code
            return [{"type": "died", "message": str(error), "lost": False}]
        except self._ray.exceptions.RayError as error:
            is_lost = not getattr(error, "actor_init_failed", False)
            return [{"type": "died", "message": str(error), "lost": is_lost}]

    def _drop(self, worker: int) -> None:
        if (group := self._groups.pop(worker, None)) is None:
            return
        for actor in group.actors:
            self._ray.kill(actor)
        if group.placement is not None:
            self._ray.util.remove_placement_group(group.placement)

    def _placement(self) -> Any:
        """Returns a reservation of several machines, None for a worker of one machine."""
        if self.nodes == 1:
            return None
        bundles = [self._needs()] * self.nodes
        return self._ray.util.placement_group(bundles, strategy="STRICT_SPREAD")

    def _options(self, placement: Any, rank: int) -> dict[str, Any]:
        """Returns what an actor needs, and where."""
        needs = dict(self._needs())
        options = {
            "num_cpus": needs.pop("CPU", 0),
            "num_gpus": needs.pop("GPU", 0),
            "memory": needs.pop("memory", None),
            "resources": needs,
        }
        if placement is not None:
            strategies = self._ray.util.scheduling_strategies
            options["scheduling_strategy"] = strategies.PlacementGroupSchedulingStrategy(
                placement, placement_group_bundle_index=rank
            )
        return options

    def _needs(self) -> dict[str, float]:
        """Returns the resources of a worker by Ray's names; what is 0 is left out."""
        needs = {
            "CPU": self.cpus,
            "GPU": self.gpus,
            "TPU": self.tpus,
            "memory": self.memory_gb * 1e9,
        }
        return {name: amount for name, amount in needs.items() if amount}

    def _fitting(self, resources: Mapping[str, float]) -> int:
        """Returns the number of workers that fit on a machine."""
        needs = self._needs()
        if not needs:
            return 1
        return int(min(resources.get(name, 0) // amount for name, amount in needs.items()))
