"""Templates for free-text answers: question answering, summaries, translations, dialogue."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence

from spjax.data.tasks.templates_records import Example, Record, choice, text, texts

SPEAKERS = ("user", "system")  # in the order of the class label `first_speaker`

# What RE2, with which T5 pads punctuation, takes for punctuation and white space: ASCII only, and
# no vertical tab.
_PUNCTUATION = re.compile(f"([{re.escape(string.punctuation)}])")
_SPACE = re.compile(r"[\t\n\f\r ]+")


def qa(
    fields: Record, *, labels: Sequence[str], features: Sequence[str], training: bool
) -> list[Example]:
    """Formats a question and its context, with spaces around every punctuation mark.

    White space is collapsed, so that a text may begin or end with one space and never two. The
    target is the first answer; all of them, with their punctuation padded likewise, go along.

    Args:
      fields: texts, and a list of answers.
      labels: not used.
      features: where the question, the context and the answers are; "answers/text" in SQuAD,
        "answers" in MRQA.
      training: not used; evaluation reads the same text.

    Raises:
      ValueError: a field is missing or there is no answer.
    """
    del labels, training
    question, context, path = features
    answers = [pad_punctuation(answer) for answer in texts(fields, path)]
    if not answers:
        raise ValueError(f"the field {path!r} of a record is empty; give at least one answer")
    parts = ["question:", pad_punctuation(text(fields, question))]
    parts += ["context:", pad_punctuation(text(fields, context))]
    inputs = _SPACE.sub(" ", " ".join(parts))
    return [{"inputs": inputs, "targets": answers[0], "answers": answers}]


def text_to_text(
    fields: Record, *, labels: Sequence[str], features: Sequence[str], training: bool
) -> list[Example]:
    """Formats one text to read and one to write, unchanged: summaries and translations.

    Args:
      fields: texts.
      labels: not used.
      features: the field to read and the field to write.
      training: not used.

    Raises:
      ValueError: a field is missing or no text.
    """
    del labels, training
    source, target = features
    return [{"inputs": text(fields, source), "targets": text(fields, target)}]


def plain(
    fields: Record, *, labels: Sequence[str], features: Sequence[str], training: bool
) -> list[Example]:
    """Returns a record that already is an example: `inputs`, `targets` and fields for metrics.

    Raises:
      ValueError: one of the two is missing or no text.
    """
    del labels, features, training
    return [{**fields, "inputs": text(fields, "inputs"), "targets": text(fields, "targets")}]


def dialogue(
    fields: Record, *, labels: Sequence[str], features: Sequence[str], training: bool
) -> list[Example]:
    """Returns one example for each turn of the system that follows another turn.

    The input is the whole history, each turn after the name of its speaker:
    "user: I need a table. system: For how many? user: Two." Speakers take turns.

    Args:
      fields: a list of texts, and the number of the first one's speaker in `SPEAKERS`.
      labels: not used.
      features: where these two are.
      training: not used; evaluation reads the same texts.

    Raises:
      ValueError: a field is missing, or the first speaker is neither 0 nor 1.
    """
    del labels, training
    turns = texts(fields, features[0])
    first = SPEAKERS.index(choice(fields, features[1], SPEAKERS))
    history = [f"{SPEAKERS[(first + turn) % 2]}: {text}" for turn, text in enumerate(turns)]
    return [
        {"inputs": " ".join(history[:turn]), "targets": turns[turn]}
        for turn in range(1, len(turns))
        if SPEAKERS[(first + turn) % 2] == "system"
    ]


def pad_punctuation(text: str) -> str:
    """Puts spaces around ASCII punctuation marks, and collapses white space.

    As T5's `_pad_punctuation`, whose character classes are those of RE2: marks and spaces outside
    ASCII stay as they are.
    """
    return _SPACE.sub(" ", _PUNCTUATION.sub(r" \1 ", text))
