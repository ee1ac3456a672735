"""The registry of tasks and mixtures: look-up by name.

A task is one row of `tables`. The format (template, labels, metrics) is written once per dataset,
in `formats`, so that another source of the same dataset needs only another row.

A name may be followed by variants, each after a colon: `taskless_super_glue_rte_v102:n100:seed1`.

    :sentinel  the target begins with <extra_id_0> (Lester et al. 2021, section 3.2)
    :n100      100 of the training examples
    :balanced  of these, equally many with each target as far as there are enough
    :seed1     another draw of them
    :halves    the validation split is cut in two, the second half is the test split

The path of a file can replace a name: `data.jsonl:n100` (see `file_task`), and so can the name of a
generated task with its parameters: `associations:k32:l4` (see `capacity_tasks`).
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Mapping

from spjax import guesses, hub
from spjax.data.tasks import capacity_tasks, file_rows, file_task, tables
from spjax.data.tasks.file_task import FileTask
from spjax.data.tasks.info import DRAWN, FewShot, Mixture, TaskInfo

VARIANTS = (":sentinel", ":n<number>", ":balanced", ":seed<number>", ":halves")
_HALVES = (("validation", "[:50%]"), ("test", "[50%:]"))
_GROUPED = ("multirc", "record", "qa")  # post-processors of records that share a passage


@functools.cache
def _tasks() -> Mapping[str, TaskInfo]:
    return {info.name: info for info in tables.rows()}


@functools.cache
def _mixtures() -> Mapping[str, Mapping]:
    return tables.mixtures()


def names() -> tuple[str, ...]:
    """Returns the names of all tasks, in the order of the table."""
    return tuple(_tasks())


def mixture_names() -> tuple[str, ...]:
    """Returns the names of all mixtures, in the order of the table."""
    return tuple(_mixtures())


def is_task(name: str) -> bool:
    """Returns whether a name is that of one task, with or without variants."""
    return "+" not in name and name.partition(":")[0] in _tasks()


def is_mixture(task: str | FileTask | TaskInfo) -> bool:
    """Returns whether a name is that of a mixture, or of tasks with "+" between."""
    if not isinstance(task, str):
        return False
    if "+" in task:  # which a file's name may have
        return not file_task.is_path(task) or re.split("[:+]", task)[0] in _tasks()
    return not file_task.is_path(task) and task.partition(":")[0] in _mixtures()


def get(task: str | FileTask | TaskInfo) -> TaskInfo:
    """Returns a task by its name, variants included.

    Args:
      task: its name, the path of a file with its examples, a `TaskInfo.source` that begins with
        "files:", or the task itself.

    Raises:
      ValueError: there is no such task, no such variant of it, or its file cannot be used.
    """
    if isinstance(task, TaskInfo):
        return task
    if isinstance(task, str) and file_task.is_path(task):
        task = file_task.of(task)
    if isinstance(task, FileTask):
        return _vary(file_task.info(task), task.variants)
    return _named(task)


def outline(source: str) -> TaskInfo:
    """Returns a task by its source; its files need not exist, and its splits are not known."""
    return _vary(file_task.outline(source), file_task.variants(source))


def _named(name: str) -> TaskInfo:
    if "+" in name:
        tasks = ", ".join(name.split("+"))
        raise ValueError(f"{name!r} is a mixture, and one task is wanted: {tasks}.")
    base, *variants = name.split(":")
    if base in _mixtures():
        tasks = ", ".join(_mixtures()[base]["rates"])
        raise ValueError(f"{base!r} is a mixture, and one task is wanted: {tasks}.")
    if capacity_tasks.is_name(base):
        return _vary(*capacity_tasks.info(name))
    if base not in _tasks():
        raise ValueError(
            f"unknown task {name!r}.{guesses.did_you_mean(base, names())} "
            "The command `spjax tasks` lists them. The path of a file stands for a task if it "
            f"ends in {', '.join(file_rows.ENDINGS)}, and so do the folder of a dataset, with a / "
            f"in its path, and {_named_dataset(name)}."
        )
    info = dataclasses.replace(_tasks()[base], name=name)
    return _vary(info, variants)


def _named_dataset(name: str) -> str:
    """Returns how a dataset of the hub is written, of this name if it could be one."""
    return f"{hub.DATASETS}{name if hub.is_name(name) else 'ORGANIZATION/NAME'}"


def mixture(task: str | FileTask | TaskInfo) -> Mixture:
    """Returns a mixture by its name, or a task (see `get`) as a mixture of itself alone.

    Variants after the name of a mixture are those of each of its tasks. Names of tasks with "+"
    between them are a mixture of equal parts.

    Raises:
      ValueError: as `get`, a task has no training examples, or one occurs twice.
    """
    if is_mixture(task) or (isinstance(task, str) and not file_task.is_path(task)):
        return _named_mixture(task)
    return _alone(get(task))  # not remembered, since files change


@functools.cache
def _named_mixture(name: str) -> Mixture:
    if "+" in name:
        return _together(name)
    base, *variants = name.split(":")
    if base not in _mixtures():
        return _alone(get(name))
    row, rates = _mixtures()[base], _mixtures()[base]["rates"]
    # What is not trained on has no examples to draw, and what chooses nothing no need of halves.
    not_drawn = [text for text in variants if not re.fullmatch(DRAWN, text)]
    whole = [text for text in not_drawn if text != "halves"]

    def vary(task: str, kept: list[str]) -> TaskInfo:
        return get(":".join([task, *kept]))

    trained = tuple(vary(task, variants) for task in rates)
    scored = tuple(
        vary(task, variants if task in rates else not_drawn) for task in row.get("scored", rates)
    )
    transfer = tuple(vary(task, whole) for task in row.get("transfer", ()))
    return Mixture(name, trained, tuple(rates.values()), scored, transfer)


def _together(name: str) -> Mixture:
    names = name.split("+")
    if paths := [part for part in names if file_task.is_path(part)]:
        raise ValueError(f"files cannot be mixed by a '+': {paths[0]!r} in {name!r}.")
    tasks = [part.partition(":")[0] for part in names]
    if twice := {task for task in tasks if tasks.count(task) > 1}:
        raise ValueError(f"{name!r} has {' and '.join(sorted(twice))} twice.")
    parts = tuple(_alone(get(part)).trained[0] for part in names)
    return Mixture(name, parts, (1,) * len(parts), parts)


def _alone(info: TaskInfo) -> Mixture:
    if "train" not in info.splits:
        raise ValueError(
            f"the task {info.name!r} has no training examples, only {', '.join(info.splits)}; "
            "train on another one and score this one with `spjax eval --task`."
        )
    return Mixture(info.name, (info,), (1,), (info,))


def _vary(info: TaskInfo, variants: list[str]) -> TaskInfo:
    if not variants:
        return info
    numbers: dict[str, int] = {}
    flags = set()
    for text in variants:
        match = re.fullmatch(r"(n|seed)(\d+)", text)
        if match:
            numbers[match[1]] = int(match[2])
        elif text in ("sentinel", "balanced", "halves"):
            flags.add(text)
        else:
            raise ValueError(
                f"unknown variant {text!r} in {info.name!r}; those known are {', '.join(VARIANTS)}"
            )
    if "n" not in numbers and ("seed" in numbers or "balanced" in flags):
        raise ValueError(
            f"{info.name!r} draws no examples; say how many with :n<number>, for example :n100"
        )
    few = None
    if "n" in numbers:
        if not numbers["n"] or "train" not in info.splits:
            raise ValueError(f"{info.name!r} has no training examples to draw that many from")
        few = FewShot(numbers["n"], "balanced" in flags, numbers.get("seed", 0))
    if "halves" in flags:
        info = _halved(info)
    return dataclasses.replace(info, sentinel="sentinel" in flags, few_shot=few)


def _halved(info: TaskInfo) -> TaskInfo:
    if not info.source.startswith("tfds:") or "validation" not in info.labelled:
        raise ValueError(f"{info.name!r} has no validation split in TFDS that could be halved")
    if info.postprocess in _GROUPED:
        raise ValueError(
            f"{info.name!r} cannot be halved: several records share a passage, and TFDS shuffles "
            "them, so that both halves would hold the same passages"
        )
    validation = dict(info.source_splits).get("validation", "validation")
    source_splits = {"train": "train"} if "train" in info.splits else {}
    source_splits |= {split: validation + part for split, part in _HALVES}
    size = dict(zip(info.splits, info.sizes))
    halves = (size["validation"] // 2, size["validation"] - size["validation"] // 2)
    return dataclasses.replace(
        info,
        splits=tuple(source_splits),
        source_splits=tuple(source_splits.items()),
        unlabelled=(),
        sizes=((size["train"],) if "train" in source_splits else ()) + halves,
    )
