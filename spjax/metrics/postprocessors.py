"""Post-processors for metrics: (predicted text, example, labels) -> (target, prediction)."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

Example = Mapping[str, Any]

INVALID = -1  # the class of a prediction that is no label
NO_NUMBER = -1.0  # what a prediction that is no number stands for; similarities start at 0

_DETERMINERS = frozenset(
    "a an few her his each every many much my our some that the their these this those which "
    "whose your".split()
)


def label(prediction: str, example: Example, labels: Sequence[str]) -> tuple[int, int]:
    """Returns the classes of both texts; a label has to match exactly."""
    return class_of(example["targets_text"], labels), class_of(prediction, labels)


def multirc(
    prediction: str, example: Example, labels: Sequence[str]
) -> tuple[tuple[Hashable, int], int]:
    """Returns the classes as `label`; the target has its question, for exact match by question."""
    target, predicted = label(prediction, example, labels)
    return (question(example), target), predicted


def question(example: Example) -> Hashable:
    """Returns the question of an answer of MultiRC."""
    return example["idx"]["question"]


def query(example: Example) -> Hashable:
    """Returns the query of an answer of ReCoRD."""
    return example["idx"]["passage"], example["idx"]["query"]


def record(
    prediction: str, example: Example, labels: Sequence[str]
) -> tuple[tuple[Hashable, list[str]], str]:
    """Returns the text itself; the target is the query it belongs to and all gold answers."""
    return (query(example), qa(prediction, example, labels)[0]), prediction


def qa(prediction: str, example: Example, labels: Sequence[str]) -> tuple[list[str], str]:
    """Returns the text itself; the target is the list of all gold answers, or its own text."""
    del labels
    return list(example.get("answers") or [example["targets_text"]]), prediction


def text(prediction: str, example: Example, labels: Sequence[str]) -> tuple[str, str]:
    """Returns both texts as they are."""
    del labels
    return example["targets_text"], prediction


def string_to_float(
    prediction: str, example: Example, labels: Sequence[str]
) -> tuple[float, float]:
    """Returns the numbers that the texts name; -1 for a text that is no number.

    T5 also takes the words "nan" and "inf", which make every correlation nan; here they are -1.
    """
    del labels
    return _number(example["targets_text"]), _number(prediction)


def wsc(prediction: str, example: Example, labels: Sequence[str]) -> tuple[int, int]:
    """Returns the label, and whether the prediction names the example's noun phrase.

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


def class_of(word: str, labels: Sequence[str]) -> int:
    """Returns the number of a label, `INVALID` if it is none."""
    return labels.index(word) if word in labels else INVALID


def _number(word: str) -> float:
    try:
        number = float(word)
    except ValueError:
        return NO_NUMBER
    return number if math.isfinite(number) else NO_NUMBER


def _content_words(phrase: str) -> str:
    words = phrase.strip().lower().split(" ")
    return " ".join(word for word in words if word not in _DETERMINERS)
