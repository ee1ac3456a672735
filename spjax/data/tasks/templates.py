"""Templates: a dataset's records as input and target texts, as in T5.

A template takes one record in the field schema of TFDS and gives the examples made from it; every
string is what T5's own preprocessors give once the name of the task is removed from the front
(Raffel et al. 2020, appendix D; Lester et al. 2021, section 3). White space and capitals are left
as they are, except where a template says otherwise. Records and examples are plain Python values,
so the functions serve any source.

An example is a dict with `inputs` and `targets` (str) and the raw fields that metrics need
(`label`, `idx`, `answers`); all of it can be written as JSON. Where T5 stops with an error of
TensorFlow (a field is missing or has another type, a label does not exist), a template raises a
ValueError that names the field.

Templates are functions `(fields, *, labels, features, training) -> list[Example]`: a record, the
words for its labels, the fields to use, and whether the examples are to train on.
"""

from __future__ import annotations

import numbers
import re
from collections.abc import Sequence

import numpy as np

from spjax.data.tasks.templates_pronouns import dpr, wsc
from spjax.data.tasks.templates_records import (
    UNKNOWN_TARGET,
    Example,
    Record,
    Template,
    choice,
    text,
    texts,
    value,
)
from spjax.data.tasks.templates_text import dialogue, plain, qa, text_to_text


def glue(
    fields: Record, *, labels: Sequence[str], features: Sequence[str], training: bool
) -> list[Example]:
    """Formats `key: value` pairs joined by single spaces, and the name of the label.

    Args:
      fields: text fields, an integer `label` (-1 where it is not known) and `idx`.
      labels: the names of the labels in the order of their numbers.
      features: the text fields to use, in order; empty means all of them, sorted by name.
        "premise=sentence1" writes the field `sentence1` under the key "premise".
      training: not used; evaluation reads the same text.

    Raises:
      ValueError: a field is missing or no text, or the label is none of the labels.
    """
    del training
    return [
        {
            "inputs": _pairs(fields, features),
            "targets": choice(fields, "label", labels),
            "label": value(fields, "label"),
            "idx": value(fields, "idx"),
        }
    ]


def stsb(
    fields: Record, *, labels: Sequence[str], features: Sequence[str], training: bool
) -> list[Example]:
    """Formats a record as `glue`; the label is a similarity of 0 to 5 in fifths: "3.4".

    Rounding is that of float32, halves to the even fifth, as in T5; the test split's -1 is "-1.0".

    Args:
      fields: as of `glue`, with a real `label`.
      labels: not used.
      features: as of `glue`.
      training: not used.

    Raises:
      ValueError: a field is missing or no text, or the label is no number.
    """
    del labels, training
    label = value(fields, "label")
    if not isinstance(label, numbers.Real):
        raise ValueError(f"the field 'label' of a record is {label!r}; it must be a number")
    fifths = np.round(np.float32(label) * np.float32(5)) / np.float32(5)
    return [
        {
            "inputs": _pairs(fields, features),
            "targets": f"{fifths:.1f}",
            "label": label,
            "idx": value(fields, "idx"),
        }
    ]


def multirc(
    fields: Record, *, labels: Sequence[str], features: Sequence[str], training: bool
) -> list[Example]:
    """Formats a record as `glue`, without the HTML tags of MultiRC's paragraphs.

    Line breaks become spaces and bold marks go; the rest stays, a trailing space included.
    `idx` has `paragraph`, `question` and `answer`.
    """
    for part in ("paragraph", "question", "answer"):
        value(fields, f"idx/{part}")
    examples = glue(fields, labels=labels, features=features, training=training)
    for example in examples:
        inputs = example["inputs"].replace("<br>", " ")
        example["inputs"] = re.sub("</?b>", "", inputs)
    return examples


def record(
    fields: Record, *, labels: Sequence[str], features: Sequence[str], training: bool
) -> list[Example]:
    """Formats ReCoRD: a query with a placeholder, the candidate entities, and a passage.

    For training there is one example per gold answer. For evaluation there is one per query, with
    the first answer as its target: T5 decodes a query once per answer and then drops all but the
    first, so the scores are the same and the decoding is saved. Every example carries all answers.

    Args:
      fields: `passage`, `query`, `entities`, `answers` (empty in the test split) and `idx`, which
        has `passage` and `query`.
      labels: not used.
      features: not used.
      training: see above.

    Raises:
      ValueError: a field is missing or no text.
    """
    del labels, features
    idx = {part: value(fields, f"idx/{part}") for part in ("passage", "query")}
    passage = re.sub(r"""([.?!"'])\n@highlight\n""", r"\1 ", text(fields, "passage"))
    passage = passage.replace("\n@highlight\n", ". ")
    entities = ", ".join(texts(fields, "entities"))
    inputs = f"query: {text(fields, 'query')} entities: {entities} passage: {passage}"
    answers = texts(fields, "answers")
    targets = answers or [UNKNOWN_TARGET]
    return [
        {"inputs": inputs, "targets": target, "answers": answers, "idx": idx}
        for target in (targets if training else targets[:1])
    ]


TEMPLATES: dict[str, Template] = {
    "dialogue": dialogue,
    "dpr": dpr,
    "glue": glue,
    "multirc": multirc,
    "plain": plain,
    "qa": qa,
    "record": record,
    "stsb": stsb,
    "text_to_text": text_to_text,
    "wsc": wsc,
}


def _pairs(fields: Record, features: Sequence[str]) -> str:
    keys = features or sorted(set(fields) - {"label", "idx"})
    pairs = [(key, field or key) for key, _, field in (key.partition("=") for key in keys)]
    return " ".join(f"{key}: {text(fields, field)}" for key, field in pairs)
