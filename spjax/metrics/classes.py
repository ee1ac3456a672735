"""Metrics of predicted classes: (targets, predictions) -> named values in percent."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

Scores = dict[str, float]


def accuracy(targets: Sequence[Any], predictions: Sequence[Any]) -> Scores:
    """Returns the share of predictions that equal their target; classes or texts."""
    hits = [target == prediction for target, prediction in zip(targets, predictions)]
    return {"accuracy": 100 * float(np.mean(hits))}


def f1_with_invalid(targets: Sequence[int], predictions: Sequence[int]) -> Scores:
    """Returns F1 of class 1 of two; predictions of neither class count as wrong."""
    truth, predicted = np.asarray(targets), np.asarray(predictions)
    predicted = np.where(np.isin(predicted, (0, 1)), predicted, 1 - truth)
    return {"f1": 100 * _class_f1(truth, predicted, 1)}


def mean_3class_f1(targets: Sequence[int], predictions: Sequence[int]) -> Scores:
    """Returns the unweighted mean F1 of classes 0, 1 and 2; an absent class counts as 0."""
    truth, predicted = np.asarray(targets), np.asarray(predictions)
    values = [_class_f1(truth, predicted, number) for number in range(3)]
    return {"mean_3class_f1": 100 * float(np.mean(values))}


def matthews_corrcoef(targets: Sequence[int], predictions: Sequence[int]) -> Scores:
    """Returns Matthews' correlation of any number of classes; invalid ones are a class.

    As scikit-learn's (Gorodkin 2004, "Comparing two K-category assignments by a K-category
    correlation coefficient"), 0 where all targets or all predictions are the same.
    """
    classes = np.unique([*targets, *predictions])
    truth = np.equal.outer(classes, targets).astype(float)  # [class, example]
    predicted = np.equal.outer(classes, predictions).astype(float)
    count = len(targets)
    truths, guesses = truth.sum(axis=1), predicted.sum(axis=1)
    covariance = count * np.sum(truth * predicted) - truths @ guesses
    spread = (count**2 - truths @ truths) * (count**2 - guesses @ guesses)
    return {"matthews_corrcoef": float(100 * covariance / np.sqrt(spread)) if spread else 0.0}


def multirc_f1(targets: Sequence[tuple[Hashable, int]], predictions: Sequence[int]) -> Scores:
    """Returns MultiRC's F1a: `f1_with_invalid` over all answers of all questions."""
    return f1_with_invalid([target for _, target in targets], predictions)


def multirc_exact_match(
    targets: Sequence[tuple[Hashable, int]], predictions: Sequence[int]
) -> Scores:
    """Returns the share of questions of which every answer is judged rightly."""
    right: dict[Hashable, bool] = {}
    for (question, target), prediction in zip(targets, predictions):
        right[question] = right.get(question, True) and target == prediction
    return {"exact_match": 100 * float(np.mean(list(right.values())))}


def _class_f1(truth: np.ndarray, predicted: np.ndarray, number: int) -> float:
    hits = np.sum((truth == number) & (predicted == number))
    total = np.sum(truth == number) + np.sum(predicted == number)
    return float(2 * hits / total) if total else 0.0
