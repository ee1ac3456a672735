"""Worker processes on this machine, each on its own cores and accelerators."""

from __future__ import annotations

import dataclasses
import os
import selectors
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from spjax.studies import devices
from spjax.studies.executor import Event, Executor, Site, setting
from spjax.studies.worker_process import WorkerProcess


@dataclasses.dataclass
class Local(Executor):
    """Runs gangs in processes that stay warm from one gang to the next.

    Each has its own accelerators, or its own core where there are none. The processes die with the
    one that made this object and hold the study's lock as long as they live. What they print goes
    to `logs/worker_<i>.log`.
    """

    devices_per_worker: int = setting(1, "accelerators of each worker, for a mesh of several")
    measures: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Checks the settings."""
        super().__post_init__()
        if self.devices_per_worker < 1:
            raise ValueError(
                f"Local.devices_per_worker is {self.devices_per_worker}; use 1 or more."
            )
        self._processes: dict[int, WorkerProcess] = {}
        self._selector = selectors.DefaultSelector()
        self._count = 1

    def expected_workers(self) -> int:
        """Returns `workers`, or one for each slice of accelerators, or for each core without any.

        Raises:
          ValueError: there are not enough accelerators for so many workers.
        """
        slices = self._slices()
        if slices and self.workers > len(slices):
            raise ValueError(
                f"--workers={self.workers} with --devices_per_worker={self.devices_per_worker}, "
                f"and this machine has {len(devices.accelerators().names)} devices; {len(slices)} "
                "workers can have their own."
            )
        return self.workers or len(slices) or len(devices.cores())

    def open(self, site: Site) -> None:
        """Checks the number of workers."""
        self._site = site
        self.expected_workers()

    def size(self, gangs: int) -> int:
        """Returns the number of processes, at most one for each gang."""
        self._count = max(1, min(self.expected_workers(), gangs))
        return self._count

    def start(self, worker: int) -> None:
        """Starts process number `worker`."""
        cores: list[int] = []
        variables = dict(self._slices()[worker]) if self._slices() else {}
        if self._count > 1:
            all_cores = devices.cores()
            cores = all_cores[worker :: self._count] or [all_cores[worker % len(all_cores)]]
        if len(cores) == 1:
            flags = os.environ.get("XLA_FLAGS", "")
            variables["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()
            variables["OMP_NUM_THREADS"] = "1"
        process = WorkerProcess(
            self._site.folder / "logs" / f"worker_{worker}.log",
            self._site.train,
            cores=cores,
            variables=variables,
            pass_fds=[self._site.lock],
        )
        self._processes[worker] = process
        self._selector.register(process.descriptor, selectors.EVENT_READ, worker)

    def submit(self, worker: int, folders: Sequence[Path]) -> None:
        """Gives process number `worker` a gang."""
        self._processes[worker].submit(folders)

    def events(self, timeout: float) -> list[tuple[int, Event]]:
        """Returns what the processes have sent."""
        result = []
        for key, _ in self._selector.select(timeout):
            events = self._processes[key.data].read()
            result += [(key.data, event) for event in events]
            if events and events[-1]["type"] == "died":
                self._end(key.data)
        return result

    def close(self) -> None:
        """Ends all processes."""
        for worker in list(self._processes):
            self._end(worker)

    def _end(self, worker: int) -> None:
        process = self._processes.pop(worker)
        self._selector.unregister(process.descriptor)
        process.close()

    def _slices(self) -> list[Mapping[str, str]]:
        accelerators = devices.accelerators()
        return accelerators.slices(self.devices_per_worker) if accelerators.names else []
