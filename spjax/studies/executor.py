"""The interface of executors: how the runner has gangs trained, wherever that is."""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

MOST_WORKERS = 100_000
TRAIN = "spjax.studies.worker:train_folders"
Event = dict[str, Any]


def setting(default: Any, help: str) -> Any:
    """Returns a field of an executor that gin, and a flag of its name, can set."""
    return dataclasses.field(default=default, metadata={"help": help})


@dataclasses.dataclass(frozen=True)
class Site:
    """The study that an executor works for.

    Attributes:
      folder: of the study, on a file system that workers share with this process.
      lock: descriptor of the folder's lock.
      train: dotted path "module:function" of what a worker calls with the run folders.
    """

    folder: Path
    lock: int
    train: str = TRAIN


@dataclasses.dataclass
class Executor(abc.ABC):
    """Workers that train gangs, numbered from 0; subclasses are dataclasses of their settings.

    The runner calls `open`, `running`, `size`, then `start` for every worker, and `submit` for each
    that has reported "ready" or ended a gang; it takes `events` all the time, and at last calls
    `close`, whatever has happened. It may be killed at any moment: a run is finished when its
    `result.json` is there, and otherwise goes on from its last checkpoint.

    Attributes:
      is_warm: a worker keeps its compiled programs from one gang to the next, so that gangs of one
        group go to the same worker where possible.
      outlives_driver: gangs go on when this process has ended.
      measures: gang widths are measured on this machine, which has the devices of the workers.
    """

    workers: int = setting(0, "workers at the same time; 0 for as many as there is room for")
    is_warm: ClassVar[bool] = True
    outlives_driver: ClassVar[bool] = False
    measures: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Checks the settings.

        Raises:
          ValueError: one of them is not allowed.
        """
        if (nodes := getattr(self, "nodes", 1)) < 1:
            raise ValueError(f"{type(self).__name__}.nodes is {nodes}; it must be 1 or more.")
        for name in (
            "workers",
            "devices_per_worker",
            "cpus",
            "gpus",
            "tpus",
            "memory_gb",
            "poll_seconds",
        ):
            if not 0 <= (value := getattr(self, name, 0)) < math.inf:
                raise ValueError(f"{type(self).__name__}.{name} is {value}; it must be 0 or more.")
        if self.workers > MOST_WORKERS:
            raise ValueError(
                f"{type(self).__name__}.workers is {self.workers}; it must be at most "
                f"{MOST_WORKERS}, or 0 for as many as there is room for."
            )

    def expected_workers(self) -> int:
        """Returns the number of workers to plan with, before anything is started."""
        return self.workers or 1

    @abc.abstractmethod
    def open(self, site: Site) -> None:
        """Connects to where workers will be.

        Raises:
          ValueError: the settings do not fit it, or a package of the extra is not installed.
        """

    def running(self) -> list[list[str]]:
        """Returns gangs that are still trained since an earlier call, as names of run folders.

        They belong to the workers 0, 1, ...
        """
        return []

    @abc.abstractmethod
    def size(self, gangs: int) -> int:
        """Returns the number of workers to start for so many gangs, beside `running`."""

    @abc.abstractmethod
    def start(self, worker: int) -> None:
        """Starts or replaces a worker; it reports "ready" when it can take a gang."""

    @abc.abstractmethod
    def submit(self, worker: int, folders: Sequence[Path]) -> None:
        """Gives a worker that is ready the gang whose runs are in `folders`."""

    @abc.abstractmethod
    def events(self, timeout: float) -> list[tuple[int, Event]]:
        """Returns events as (worker, event), after waiting at most about `timeout` seconds.

        Events have a "type":
          "ready": it can take a gang;
          "progress": with step, steps, stage and scores;
          "done", "failed": the gang has ended, and the worker can take another one; a failure has
            a message, disk if the disk is why, and restarts if it is "ready" after that alone;
          "died": with a message, and lost if its machine is why; nothing of the worker is left;
          "left": the gang will be trained without this process.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Ends this process's part at once; run folders stay usable whenever that happens."""


def settings(executor: type[Executor]) -> Mapping[str, dataclasses.Field[Any]]:
    """Returns the fields that can be set, by name."""
    return {field.name: field for field in dataclasses.fields(executor) if field.init}
