"""Metrics of predicted numbers: (targets, predictions) -> named values in percent.

A correlation is not defined where all targets or all predictions are the same, as they are when a
model answers every example alike. It is 0 then, as Matthews' correlation is, and not scipy's nan,
which could be neither averaged nor compared.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Scores = dict[str, float]


def pearson_corrcoef(targets: Sequence[float], predictions: Sequence[float]) -> Scores:
    """Returns Pearson's correlation."""
    from scipy import stats  # here, because it takes half a second to import

    return {"pearson_corrcoef": _in_percent(stats.pearsonr, targets, predictions)}


def spearman_corrcoef(targets: Sequence[float], predictions: Sequence[float]) -> Scores:
    """Returns Spearman's correlation: Pearson's of the ranks, ties sharing the mean rank."""
    from scipy import stats

    return {"spearman_corrcoef": _in_percent(stats.spearmanr, targets, predictions)}


def _in_percent(
    correlation: Callable[..., Any], targets: Sequence[float], predictions: Sequence[float]
) -> float:
    first, second = np.asarray(targets, np.float64), np.asarray(predictions, np.float64)
    if np.all(first == first[0]) or np.all(second == second[0]):
        return 0.0
    # Large numbers have squares, too. A small spread is no reason for a warning.
    first, second = first / np.abs(first).max(), second / np.abs(second).max()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return 100 * float(correlation(first, second).statistic)
