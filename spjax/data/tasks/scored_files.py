"""A user's file of examples to score, read in the format of another task."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from spjax.data.tasks import file_rows, file_task, hub_datasets, registry
from spjax.data.tasks.file_task import SPLITS, FileTask
from spjax.data.tasks.info import TaskInfo

SPLIT = "test"  # the only one of these tasks


def task(
    path: str,
    trained: TaskInfo | None = None,
    labels: Sequence[str] = (),
    columns: Mapping[str, str] = MappingProxyType({}),
) -> TaskInfo:
    """Returns a task whose only split is all rows of a file.

    Template, target, labels, metrics and lengths are those of the task that a prompt was trained
    on, and so is the sentinel in front of targets. Settings that the task does not have
    (only a task of files has columns) are the defaults of `FileTask`.

    Args:
      path: of the file.
      trained: the task of the prompt; None where it is not known.
      labels: of the targets, where `trained` has none.
      columns: `template` and `target` that replace those of `trained`.

    Raises:
      ValueError: the file cannot be read, or its rows are not those of such a task.
    """
    file, variants = file_task.split_path(path)
    if variants:
        raise ValueError(
            f"--task={path}: all rows of a file are scored, as the prompt's own task reads its "
            f"rows, so that there is nothing for {variants!r} to choose. Give {file}."
        )
    settings = (file_task.settings(trained) if trained else {}) | dict(columns)
    if labels and not settings.get("labels"):
        settings |= {"labels": tuple(labels), "metrics": ()}
    marked = ":sentinel" if trained and trained.sentinel else ""
    try:
        return registry.get(FileTask(test=file + marked, **settings))
    except ValueError as error:
        text = str(error).replace(f" {file_rows.NAME_COLUMNS}", "")  # the prompt's task names them
        raise ValueError(f"{text}\nThe file is read with {_described(settings)}.") from error


def note(path: str, info: TaskInfo, trained: TaskInfo | None) -> str:
    """Returns a warning about the scores of a task of `task`, "" if there is none.

    Args:
      path: as of `task`.
      info: what it has returned.
      trained: as of `task`.
    """
    if not (trained and file_task.template(trained)):
        owner = f"the prompt's task, {trained.name}," if trained else "the prompt"
        return (
            f"{owner} does not say how rows of {path} are to be read; they are read with "
            f"{_described(file_task.settings(info))}"
        )
    if info.version == trained.version or is_of(path, trained.source):
        return (
            f"{path} is a file of the prompt's own task, and all of its rows are scored, those of "
            "training among them; without --task only held-out rows are"
        )
    return ""


def is_of(path: str, source: str) -> bool:
    """Returns whether a file is one of a task's; of a dataset, whether it is the training split.

    Args:
      path: of the file or dataset, however it is spelled.
      source: of the task, which has a training file.

    Raises:
      ValueError: the hub cannot be asked for the dataset.
    """
    places = [_place(file_task.split_path(name)[0]) for name in file_task.paths(source)]
    if not hub_datasets.is_source(path):
        return _place(path) in places
    trained = places[0]
    return _place(path) in (f"{trained}#{SPLITS[0]}", trained if "#" in trained else "")


def _place(path: str) -> str:
    """Returns the one way to write a path; of a dataset on the hub, with its commit."""
    if path.startswith(hub_datasets.PREFIX):
        return hub_datasets.pin(path)
    folder, mark, split = path.rpartition("#")
    if mark and hub_datasets.is_source(path):
        return f"{os.path.abspath(os.path.expanduser(folder))}#{split}"
    return os.path.abspath(os.path.expanduser(path))


def _described(settings: Mapping[str, Any]) -> str:
    shown = {**{f.name: f.default for f in dataclasses.fields(FileTask)}, **settings}
    labels = ", ".join(shown["labels"])
    kind = f"the labels {labels}" if labels else "targets of free text"
    return f"the template {shown['template']!r}, the target {shown['target']!r} and {kind}"
