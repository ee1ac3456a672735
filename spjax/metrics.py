"""Scores of predicted texts, all in percent, as T5 computes them for GLUE and SuperGLUE.

A post-processor turns a predicted text, and the target of an example, into what a metric compares;
a metric turns lists of those into named values. Both are looked up by name, from a task's row.
Sources: the post-processors and metrics of T5 (Raffel et al. 2020) and the SQuAD v1.1 script.
"""

from __future__ import annotations

import collections
import re
import string
from typing import Any, Callable, Hashable, Mapping, Protocol, Sequence

import numpy as np

Example = Mapping[str, Any]
Scores = dict[str, float]

INVALID = -1  # the class of a prediction that is no label

_DETERMINERS = frozenset(
    "a an few her his each every many much my our some that the their these this those which "
    "whose your".split()
)
_PUNCTUATION = str.maketrans("", "", string.punctuation)


class Scored(Protocol):
    """What a task says about its scoring: see `spjax.data.tasks.registry.TaskInfo`."""

    labels: tuple[str, ...]
    metrics: tuple[str, ...]
    postprocess: str


def evaluate(task: Scored, predictions: Sequence[str], examples: Sequence[Example]) -> Scores:
    """The values of all metrics of a task, in percent.

    Args:
      task: its labels, metrics and post-processor.
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
        postprocess(text, example, task.labels) for text, example in zip(predictions, examples)
    ]
    targets = [target for target, _ in pairs]
    predicted = [prediction for _, prediction in pairs]
    scores: Scores = {}
    for name in task.metrics:
        scores.update(_lookup(METRICS, name, "metric")(targets, predicted))
    return scores


def score(values: Mapping[str, float]) -> float:
    """The one number of a task: the mean of its metrics (SuperGLUE's rule), in percent."""
    return float(np.mean(list(values.values())))


def majority(
    task: Scored, train_examples: Sequence[Example], eval_examples: Sequence[Example]
) -> Scores:
    """Scores of predicting the commonest training target everywhere.

    Of equally common ones it takes the first label, or the first text in the alphabet.
    """
    counts = collections.Counter(example["targets_text"] for example in train_examples)
    commonest = min(counts, key=lambda text: (-counts[text], _class(text, task.labels), text))
    return evaluate(task, [commonest] * len(eval_examples), eval_examples)


# Post-processors: (predicted text, example, labels) -> (target, prediction).


def label(prediction: str, example: Example, labels: Sequence[str]) -> tuple[int, int]:
    """Classes of both texts: a label matches to the letter or not at all."""
    return _class(example["targets_text"], labels), _class(prediction, labels)


def multirc(
    prediction: str, example: Example, labels: Sequence[str]
) -> tuple[tuple[Hashable, int], int]:
    """As `label`; the target carries its question, over which exact match is taken."""
    target, predicted = label(prediction, example, labels)
    return (example["idx"]["question"], target), predicted


def record(
    prediction: str, example: Example, labels: Sequence[str]
) -> tuple[tuple[Hashable, list[str]], str]:
    """The text itself; the target is the query it belongs to and all gold answers."""
    del labels
    group = (example["idx"]["passage"], example["idx"]["query"])
    return (group, list(example["answers"]) or [example["targets_text"]]), prediction


def wsc(prediction: str, example: Example, labels: Sequence[str]) -> tuple[int, int]:
    """Whether the prediction names the noun phrase of the example, against its label.

    Capitals and determiners are ignored and either may have more words than the other, but both
    or neither must have an apostrophe ("Bob" is not "Bob's hat"). An empty prediction is invalid.
    """
    del labels
    predicted, referent = _content_words(prediction), _content_words(example["targets_text"])
    if not predicted:
        return example["label"], INVALID
    if ("'" in predicted) != ("'" in referent):
        return example["label"], 0
    words, referent_words = set(predicted.split(" ")), set(referent.split(" "))
    return example["label"], int(words <= referent_words or referent_words <= words)


# Metrics: (targets, predictions) -> named values in percent.


def accuracy(targets: Sequence[int], predictions: Sequence[int]) -> Scores:
    """Share of predictions that equal their target."""
    return {"accuracy": 100 * float(np.mean(np.equal(targets, predictions)))}


def f1_with_invalid(targets: Sequence[int], predictions: Sequence[int]) -> Scores:
    """F1 of class 1 of two; a prediction that is neither class counts as the wrong one."""
    truth, predicted = np.asarray(targets), np.asarray(predictions)
    predicted = np.where(np.isin(predicted, (0, 1)), predicted, 1 - truth)
    return {"f1": 100 * _class_f1(truth, predicted, 1)}


def mean_3class_f1(targets: Sequence[int], predictions: Sequence[int]) -> Scores:
    """Unweighted mean of the F1 of classes 0, 1 and 2; an absent class counts as 0."""
    truth, predicted = np.asarray(targets), np.asarray(predictions)
    values = [_class_f1(truth, predicted, number) for number in range(3)]
    return {"mean_3class_f1": 100 * float(np.mean(values))}


def multirc_f1(targets: Sequence[tuple[Hashable, int]], predictions: Sequence[int]) -> Scores:
    """MultiRC's F1a: `f1_with_invalid` over all answers of all questions."""
    return f1_with_invalid([target for _, target in targets], predictions)


def multirc_exact_match(
    targets: Sequence[tuple[Hashable, int]], predictions: Sequence[int]
) -> Scores:
    """Share of questions of which every answer is judged rightly."""
    right: dict[Hashable, bool] = {}
    for (question, target), prediction in zip(targets, predictions):
        right[question] = right.get(question, True) and target == prediction
    return {"exact_match": 100 * float(np.mean(list(right.values())))}


def squad(targets: Sequence[Sequence[str]], predictions: Sequence[str]) -> Scores:
    """SQuAD's exact match and word F1, the best over the gold answers of each example."""
    exact, f1 = [], []
    for answers, prediction in zip(targets, predictions):
        text = _normalise(prediction)
        golds = [_normalise(answer) for answer in answers]
        exact.append(any(text == gold for gold in golds))
        f1.append(max(_word_f1(gold, text) for gold in golds))
    return {"em": 100 * float(np.mean(exact)), "f1": 100 * float(np.mean(f1))}


def squad_per_group(
    targets: Sequence[tuple[Hashable, Sequence[str]]], predictions: Sequence[str]
) -> Scores:
    """`squad` over the first example of each group."""
    first: dict[Hashable, tuple[Sequence[str], str]] = {}
    for (group, answers), prediction in zip(targets, predictions):
        first.setdefault(group, (answers, prediction))
    answers_of, predicted = zip(*first.values())
    return squad(answers_of, predicted)


POSTPROCESSORS: dict[str, Callable[[str, Example, Sequence[str]], tuple[Any, Any]]] = {
    "label": label,
    "multirc": multirc,
    "record": record,
    "wsc": wsc,
}

METRICS: dict[str, Callable[[Sequence[Any], Sequence[Any]], Scores]] = {
    "accuracy": accuracy,
    "f1_with_invalid": f1_with_invalid,
    "mean_3class_f1": mean_3class_f1,
    "multirc_f1": multirc_f1,
    "multirc_exact_match": multirc_exact_match,
    "squad": squad,
    "squad_per_group": squad_per_group,
}


def _lookup(table: Mapping[str, Any], name: str, kind: str) -> Any:
    if name not in table:
        raise ValueError(f"unknown {kind} {name!r}; the known ones are {', '.join(table)}")
    return table[name]


def _class(text: str, labels: Sequence[str]) -> int:
    return labels.index(text) if text in labels else INVALID


def _class_f1(truth: np.ndarray, predicted: np.ndarray, number: int) -> float:
    hits = np.sum((truth == number) & (predicted == number))
    total = np.sum(truth == number) + np.sum(predicted == number)
    return float(2 * hits / total) if total else 0.0


def _content_words(text: str) -> str:
    words = text.strip().lower().split(" ")
    return " ".join(word for word in words if word not in _DETERMINERS)


def _normalise(text: str) -> str:
    text = text.lower().translate(_PUNCTUATION)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def _word_f1(gold: str, text: str) -> float:
    gold_words, words = gold.split(), text.split()
    common = sum((collections.Counter(gold_words) & collections.Counter(words)).values())
    if common == 0:
        return 0.0
    precision, recall = common / len(words), common / len(gold_words)
    return 2 * precision * recall / (precision + recall)
