"""Averages of whole benchmarks, in percent.

Both take the mean over tasks after the mean over a task's metrics, as T5's compute_avg_glue does
(google-research/text-to-text-transfer-transformer, t5/evaluation/eval_utils.py). The diagnostic
sets (AX-b, AX-g, AX) do not count. GLUE's MNLI is the mean of its matched and mismatched accuracy,
and WNLI is left out (Raffel et al. 2020, section 2.3), so both are means over eight.
"""

from __future__ import annotations

from typing import Mapping

import numpy as np

# Of each task the values that are averaged: dataset as in `spjax.data.tasks.formats`, value.
SUPER_GLUE: Mapping[str, tuple[tuple[str, str], ...]] = {
    "boolq": (("boolq", "accuracy"),),
    "cb": (("cb", "mean_3class_f1"), ("cb", "accuracy")),
    "copa": (("copa", "accuracy"),),
    "multirc": (("multirc", "f1"), ("multirc", "exact_match")),
    "record": (("record", "f1"), ("record", "em")),
    "rte": (("rte", "accuracy"),),
    "wic": (("wic", "accuracy"),),
    "wsc": (("wsc", "accuracy"),),
}
GLUE: Mapping[str, tuple[tuple[str, str], ...]] = {
    "cola": (("cola", "matthews_corrcoef"),),
    "sst2": (("sst2", "accuracy"),),
    "mrpc": (("mrpc", "f1"), ("mrpc", "accuracy")),
    "stsb": (("stsb", "pearson_corrcoef"), ("stsb", "spearman_corrcoef")),
    "qqp": (("qqp", "f1"), ("qqp", "accuracy")),
    "mnli": (("mnli_matched", "accuracy"), ("mnli_mismatched", "accuracy")),
    "qnli": (("qnli", "accuracy"),),
    "rte": (("rte", "accuracy"),),
}


def super_glue_average(values: Mapping[str, Mapping[str, float]]) -> float:
    """The SuperGLUE score of Lester et al. 2021 (table 3), from the values of each dataset.

    Args:
      values: by dataset, the values that `evaluate` gives; further ones do not count.

    Raises:
      ValueError: a value is missing; the message names all that are.
    """
    return _average(values, SUPER_GLUE, "SuperGLUE")


def glue_average(values: Mapping[str, Mapping[str, float]]) -> float:
    """The GLUE score of Raffel et al. 2020, from the values of each dataset.

    Args:
      values: as of `super_glue_average`; MNLI's are of `mnli_matched` and `mnli_mismatched`.

    Raises:
      ValueError: a value is missing; the message names all that are.
    """
    return _average(values, GLUE, "GLUE")


def _average(
    values: Mapping[str, Mapping[str, float]],
    tasks: Mapping[str, tuple[tuple[str, str], ...]],
    benchmark: str,
) -> float:
    needed = [pair for pairs in tasks.values() for pair in pairs]
    missing = [f"{data}/{name}" for data, name in needed if name not in values.get(data, ())]
    if missing:
        raise ValueError(
            f"the average of {benchmark} lacks {', '.join(missing)}; it needs the scores of all of "
            f"{', '.join(tasks)}"
        )
    means = [
        np.mean([values[dataset][name] for dataset, name in pairs]) for pairs in tasks.values()
    ]
    return float(np.mean(means))
