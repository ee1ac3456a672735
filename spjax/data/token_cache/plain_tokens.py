"""Tokenizes the tasks whose records are Python values: generated tasks and the user's own files.

Yields the same ids and fields as `spjax.data.token_cache.seqio_tasks` for the same records, without
TensorFlow.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from spjax.data.tasks import capacity_records, capacity_tasks, file_task, templates
from spjax.data.tasks.info import TaskInfo
from spjax.vocabularies.vocabulary import load_vocabulary

SOURCES = (
    "pocket:",
    capacity_tasks.SOURCE,
    file_task.SOURCE,
)  # how `TaskInfo.source` begins for these tasks


def records(source: str, split: str, vocabulary: str) -> Sequence[Mapping[str, Any]]:
    """Returns the records of a split in the order of their source.

    Args:
      source: of a task, one that begins as `SOURCES` do.
      split: one of the task's splits.
      vocabulary: name or path, for tasks that are made from its pieces.

    Raises:
      ValueError: a file has bad rows, or there is no such split.
    """
    if source.startswith(file_task.SOURCE):
        return file_task.records(source, split)
    if source.startswith(capacity_tasks.SOURCE):
        return capacity_records.records(source, split, vocabulary)
    from spjax.pocket import tasks  # here, because making the world's tables takes time

    return tasks.TASKS[source.removeprefix("pocket:")].records(split)


def examples(
    info: TaskInfo, split: str, lengths: Mapping[str, int], vocabulary: str = ""
) -> Iterator[tuple[np.ndarray, np.ndarray, dict[str, Any]]]:
    """Yields int32 ids of inputs and targets, and the raw fields, of every example in order.

    Args:
      info: the row of the task; its source is one of `SOURCES`.
      split: one of its splits.
      lengths: the most `inputs` and `targets` ids, EOS included; longer texts are cut.
      vocabulary: name or path of another vocabulary than the task's own.

    Raises:
      ValueError: a file has bad rows, or the template refuses a record.
    """
    loaded = load_vocabulary(vocabulary or info.vocabulary)
    template = templates.TEMPLATES[info.format.template]
    prefix = f"{info.format.task_name} " if info.with_task_name else ""

    def cut(ids: list[int], length: int) -> np.ndarray:
        return np.asarray(ids[: length - 1] + [loaded.eos_id], np.int32)

    def examples_of(record: Mapping[str, Any]) -> list[dict[str, Any]]:
        try:
            return template(
                record,
                labels=info.format.labels,
                features=info.format.features,
                training=split == "train",
            )
        except ValueError as error:
            raise ValueError(f"{info.name}: {error}") from error

    for record in records(info.source, split, vocabulary or info.vocabulary):
        for fields in examples_of(record):
            inputs, targets = prefix + fields.pop("inputs"), fields.pop("targets")
            # Through JSON, as they come back from the cache: tuples become lists.
            raw_fields = json.loads(json.dumps(fields, sort_keys=True))
            yield (
                cut(loaded.encode(inputs), lengths["inputs"]),
                cut(loaded.encode_target(targets, info.sentinel), lengths["targets"]),
                raw_fields | {"inputs_text": inputs, "targets_text": targets},
            )
