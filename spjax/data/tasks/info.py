"""Descriptions of tasks and mixtures of tasks."""

from __future__ import annotations

import dataclasses
import functools
import math
import re

from spjax.data.tasks.formats import Format

DRAWN = r"n\d+|balanced|seed\d+"  # the variants that choose training examples


def not_drawn(name: str) -> str:
    """Removes the variants that choose training examples from a name or path."""
    return re.sub(rf":({DRAWN})(?=:|$)", "", name)


@dataclasses.dataclass(frozen=True)
class FewShot:
    """A subset of a task's training examples.

    Attributes:
      examples: their number.
      balanced: whether every target occurs equally often, as far as there are enough of each.
      seed: of the draw.
    """

    examples: int
    balanced: bool = False
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class TaskInfo:
    """A task: a format and a source of records.

    Attributes:
      name: of the task, as users write it.
      format: how records become text and how predictions are scored.
      source: of the records: `pocket:<name in spjax.pocket.tasks>`, `capacity:<name with its
        parameters>`, `tfds:<dataset>/<config>:<version>`, or `files:` and the fields of a
        `FileTask` in JSON.
      version: version of the records.
      input_length: the most input tokens, EOS included; longer texts are cut.
      target_length: likewise for targets.
      vocabulary: name or path of the vocabulary it is read with unless the model says otherwise.
      splits: names of its splits.
      source_splits: (split, its name in the source) where the names differ.
      unlabelled: splits whose targets are not known; they have predictions and no scores.
      sizes: records of each split, in the order of `splits`; empty if unknown.
      t5_lengths: the input and target lengths that T5 was fine-tuned with; empty if it was not.
      with_task_name: whether the input begins with `Format.task_name`, as in T5.
      sentinel: whether the target begins with `<extra_id_0>`, which predictions then lose.
      few_shot: the part of the training examples that is used; None for all.
    """

    name: str
    format: Format
    source: str
    version: str
    input_length: int
    target_length: int
    vocabulary: str
    splits: tuple[str, ...] = ("train", "validation", "test")
    source_splits: tuple[tuple[str, str], ...] = ()
    unlabelled: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()
    t5_lengths: tuple[int, ...] = ()
    with_task_name: bool = False
    sentinel: bool = False
    few_shot: FewShot | None = None

    @property
    def lengths(self) -> dict[str, int]:
        """Returns the most tokens of `inputs` and `targets`, EOS included."""
        return {"inputs": self.input_length, "targets": self.target_length}

    @property
    def labels(self) -> tuple[str, ...]:
        """Returns the words for labels 0, 1, ...; empty where the answer is free text."""
        return self.format.labels

    @property
    def class_labels(self) -> tuple[str, ...]:
        """Returns words for class-label initialization of a prompt, or ()."""
        return self.format.class_labels or self.format.labels

    @property
    def metrics(self) -> tuple[str, ...]:
        """Returns names of the metrics, in `spjax.metrics.METRICS`."""
        return self.format.metrics

    @property
    def postprocess(self) -> str:
        """Returns the name of the post-processor, in `spjax.metrics.POSTPROCESSORS`."""
        return self.format.postprocess

    @property
    def rename(self) -> tuple[tuple[str, str], ...]:
        """Returns replacements made in a predicted text before it is post-processed."""
        return self.format.rename

    @property
    def selection(self) -> str:
        """Returns the metric that runs are compared by; "" for the mean of all metrics."""
        return self.format.selection

    @property
    def whole(self) -> TaskInfo:
        """Returns the task with all of its training examples."""
        if self.few_shot is None:
            return self
        return dataclasses.replace(self, name=not_drawn(self.name), few_shot=None)

    @property
    def labelled(self) -> tuple[str, ...]:
        """Returns the splits that can be scored."""
        return tuple(split for split in self.splits if split not in self.unlabelled)

    @property
    def reported_split(self) -> str:
        """Returns "test", or "validation" where the test split has no public targets."""
        return "test" if "test" in self.labelled else "validation"

    @property
    def ceiling(self) -> float | None:
        """Returns the score of a perfect reader in percent, None if unknown."""
        kind, _, name = self.source.partition(":")
        if kind != "pocket":
            return None
        from spjax.pocket import tasks  # here, because making the world's tables takes time

        return tasks.TASKS[name].ceiling


@dataclasses.dataclass(frozen=True)
class Mixture:
    """Tasks that are trained on together; a single task is a mixture of itself alone.

    Attributes:
      name: of the mixture, as users write it.
      trained: the tasks whose examples are mixed.
      rates: relative frequencies of these tasks; whole numbers for exact proportions.
      scored: the tasks whose validation scores are averaged to choose the best checkpoint.
      transfer: further tasks that the best checkpoint is scored on, without a part in its choice.
    """

    name: str
    trained: tuple[TaskInfo, ...]
    rates: tuple[float, ...]
    scored: tuple[TaskInfo, ...]
    transfer: tuple[TaskInfo, ...] = ()

    @functools.cached_property
    def tasks(self) -> tuple[TaskInfo, ...]:
        """Returns all tasks, each once."""
        return tuple(dict.fromkeys((*self.trained, *self.scored, *self.transfer)))

    @property
    def reported_split(self) -> str:
        """Returns "test", or "validation" where a scored task has no labeled test split."""
        test = all(info.reported_split == "test" for info in self.scored)
        return "test" if test else "validation"

    @property
    def lengths(self) -> dict[str, int]:
        """Returns the most tokens of `inputs` and `targets` of any task, EOS included."""
        return {
            "inputs": max(info.input_length for info in self.tasks),
            "targets": max(info.target_length for info in self.tasks),
        }

    @property
    def vocabulary(self) -> str:
        """Returns name or path of the vocabulary of the first task."""
        return self.trained[0].vocabulary

    @property
    def identity(self) -> str:
        """Returns what decides a run's numbers beside the name: versions, rates, scored tasks."""
        versions = " ".join(dict.fromkeys(info.version for info in self.tasks))
        if len(self.tasks) == 1:
            return versions
        parts = (self.trained, self.scored, self.transfer)
        names = [[info.name for info in part] for part in parts]
        return f"{versions} {list(self.rates)} {names}"

    @property
    def class_labels(self) -> tuple[str, ...]:
        """Returns words for class-label initialization of all trained tasks, each once."""
        return tuple(dict.fromkeys(word for info in self.trained for word in info.class_labels))

    @property
    def ceiling(self) -> float | None:
        """Returns the mean score of a perfect reader, None if unknown."""
        ceilings = [info.ceiling for info in self.scored if info.ceiling is not None]
        if len(ceilings) < len(self.scored):
            return None
        return math.fsum(ceilings) / len(ceilings)
