"""Metrics of predicted numbers: (targets, predictions) -> named values in percent.

A correlation is not defined where all targets or all predictions are the same, as they are when a
model answers every example alike. It is 0 then, as Matthews' correlation is, and not scipy's nan,
which could be neither averaged nor compared.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

Scores = dict[str, float]


def pearson_corrcoef(targets: Sequence[float], predictions: Sequence[float]) -> Scores:
    """Returns Pearson's correlation."""
    return {"pearson_corrcoef": 100 * _correlation(np.array(targets), np.array(predictions))}


def spearman_corrcoef(targets: Sequence[float], predictions: Sequence[float]) -> Scores:
    """Returns Spearman's correlation: Pearson's of the ranks, ties sharing the mean rank."""
    return {"spearman_corrcoef": 100 * _correlation(_ranks(targets), _ranks(predictions))}


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    if np.all(first == first[0]) or np.all(second == second[0]):
        return 0.0
    x, y = (values / np.abs(values).max() for values in (first, second))  # large ones have squares
    x, y = x - x.mean(), y - y.mean()
    return float(np.clip(x @ y / np.sqrt((x @ x) * (y @ y)), -1, 1))


def _ranks(values: Sequence[float]) -> np.ndarray:
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[places]
