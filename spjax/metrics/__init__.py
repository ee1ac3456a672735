"""Scores of predicted texts, all in percent, as T5 computes them for the tasks of its paper.

A post-processor turns a predicted text, and the target of an example, into what a metric compares;
a metric turns lists of those into named values. Both are looked up by name, from a task's row.
Sources: the post-processors and metrics of T5 (Raffel et al. 2020; google-research/
text-to-text-transfer-transformer, t5/data/postprocessors.py and t5/evaluation/metrics.py), and the
SQuAD v1.1 script.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from spjax.metrics.classes import (
    accuracy,
    f1_with_invalid,
    matthews_corrcoef,
    mean_3class_f1,
    multirc_exact_match,
    multirc_f1,
)
from spjax.metrics.correlations import pearson_corrcoef, spearman_corrcoef
from spjax.metrics.postprocessors import (
    INVALID,
    Example,
    class_of,
    label,
    multirc,
    qa,
    query,
    question,
    record,
    string_to_float,
    text,
    wsc,
)
from spjax.metrics.texts import bleu, rouge, squad, squad_per_group, words_in_place

__all__ = ["INVALID", "evaluate", "item_scores", "majority", "score"]

Scores = dict[str, float]


class Scored(Protocol):
    """Interface of a task for scoring: see `spjax.data.tasks.info.TaskInfo`."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Returns the names of the classes; none where targets are free text."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """Returns the names of the metrics."""

    @property
    def postprocess(self) -> str:
        """Returns the name of the post-processor."""

    @property
    def selection(self) -> str:
        """Returns the name of the value that is the score, or "" for the mean of all."""

    @property
    def rename(self) -> tuple[tuple[str, str], ...]:
        """Returns words of predictions and what to read for them."""


def evaluate(task: Scored, predictions: Sequence[str], examples: Sequence[Example]) -> Scores:
    """Returns the values of all metrics of a task, in percent.

    Args:
      task: its labels, metrics, post-processor and the words to rename in predictions.
      predictions: one text per example.
      examples: the raw fields, as the token cache keeps them (`targets_text` and what the task's
        post-processor reads).

    Raises:
      ValueError: the numbers of predictions and examples differ or are zero, or a name is unknown.
    """
    if len(predictions) != len(examples) or not examples:
        raise ValueError(
            f"{len(predictions)} predictions for {len(examples)} examples; give one prediction "
            "per example, and at least one example"
        )
    postprocess = _lookup(POSTPROCESSORS, task.postprocess, "post-processor")
    pairs = [
        postprocess(renamed(prediction, task.rename), example, task.labels)
        for prediction, example in zip(predictions, examples)
    ]
    targets = [target for target, _ in pairs]
    predicted = [prediction for _, prediction in pairs]
    scores: Scores = {}
    for name in task.metrics:
        scores.update(_lookup(METRICS, name, "metric")(targets, predicted))
    return scores


def item_scores(
    task: Scored, predictions: Sequence[str], examples: Sequence[Example]
) -> list[float] | None:
    """Returns the score of each item in percent, for resampling a test set.

    An item is an example; of MultiRC all answers to a question, of ReCoRD all entries of a query,
    with the mean of their scores. Where the answer is a class, an example scores 100 or 0, also for
    metrics that are no means over examples (F1, Matthews' correlation); else SQuAD's exact match
    and F1, as `score` takes them.

    Args:
      task: as in `evaluate`, and its `selection`.
      predictions: one text per example.
      examples: as in `evaluate`.

    Returns:
      Items in the order of their first example; None for correlations, BLEU and ROUGE.
    """
    if not set(task.metrics) <= _OF_CLASSES | _OF_SPANS:
        return None
    postprocess = _lookup(POSTPROCESSORS, task.postprocess, "post-processor")
    group = GROUPS.get(task.postprocess)
    items: dict[Hashable, list[float]] = {}
    for number, (prediction, example) in enumerate(zip(predictions, examples, strict=True)):
        target, predicted = postprocess(renamed(prediction, task.rename), example, task.labels)
        target = target[1] if group else target
        if set(task.metrics) <= _OF_SPANS:
            value = score(squad([target], [predicted]), task.selection)
        else:
            value = 100.0 * (target == predicted)
        items.setdefault(group(example) if group else number, []).append(value)
    return [float(np.mean(values)) for values in items.values()]


def renamed(prediction: str, rename: Sequence[tuple[str, str]]) -> str:
    """Replaces the words of a predicted text by another task's (Lester et al. 2021, section 5).

    Args:
      prediction: text of a model trained on one task for an example of another.
      rename: replacements, made one after the other wherever the words occur: "duplicate" for
        "equivalent" makes "not_equivalent" to "not_duplicate".
    """
    for old, new in rename:
        prediction = prediction.replace(old, new)
    return prediction


def score(values: Mapping[str, float], selection: str = "") -> float:
    """Returns the one number of a task, in percent, by which runs are compared.

    Args:
      values: the values of its metrics.
      selection: the name of one of them; "" for the mean of all (SuperGLUE's rule).

    Raises:
      ValueError: no value is called `selection`.
    """
    if not selection:
        return float(np.mean(list(values.values())))
    if selection not in values:
        raise ValueError(
            f"no metric gives a value {selection!r} to select by; there are {', '.join(values)}. "
            "Name one of these, or none for their mean."
        )
    return float(values[selection])


def majority(
    task: Scored, train_examples: Sequence[Example], eval_examples: Sequence[Example]
) -> Scores:
    """Returns the scores of predicting the commonest training target everywhere.

    Of equally common ones it takes the first label, or the first text in the alphabet.
    """
    counts = collections.Counter(example["targets_text"] for example in train_examples)
    commonest = min(counts, key=lambda word: (-counts[word], class_of(word, task.labels), word))
    return evaluate(task, [commonest] * len(eval_examples), eval_examples)


POSTPROCESSORS: dict[str, Callable[[str, Example, Sequence[str]], tuple[Any, Any]]] = {
    "label": label,
    "multirc": multirc,
    "qa": qa,
    "record": record,
    "string_to_float": string_to_float,
    "text": text,
    "wsc": wsc,
}

# What a metric counts as one where that is several examples, by post-processor.
GROUPS: dict[str, Callable[[Example], Hashable]] = {"multirc": question, "record": query}

METRICS: dict[str, Callable[[Sequence[Any], Sequence[Any]], Scores]] = {
    "accuracy": accuracy,
    "bleu": bleu,
    "f1_with_invalid": f1_with_invalid,
    "matthews_corrcoef": matthews_corrcoef,
    "mean_3class_f1": mean_3class_f1,
    "multirc_exact_match": multirc_exact_match,
    "multirc_f1": multirc_f1,
    "pearson_corrcoef": pearson_corrcoef,
    "rouge": rouge,
    "spearman_corrcoef": spearman_corrcoef,
    "squad": squad,
    "squad_per_group": squad_per_group,
    "words_in_place": words_in_place,
}

# What has a score for each item: answers that are classes, and spans of text.
_OF_CLASSES = frozenset(
    ("accuracy", "f1_with_invalid", "matthews_corrcoef", "mean_3class_f1")
    + ("multirc_exact_match", "multirc_f1")
)
_OF_SPANS = frozenset(("squad", "squad_per_group"))


def _lookup(table: Mapping[str, Any], name: str, kind: str) -> Any:
    if name not in table:
        raise ValueError(f"unknown {kind} {name!r}; the known ones are {', '.join(table)}")
    return table[name]
