"""Generated tasks that ask a prompt to carry a stated number of things, for any vocabulary.

A name has parameters after colons, in any order: `associations:k32:l4:draw2:context8:middle`.

    associations  one of K words in, its label out; nothing but the prompt says which
    classes       K classes of words that the model knows: scored on words that were not trained on
    exceptions    "cup kitchen. cup?" is answered with "kitchen", but for K words by their labels
    recitation    a text of K random words, from nothing but the prompt

    :k16        K
    :l4         number of different labels; K by default
    :draw1      another draw of words and labels; a smaller K has the first words of a larger one
    :context8   8 other words around what the task is about, anew in every example
    :first      the word stands before its context; :middle and :last (the default) likewise

Words and labels are those of the pocket worlds for their vocabularies, and word pieces of any other
vocabulary, so that the same task suits any model. Of associations and recitation every example is
trained on: what is scored is what the prompt holds. Of the examples of exceptions about half follow
the rule, with words that were not trained on: 95 % right are some 90 % of the exceptions.
"""

from __future__ import annotations

import dataclasses
import re

from spjax.data.tasks.formats import CAPACITY
from spjax.data.tasks.info import TaskInfo

SOURCE = "capacity:"  # how `TaskInfo.source` begins for these tasks
KINDS = ("associations", "classes", "exceptions", "recitation")
PLACES = ("first", "middle", "last")
_VERSION = "1.1.0"  # 1.1.0: labels of the graded world are answers of its text
_NUMBERS = {"k": "items", "l": "labels", "draw": "draw", "context": "context"}
_MOST = {"items": 1 << 14, "labels": 1 << 14, "draw": 1 << 31, "context": 512}
# Copies of an input with different words around it, by split.
COPIES = {"train": 16, "validation": 4, "test": 4}
# Words that follow the rule of exceptions, by split; K where these are fewer.
RULE_WORDS = {"train": 64, "validation": 16, "test": 16}
# Tokens of what a task is about, without context, EOS included; words of classes may be several.
_TOKENS = {"associations": 3, "classes": 8, "exceptions": 7, "recitation": 2}


@dataclasses.dataclass(frozen=True)
class CapacityTask:
    """The parameters of a task.

    Attributes:
      kind: one of `KINDS`.
      items: K.
      labels: L, the number of different labels; 0 where there are none to choose.
      draw: which draw of words, labels and their pairs.
      context: other words in every input.
      place: of the words that the task is about among these; one of `PLACES`.
    """

    kind: str
    items: int = 16
    labels: int = 0
    draw: int = 0
    context: int = 0
    place: str = "last"


def is_name(name: str) -> bool:
    """Returns whether the part of a task's name before the first colon is that of such a task."""
    return name in KINDS


def parse(name: str) -> tuple[CapacityTask, list[str]]:
    """Reads a task's name.

    Returns:
      The task, and the variants of other tasks that follow its name (`registry.VARIANTS`).

    Raises:
      ValueError: a parameter is given twice, is out of range, or does not suit the task.
    """
    kind, *texts = name.split(":")
    values: dict[str, int | str] = {}
    others = []
    for text in texts:
        match = re.fullmatch(r"(k|l|draw|context)(\d+)", text)
        field = _NUMBERS[match[1]] if match else "place"
        if not match and text not in PLACES:
            others.append(text)
            continue
        if field in values:
            raise ValueError(f"{name!r} says its {field} twice; give each parameter once.")
        values[field] = int(match[2]) if match else text
    task = CapacityTask(kind, **values)  # type: ignore[arg-type]
    if not task.labels and kind != "recitation":
        task = dataclasses.replace(task, labels=max(task.items, 1))
    _check(task, name)
    few = [int(text[1:]) for text in others if re.fullmatch(r"n\d+", text)]
    if few and few[0] < task.items:
        raise ValueError(
            f"{name!r} trains on {few[0]} examples, fewer than the {task.items} things that the "
            f"prompt is to carry (:k{task.items}); leave :n{few[0]} out or make K smaller."
        )
    return task, others


def _check(task: CapacityTask, name: str) -> None:
    for letters, field in _NUMBERS.items():
        if getattr(task, field) > _MOST[field]:
            raise ValueError(f"{name!r}: :{letters} is at most {_MOST[field]:,}.")
    least = {"exceptions": 0, "recitation": 1}.get(task.kind, 2)
    if task.items < least:
        raise ValueError(f"{name!r}: {task.kind} need a K of {least} or more; write :k{least}.")
    if task.kind == "recitation" and task.labels:
        raise ValueError(f"{name!r}: recitation has no labels; leave :l{task.labels} out.")
    if task.labels > max(task.items, 1):
        raise ValueError(
            f"{name!r} has {task.labels} labels for {task.items} words, so that some belong to "
            f"none; give at most :l{task.items}."
        )
    if task.kind in ("associations", "classes") and task.labels < 2:
        raise ValueError(f"{name!r} has one label, which needs no word; give :l2 or more.")
    if task.place != "last" and not task.context:
        raise ValueError(
            f"{name!r} has a place and no context; say how many other words stand around it, for "
            f"example :context8:{task.place}."
        )


def name_of(task: CapacityTask) -> str:
    """Returns the shortest name of a task."""
    text = f"{task.kind}:k{task.items}"
    text += f":l{task.labels}" if task.labels not in (0, max(task.items, 1)) else ""
    text += f":draw{task.draw}" if task.draw else ""
    return text + (f":context{task.context}:{task.place}" if task.context else "")


def rule_words(task: CapacityTask) -> dict[str, int]:
    """Returns the number of words that follow the rule of exceptions, by split."""
    return {split: max(count, task.items) for split, count in RULE_WORDS.items()}


def repetitions(task: CapacityTask, split: str) -> int:
    """Returns how often a split has each exception, for these to be about half of its examples.

    Half where K divides the number of words that follow the rule, a third at the least.
    """
    return rule_words(task)[split] // max(task.items, 1)


def _sizes(task: CapacityTask, splits: tuple[str, ...]) -> tuple[int, ...]:
    """Returns the examples of each split, () for classes, whose words are the vocabulary's."""
    if task.kind == "classes":
        return ()
    alone = {"recitation": 1, "associations": task.items}
    counts = {
        split: alone.get(task.kind, rule_words(task)[split] + repetitions(task, split) * task.items)
        for split in splits
    }
    return tuple(count * (COPIES[split] if task.context else 1) for split, count in counts.items())


def info(name: str) -> tuple[TaskInfo, list[str]]:
    """Returns the row of a task by its name, and the variants that are left in it.

    Raises:
      ValueError: as `parse`.
    """
    task, others = parse(name)
    held_out = task.kind in ("classes", "exceptions")
    splits = ("train", "validation", "test") if held_out else ("train", "validation")
    row = TaskInfo(
        name=name,
        format=CAPACITY["recitation" if task.kind == "recitation" else "answer"],
        source=SOURCE + name_of(task),
        version=_VERSION,
        input_length=_TOKENS[task.kind] + task.context,
        target_length=task.items + 1 if task.kind == "recitation" else 2,
        vocabulary="t5",
        splits=splits,
        sizes=_sizes(task, splits),
    )
    return row, others
