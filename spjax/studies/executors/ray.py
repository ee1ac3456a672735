"""Workers on the machines of a Ray cluster; needs the extra `ray`."""

from __future__ import annotations

import dataclasses
import logging
import os
import socket
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


class Host:
    """An actor: it holds the resources of a worker, and the worker's process."""

    def __init__(
        self, folder: str, log: str, train: str, variables: Mapping[str, str], working_folder: str
    ) -> None:
        """Starts the process; see `WorkerProcess`."""
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
        self._process = WorkerProcess(Path(folder) / "logs" / log, train)

    def submit(self, folders: Sequence[str]) -> None:
        """Gives it a gang."""
        self._process.submit([Path(folder) for folder in folders])

    def events(self, timeout: float) -> list[Event]:
        """Returns what the process has sent, after waiting at most so many seconds."""
        return self._process.events(timeout)


def _reach(address: str) -> None:
    """Tries to connect to a HOST:PORT; Ray itself tries for many minutes.

    Raises:
      OSError: nothing answers there.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_SECONDS).close()


@dataclasses.dataclass
class Ray(Executor):
    """Runs gangs in actors, which stay warm from one gang to the next.

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
    cpus: float = setting(1.0, "cores of each worker")
    gpus: int = setting(0, "GPUs of each worker")
    tpus: int = setting(0, "TPU chips of each worker")
    memory_gb: float = setting(0.0, "memory of each worker in GB; 0 to reserve none")

    def __post_init__(self) -> None:
        """Checks the settings."""
        super().__post_init__()
        self._ray: Any = None
        self._shuts_down = False
        self._actors: dict[int, Any] = {}
        self._calls: dict[int, Any] = {}

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
        room = sum(self._fitting(node["Resources"]) for node in self._ray.nodes() if node["Alive"])
        if not room:
            _log.warning(
                "no machine of the Ray cluster has room for a worker with %s at the moment; "
                "waiting for one. The cluster has %s.",
                self._needs(),
                self._ray.cluster_resources(),
            )
        return max(1, min(self.workers or room, gangs))

    def start(self, worker: int) -> None:
        """Makes an actor; Ray starts it as soon as there is room for it."""
        self._drop(worker)
        needs = dict(self._needs())
        actor = self._ray.remote(Host).options(
            num_cpus=needs.pop("CPU", 0),
            num_gpus=needs.pop("GPU", 0),
            memory=needs.pop("memory", None),
            resources=needs,
        )
        variables = {
            name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON)
        }
        if self.cpus <= 1 and not self.gpus and not self.tpus:
            flags = variables.get("XLA_FLAGS", "")
            variables["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()
        folder, log = str(self._site.folder.absolute()), f"worker_{worker}.log"
        self._actors[worker] = actor.remote(folder, log, self._site.train, variables, os.getcwd())

    def submit(self, worker: int, folders: Sequence[Path]) -> None:
        """Gives an actor's process a gang."""
        self._actors[worker].submit.remote([str(folder.absolute()) for folder in folders])

    def events(self, timeout: float) -> list[tuple[int, Event]]:
        """Returns what the processes have sent."""
        for worker, actor in self._actors.items():
            if worker not in self._calls:
                self._calls[worker] = actor.events.remote(_POLL_SECONDS)
        calls = list(self._calls.values())
        self._ray.wait(calls, timeout=timeout)
        ended, _ = self._ray.wait(calls, num_returns=len(calls), timeout=0)
        result = []
        for worker in [worker for worker, call in self._calls.items() if call in ended]:
            for event in self._answer(worker):
                result.append((worker, event))
                if event["type"] == "died":
                    self._drop(worker)
        return result

    def close(self) -> None:
        """Ends all actors, and the connection or the Ray that `open` has made."""
        if self._ray is None:
            return
        for worker in list(self._actors):
            self._drop(worker)
        if self._shuts_down:
            self._ray.shutdown()

    def _answer(self, worker: int) -> list[Event]:
        """Returns the events that an actor has answered with, or its death."""
        try:
            events: list[Event] = self._ray.get(self._calls.pop(worker))
            return events
        except self._ray.exceptions.RayTaskError as error:  # of our own code
            return [{"type": "died", "message": str(error), "lost": False}]
        except self._ray.exceptions.RayError as error:
            is_lost = not getattr(error, "actor_init_failed", False)
            return [{"type": "died", "message": str(error), "lost": is_lost}]

    def _drop(self, worker: int) -> None:
        self._calls.pop(worker, None)
        if (actor := self._actors.pop(worker, None)) is not None:
            self._ray.kill(actor)

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
