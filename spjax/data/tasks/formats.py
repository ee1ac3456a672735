"""How each dataset is put into words and scored, once for all the tasks that use it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

TRUE_FALSE = ("False", "True")


@dataclasses.dataclass(frozen=True)
class Format:
    """How a dataset is put into words and scored, wherever its records come from.

    Attributes:
      template: name of a function in `templates.TEMPLATES`.
      labels: the words for labels 0, 1, ...; empty where the answer is free text.
      metrics: names of functions in `spjax.metrics.METRICS`; runs are compared by the mean of all
        the values these give, or by `selection`.
      postprocess: name of a function in `spjax.metrics.POSTPROCESSORS`.
      features: text fields in the order they are read; empty means all, sorted by name.
      class_labels: words for class-label initialisation of a prompt. The labels, or for the two
        datasets without labels the words of Lester et al. 2021, footnote 7.
      task_name: what T5 writes in front of the text, for tasks that keep it.
      selection: name of the value runs are compared by; "" for the mean of all values.
      rename: replacements made in a predicted text before it is post-processed, in order.
    """

    template: str
    labels: tuple[str, ...]
    metrics: tuple[str, ...]
    postprocess: str = "label"
    features: tuple[str, ...] = ()
    class_labels: tuple[str, ...] = ()
    task_name: str = ""
    selection: str = ""
    rename: tuple[tuple[str, str], ...] = ()


FORMATS: Mapping[str, Format] = {
    "boolq": Format("glue", TRUE_FALSE, ("accuracy",)),
    "cb": Format(
        "glue", ("entailment", "contradiction", "neutral"), ("mean_3class_f1", "accuracy")
    ),
    "copa": Format("glue", ("choice1", "choice2"), ("accuracy",)),
    "multirc": Format(
        "multirc",
        TRUE_FALSE,
        ("multirc_f1", "multirc_exact_match"),
        postprocess="multirc",
        features=("question", "answer", "paragraph"),
    ),
    "record": Format(
        "record",
        (),
        ("squad_per_group",),
        postprocess="record",
        class_labels=("commonsense", "reasoning", "reading", "comprehension"),
    ),
    "rte": Format("glue", ("entailment", "not_entailment"), ("accuracy",)),
    "wic": Format(
        "glue", TRUE_FALSE, ("accuracy",), features=("sentence1", "sentence2", "word")
    ),
    "wsc": Format(
        "wsc",
        (),
        ("accuracy",),
        postprocess="wsc",
        class_labels=("commonsense", "pronoun", "resolution"),
    ),
    "sst2": Format("glue", ("negative", "positive"), ("accuracy",)),
}
