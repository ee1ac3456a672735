"""Tasks by name, from a user's file, or from pairs in memory."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
from collections.abc import Sequence
from typing import Any

from spjax.api.messages import python_messages
from spjax.data import overview
from spjax.data.tasks import file_rows, file_task, registry
from spjax.data.tasks.file_task import FileTask
from spjax.data.tasks.info import Mixture
from spjax.files import default_cache_dir, write_text

Pairs = Sequence[tuple[str, str]]
_FILE_OPTIONS = ("template", "target", "input_length", "target_length")


@dataclasses.dataclass(frozen=True)
class Task:
    """A task or mixture to train on or to score.

    Attributes:
      source: the name of a shipped task or mixture, or the `FileTask` of a user's files; what
        `Run.task` takes and `config.gin` keeps.
    """

    source: str | FileTask

    @functools.cached_property
    def mixture(self) -> Mixture:
        """The tasks that are trained on, scored and transferred to."""
        return registry.mixture(self.source)

    @property
    def name(self) -> str:
        """Name in results and tables."""
        return str(self.source)

    @property
    def labels(self) -> tuple[str, ...]:
        """Label words; empty where targets are free text."""
        return self.mixture.trained[0].labels

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics."""
        return self.mixture.trained[0].metrics

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits."""
        return self.mixture.trained[0].splits

    def examples(self, split: str = "train") -> list[tuple[str, str]]:
        """Returns the (input, target) texts of a split, of a mixture's first task.

        Raises:
          ValueError: the task has no such split.
        """
        if split not in self.splits:
            raise ValueError(
                f"{self.name} has no split {split!r}; it has {', '.join(self.splits)}."
            )
        return overview.examples(self.mixture.trained[0])[split]


def load_task(
    task: str | os.PathLike[str] | Pairs | FileTask | Task,
    *,
    validation: str | os.PathLike[str] | Pairs = "",
    test: str | os.PathLike[str] | Pairs = "",
    labels: Sequence[str] = (),
    metrics: Sequence[str] = (),
    name: str = "",
    **options: Any,
) -> Task:
    """Loads a task.

    Args:
      task: the name of a shipped task or mixture (`list_tasks`); the path of a file of examples
        (.jsonl, .csv, .tsv or .parquet); or a list of (input, target) pairs. Pairs are written
        once to a file in the cache folder, named after their content, so that the command line
        can read what Python has trained on.
      validation: validation examples, a file or pairs like `task`; "" to hold out 10 % of the
        examples, chosen by a hash of the input.
      test: likewise.
      labels: the words that targets are taken from; () for free text.
      metrics: names of metrics; see `FileTask`.
      name: of the task in tables.
      **options: further fields of `FileTask` for a file: `template`, `target`, `input_length`,
        `target_length`.

    Raises:
      ValueError: an unknown task, a file or list that cannot be used, or options of a file given
        for a shipped task.
    """
    if isinstance(task, Task):
        task = task.source
    if unknown := sorted(set(options) - set(_FILE_OPTIONS)):
        raise ValueError(
            f"load_task has no option {unknown[0]!r}; a file or a list of pairs takes validation, "
            f"test, labels, metrics, name, {', '.join(_FILE_OPTIONS)}."
        )
    settings = {"labels": _words(labels), "metrics": _words(metrics), "name": name, **options}
    settings = {key: value for key, value in settings.items() if value}
    paths: dict[str, Any] = {"path": task, "validation": validation, "test": test}
    if isinstance(task, FileTask) or isinstance(task, str) and not file_task.is_path(task):
        extra = [*settings, *(key for key in ("validation", "test") if not _is_empty(paths[key]))]
        if extra:
            raise ValueError(
                f"{extra[0]} is given for the task {str(task)!r}, which says that itself; only a "
                f"file ({', '.join(file_rows.ENDINGS)}) or a list of pairs takes it."
            )
        source = task
    else:
        if not isinstance(task, (str, os.PathLike)):
            settings = {"name": "pairs", **settings}
        files: dict[str, Any] = {key: path_of_pairs(value, key) for key, value in paths.items()}
        with python_messages():
            source = FileTask(**files, **settings)
    with python_messages():
        registry.mixture(source)
    return Task(source)


def list_tasks() -> list[str]:
    """Returns the names of all shipped tasks and mixtures."""
    return [*registry.names(), *registry.mixture_names()]


def _words(words: str | Sequence[str]) -> tuple[str, ...]:
    return (words,) if isinstance(words, str) and words else tuple(words)


def _is_empty(examples: Any) -> bool:
    return not isinstance(examples, os.PathLike) and not len(examples)


def path_of_pairs(examples: str | os.PathLike[str] | Pairs, argument: str) -> str:
    """The path of a file of examples; pairs are written to one that their content names.

    Raises:
      ValueError: it is neither a path nor a list of pairs of texts.
    """
    if isinstance(examples, (str, os.PathLike)):
        return os.fspath(examples)
    if not isinstance(examples, Sequence):
        raise ValueError(
            f"{argument} is a {type(examples).__name__}; give the name of a task, the path of a "
            "file, or a list of (input, target) pairs."
        )
    rows = []
    for i, pair in enumerate(examples):
        is_pair = isinstance(pair, Sequence) and not isinstance(pair, str) and len(pair) == 2
        if not is_pair or not all(isinstance(text, str) for text in pair):
            raise ValueError(
                f"item {i} of {argument} is {pair!r}; every item must be a pair of two texts, "
                "(input, target)."
            )
        rows.append(json.dumps({"input": pair[0], "target": pair[1]}, ensure_ascii=False))
    if not rows:
        if argument != "path":
            return ""
        raise ValueError("the list of examples is empty; give at least one (input, target) pair.")
    text = "\n".join(rows) + "\n"
    path = default_cache_dir() / "pairs" / f"{hashlib.sha256(text.encode()).hexdigest()}.jsonl"
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)
    return str(path)
