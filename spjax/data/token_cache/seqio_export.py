"""Writes the texts of a seqio task, in a process of its own, because it imports TensorFlow."""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import seqio

_SPLITS = ("train", "validation", "test")
_FEATURES = {"inputs": "input", "targets": "target"}


def export(request: Mapping[str, str]) -> int:
    """Writes `SPLIT.jsonl` with `input` and `target` for each split; returns the examples in all.

    Args:
      request: `{"module", "name", "folder"}`.

    Raises:
      ValueError: the module cannot be imported, there is no such task, or its tokens are not those
        of a text.
    """
    task = _task(request["module"], request["name"])
    count = 0
    for split in (split for split in _SPLITS if split in task.splits):
        dataset = task.get_dataset(None, split, shuffle=False)
        path = Path(request["folder"]) / f"{split}.jsonl"
        with open(path, "w", encoding="utf-8") as lines:
            for example in dataset.as_numpy_iterator():
                row = {
                    column: _text(example, feature, task) for feature, column in _FEATURES.items()
                }
                lines.write(json.dumps(row, ensure_ascii=False) + "\n")
                count += 1
    return count


def _task(module: str, name: str) -> seqio.Task:
    sys.path.append(os.getcwd())
    try:
        importlib.import_module(module)
    except Exception as error:  # whatever a module does
        raise ValueError(
            f"the module {module!r} (MIXTURE_OR_TASK_MODULE) cannot be imported: "
            f"{type(error).__name__}: {error}. Give its dotted name, and the folder that it is in "
            "with the environment variable PYTHONPATH."
        ) from error
    if name in seqio.MixtureRegistry.names():
        tasks = sorted(task.name for task in seqio.MixtureRegistry.get(name).tasks)
        raise ValueError(f"{name!r} is a mixture of seqio; name one of its tasks: {tasks}.")
    if name not in seqio.TaskRegistry.names():
        raise ValueError(
            f"the module {module!r} adds no task {name!r} to seqio's registry, which has "
            f"{sorted(seqio.TaskRegistry.names())}."
        )
    task = seqio.TaskRegistry.get(name)
    if missing := sorted(_FEATURES.keys() - task.output_features.keys()):
        raise ValueError(
            f"the seqio task {name!r} has no feature {missing[0]!r}, only "
            f"{sorted(task.output_features)}; spjax trains on inputs and targets."
        )
    if not {"train", "validation"} & set(task.splits):
        raise ValueError(
            f"the seqio task {name!r} has the splits {sorted(task.splits)}, none of which is "
            "train or validation."
        )
    return task


def _text(example: Mapping[str, Any], feature: str, task: seqio.Task) -> str:
    """Returns the text that has the tokens of a feature."""
    vocabulary = task.output_features[feature].vocabulary
    ids = [int(token) for token in example[feature]]
    if ids and ids[-1] == vocabulary.eos_id:
        ids.pop()
    before = example.get(f"{feature}_pretokenized", b"")
    texts = [before.decode()] if isinstance(before, bytes) else []
    for text in (*texts, vocabulary.decode(ids)):
        if list(vocabulary.encode(text)) == ids:
            return text
    raise ValueError(
        f"the seqio task {task.name!r} has {feature} that no text is tokenized to "
        f"({vocabulary.decode(ids)!r}), so a preprocessor changes them after `tokenize`; spjax "
        "tokenizes texts by itself. Let it change the text before."
    )
