"""The table of tasks: what each one reads, says and is scored by.

A task is one row. The format (template, labels, metrics) is written once per dataset, in
`formats`, so that another source of the same dataset is another line in `_TASKS` and nothing else.
"""

from __future__ import annotations

import dataclasses
from typing import Mapping

from spjax.data.tasks.formats import FORMATS, Format


@dataclasses.dataclass(frozen=True)
class TaskInfo:
    """A task: a format and a source of records.

    Attributes:
      name: what users call it.
      format: how records become text and how predictions are scored.
      source: where the records come from, `pocket:<name in spjax.pocket.tasks>`.
      version: version of the records.
      input_length: the most input tokens, EOS included; longer texts are cut.
      target_length: likewise for targets.
      vocabulary: name or path of the vocabulary it is read with unless the model says otherwise.
      splits: names of its splits.
    """

    name: str
    format: Format
    source: str
    version: str
    input_length: int
    target_length: int
    vocabulary: str
    splits: tuple[str, ...] = ("train", "validation", "test")

    @property
    def lengths(self) -> dict[str, int]:
        """The most tokens of `inputs` and `targets`, EOS included."""
        return {"inputs": self.input_length, "targets": self.target_length}

    @property
    def labels(self) -> tuple[str, ...]:
        """The words for labels 0, 1, ...; empty where the answer is free text."""
        return self.format.labels

    @property
    def class_labels(self) -> tuple[str, ...]:
        """Words for class-label initialisation of a prompt."""
        return self.format.class_labels or self.format.labels

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics, in `spjax.metrics.METRICS`."""
        return self.format.metrics

    @property
    def postprocess(self) -> str:
        """Name of the post-processor, in `spjax.metrics.POSTPROCESSORS`."""
        return self.format.postprocess

    @property
    def ceiling(self) -> float | None:
        """What a perfect reader scores in percent, None where nobody knows."""
        kind, _, name = self.source.partition(":")
        if kind != "pocket":
            return None
        from spjax.pocket import tasks  # here, because making the world's tables takes time

        return tasks.TASKS[name].ceiling


def _pocket(name: str, dataset: str) -> TaskInfo:
    return TaskInfo(
        name=f"pocket_{name}",
        format=FORMATS[dataset],
        source=f"pocket:{name}",
        version="2.0.0",
        input_length=128,  # the longest text of the world has some 60 tokens
        target_length=16,
        vocabulary="pocket",
    )


_TASKS: Mapping[str, TaskInfo] = {
    info.name: info
    for info in (
        _pocket("boolq", "boolq"),
        _pocket("cb", "cb"),
        _pocket("copa", "copa"),
        _pocket("multirc", "multirc"),
        _pocket("record", "record"),
        _pocket("rte", "rte"),
        _pocket("wic", "wic"),
        _pocket("wsc", "wsc"),
        _pocket("sentiment", "sst2"),
    )
}


def names() -> tuple[str, ...]:
    """The names of all tasks, in the order of the table."""
    return tuple(_TASKS)


def get(name: str) -> TaskInfo:
    """The task called `name`.

    Raises:
      ValueError: there is no such task; the message lists those there are.
    """
    if name not in _TASKS:
        raise ValueError(f"unknown task {name!r}; the known tasks are {', '.join(_TASKS)}")
    return _TASKS[name]
