"""Tasks by name, from a user's file, or from examples in memory."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import functools
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from spjax.api.messages import python_messages
from spjax.data import overview
from spjax.data.tasks import file_rows, file_task, hub_datasets, registry
from spjax.data.tasks.file_task import FileTask
from spjax.data.tasks.info import Mixture
from spjax.files import default_cache_dir, write_text

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
    task: Any,
    *,
    validation: Any = "",
    test: Any = "",
    labels: Sequence[str] = (),
    metrics: Sequence[str] = (),
    name: str = "",
    **options: Any,
) -> Task:
    """Loads a task.

    Args:
      task: the name of a shipped task or mixture (`list_tasks`); the path of a file of examples
        (.jsonl, .csv, .tsv or .parquet) or a dataset of Hugging Face; or examples in memory: a list
        of (input, target) pairs or of rows as mappings, a pandas `DataFrame`, a `Dataset` or
        `DatasetDict` of `datasets`. These are written once to the cache folder, named after their
        content, so that the command line can read what Python has trained on.
      validation: validation examples, a file or examples like `task`; "" for the split of a
        `DatasetDict`, or else to hold out 10 % of the examples, chosen by a hash of the input.
      test: likewise.
      labels: the words that targets are taken from; () for free text.
      metrics: names of metrics; see `FileTask`.
      name: of the task in tables.
      **options: further fields of `FileTask` for a file or rows: `template`, `target`,
        `input_length`, `target_length`.

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
                f"file ({', '.join(file_rows.ENDINGS)}), dataset or list takes it."
            )
        source = task
    else:
        if not isinstance(task, (str, os.PathLike)):
            settings = {"name": "pairs" if is_pairs(task) else "rows", **settings}
        files: dict[str, Any] = {key: path_of_examples(value, key) for key, value in paths.items()}
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


def is_pairs(examples: Any) -> bool:
    """Returns whether examples in memory are (input, target) pairs, not rows with columns."""
    return isinstance(examples, Sequence) and not isinstance(next(iter(examples), ()), Mapping)


def path_of_examples(examples: Any, argument: str) -> str:
    """The path of a file or dataset; examples in memory are written to one that they name.

    Raises:
      ValueError: it is neither a path nor examples.
    """
    if isinstance(examples, (str, os.PathLike)):
        return os.fspath(examples)
    package = type(examples).__module__.partition(".")[0]
    if package == "datasets":
        return hub_datasets.store(examples, argument)
    if package == "pandas" and hasattr(examples, "columns"):
        examples = _rows_of_frame(examples, argument)
    if isinstance(examples, Sequence):
        write_line = _line_of_pair if is_pairs(examples) else _line_of_row
        lines = [write_line(example, i, argument) for i, example in enumerate(examples)]
    else:
        raise ValueError(
            f"{argument} is a {type(examples).__name__}; give the name of a task, the path of a "
            "file, a list of (input, target) pairs or of rows as mappings, a DataFrame of pandas, "
            "or a Dataset or DatasetDict of datasets."
        )
    if not lines:
        if argument in ("validation", "test"):
            return ""
        raise ValueError("there are no examples; give at least one, as an (input, target) pair.")
    text = "\n".join(lines) + "\n"
    path = default_cache_dir() / "pairs" / f"{hashlib.sha256(text.encode()).hexdigest()}.jsonl"
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        write_text(path, text)
    return str(path)


def _line_of_pair(pair: Any, place: int, argument: str) -> str:
    is_pair = isinstance(pair, Sequence) and not isinstance(pair, str) and len(pair) == 2
    if not is_pair or not all(isinstance(text, str) for text in pair):
        raise ValueError(
            f"item {place} of {argument} is {pair!r}; every item must be a pair of two texts, "
            "(input, target)."
        )
    return json.dumps({"input": pair[0], "target": pair[1]}, ensure_ascii=False)


def _line_of_row(row: Any, place: int, argument: str) -> str:
    try:
        if isinstance(row, Mapping):
            return json.dumps(dict(row), ensure_ascii=False, allow_nan=False, default=_plain)
    except (TypeError, ValueError) as error:  # something that JSON has no form for
        raise ValueError(
            f"item {place} of {argument} is {row!r}: {error}. A value is a text, a number, True or "
            "False, a date, None for nothing, or a list or mapping of these."
        ) from error
    raise ValueError(
        f"item {place} of {argument} is {row!r}; every item must be a mapping from the names of "
        "columns to values, as the first one is."
    )


def _rows_of_frame(frame: Any, argument: str) -> list[dict[str, Any]]:
    """Returns the rows of a DataFrame; what is missing is None.

    Raises:
      ValueError: two columns have one name.
    """
    if not frame.columns.is_unique:
        twice = frame.columns[frame.columns.duplicated()][0]
        raise ValueError(f"{argument} has two columns {twice!r}; rename or drop one.")
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


def _plain(value: Any) -> Any:
    """Returns numbers and arrays of NumPy as Python has them, a date and a Decimal as text.

    Raises:
      TypeError: it is something else.
    """
    if isinstance(value, np.ndarray) and value.dtype.kind in "biufUO":
        return value.tolist()  # objects in it are looked at one by one
    if isinstance(value, np.floating):
        return float(str(value))  # the digits of its own precision
    if isinstance(value, (np.bool_, np.integer)):
        return value.item()
    if isinstance(value, decimal.Decimal):
        return str(value)
    if isinstance(value, datetime.date):
        return value.isoformat()
    raise TypeError(f"{value!r} is a {type(value).__name__}")
