"""The interface of trackers: experiment tracking services that a run reports to."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar


@dataclasses.dataclass(frozen=True)
class TrackedRun:
    """A run as trackers see it.

    Attributes:
      folder: of the run.
      project: name of the study, or "spjax" for a single run.
      name: a short text of the labels.
      labels: from `labels.labels_of`, without those that are None.
      settings: all settings of the run, by dotted name.
      step: that the run goes on from; 0 for a new one.
      id: that the tracker gave the run when it began; "" for a new one.
    """

    folder: Path
    project: str
    name: str
    labels: Mapping[str, Any]
    settings: Mapping[str, Any]
    step: int = 0
    id: str = ""


class Tracker(abc.ABC):
    """One run in one tracking service; may raise anything at any time.

    The loop calls `log` for every row of `metrics.jsonl`, `finish` when there is a result, and
    `close` in any case. After a kill a later process makes a new object with the same id; steps
    since the last checkpoint then come again, with the same values.

    Attributes:
      package: that it needs, as it is imported.
      extra: of pyproject.toml that has the package; "" if spjax always has it.
      id: by which the tracker finds the run again.
    """

    package: ClassVar[str] = ""
    extra: ClassVar[str] = ""
    id: str = ""

    @abc.abstractmethod
    def __init__(self, run: TrackedRun) -> None:
        """Begins a run, or continues the one with `run.id`."""

    @abc.abstractmethod
    def log(self, step: int, values: Mapping[str, float]) -> None:
        """Reports values of a step."""

    @abc.abstractmethod
    def finish(self, status: str) -> None:
        """Marks the run as "finished", "pruned" or "diverged"."""

    @abc.abstractmethod
    def close(self) -> None:
        """Sends what has not been sent, and lets go of the run."""
