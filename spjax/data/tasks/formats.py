"""Formats: the template and the scoring of each dataset, for all the tasks that use it.

Labels are in the order of the class labels of TFDS. Texts, task names, post-processors and metrics
are T5's (Raffel et al. 2020, appendix D; google-research/text-to-text-transfer-transformer,
t5/data/tasks.py and glue_utils.py), those of MRQA and of the transfer between QQP and MRPC
google-research/prompt-tuning's. Exceptions are noted beside their rows.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

FALSE_TRUE = ("False", "True")
RTE = ("entailment", "not_entailment")
MNLI = ("entailment", "neutral", "contradiction")
MRPC = ("not_equivalent", "equivalent")
QQP = ("not_duplicate", "duplicate")


@dataclasses.dataclass(frozen=True)
class Format:
    """Template and scoring of a dataset, wherever its records come from.

    Attributes:
      template: name of a function in `templates.TEMPLATES`.
      labels: the words for labels 0, 1, ...; empty where the answer is free text.
      metrics: names of functions in `spjax.metrics.METRICS`; runs are compared by the mean of all
        the values these give, or by `selection`.
      postprocess: name of a function in `spjax.metrics.POSTPROCESSORS`.
      features: the fields that the template reads, in its order; for `glue` empty means all texts,
        sorted by name.
      class_labels: words for class-label initialization of a prompt where they are not the labels:
        those of Lester et al. 2021, footnote 7.
      task_name: what T5 writes in front of the text, for tasks that keep it: "" where it writes
        nothing, otherwise followed by one space.
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


def _glue(
    task_name: str, labels: tuple[str, ...], *metrics: str, features: tuple[str, ...] = ()
) -> Format:
    return Format("glue", labels, metrics, features=features, task_name=task_name)


_SUPER_GLUE = {
    "boolq": _glue("boolq", FALSE_TRUE, "accuracy"),
    "cb": _glue("cb", ("entailment", "contradiction", "neutral"), "mean_3class_f1", "accuracy"),
    "copa": _glue("copa", ("choice1", "choice2"), "accuracy"),
    "multirc": Format(
        "multirc",
        FALSE_TRUE,
        ("multirc_f1", "multirc_exact_match"),
        postprocess="multirc",
        features=("question", "answer", "paragraph"),
        task_name="multirc",
    ),
    "record": Format(
        "record",
        (),
        ("squad_per_group",),
        postprocess="record",
        class_labels=("commonsense", "reasoning", "reading", "comprehension"),
        task_name="record",
    ),
    "rte": _glue("rte", RTE, "accuracy"),  # GLUE's too, whose fields have other names
    # T5 leaves the places of the word out.
    "wic": _glue("wic", FALSE_TRUE, "accuracy", features=("sentence1", "sentence2", "word")),
    "wsc": Format(
        "wsc",
        (),
        ("accuracy",),
        postprocess="wsc",
        class_labels=("commonsense", "pronoun", "resolution"),
        task_name="wsc:",
    ),
    # The diagnostic sets are cast as RTE. T5 only predicts them; their metrics are SuperGLUE's,
    # that of gender parity left out.
    "axb": _glue(
        "rte", RTE, "matthews_corrcoef", features=("hypothesis=sentence2", "premise=sentence1")
    ),
    "axg": _glue("rte", RTE, "accuracy"),
    # Another set of Winograd schemas, in the text of WSC. Exact match is all that T5 scores.
    "dpr": Format(
        "dpr",
        (),
        ("accuracy",),
        postprocess="text",
        class_labels=("commonsense", "pronoun", "resolution"),
        task_name="wsc:",
    ),
}

_GLUE = {
    "cola": _glue("cola", ("unacceptable", "acceptable"), "matthews_corrcoef"),
    "sst2": _glue("sst2", ("negative", "positive"), "accuracy"),
    "mrpc": _glue("mrpc", MRPC, "f1_with_invalid", "accuracy"),
    "qqp": _glue("qqp", QQP, "f1_with_invalid", "accuracy"),
    "stsb": Format(
        "stsb",
        (),
        ("pearson_corrcoef", "spearman_corrcoef"),
        postprocess="string_to_float",
        features=("sentence1", "sentence2"),
        task_name="stsb",
    ),
    "mnli": _glue("mnli", MNLI, "accuracy"),
    "qnli": _glue("qnli", RTE, "accuracy"),
    "wnli": _glue("wnli", tuple(reversed(RTE)), "accuracy"),
    # The diagnostic set is cast as MNLI. T5 only predicts it; the metric is GLUE's.
    "ax": _glue("mnli", MNLI, "matthews_corrcoef"),
}

# Trained on one, scored on the other: its text, and the labels of the one renamed (Lester et al.
# 2021, section 5).
_TRANSFER = {
    "mrpc_from_qqp": dataclasses.replace(_GLUE["mrpc"], rename=((QQP[1], MRPC[1]),)),
    "qqp_from_mrpc": dataclasses.replace(_GLUE["qqp"], rename=((MRPC[1], QQP[1]),)),
}


def _questions(answers: str) -> Format:
    return Format(
        "qa",
        (),
        ("squad",),
        postprocess="qa",
        features=("question", "context", answers),
        selection="f1",
    )


def _written(task_name: str, source: str, target: str, metric: str) -> Format:
    features = (source, target)
    return Format("text_to_text", (), (metric,), "text", features, task_name=task_name)


_FREE_TEXT = {
    "squad": _questions("answers/text"),
    "mrqa": _questions("answers"),
    "samsum": _written("summarize:", "dialogue", "summary", "rouge"),  # T5's text; T5 has no SAMSum
    "xsum": _written("summarize:", "document", "summary", "rouge"),
    "cnn_dailymail": _written("summarize:", "article", "highlights", "rouge"),
    "wmt16_enro": _written("translate English to Romanian:", "en", "ro", "bleu"),
    # The dialogues of DSTC8 (Rastogi et al. 2020). The task and its text are spjax's own.
    "schema_guided_dialogue": Format(
        "dialogue",
        (),
        ("bleu", "rouge"),
        postprocess="text",
        features=("utterances", "first_speaker"),
        task_name="respond:",
        selection="bleu",
    ),
}

# Of the generated tasks, `capacity_tasks`.
CAPACITY = {
    "answer": Format("plain", (), ("accuracy",), postprocess="text"),
    "recitation": Format("plain", (), ("words_in_place",), postprocess="text"),
}

FORMATS: Mapping[str, Format] = {**_SUPER_GLUE, **_GLUE, **_TRANSFER, **_FREE_TEXT}
