"""Turns a dataset's records into text to read and text to say, as T5 does it.

A template takes one record in the field schema of TFDS and gives the examples made from it; every
string is what T5's own preprocessors give once the name of the task is removed from the front
(Raffel et al. 2020, appendix D; Lester et al. 2021, section 3). White space and capitals are left
as they are. Records and examples are plain Python values, so the functions serve any source.

An example is a dict with `inputs` and `targets` (str) and the raw fields that metrics need
(`label`, `idx`, `answers`); all of it can be written as JSON.
"""

from __future__ import annotations

import re
from typing import Any, Callable, Mapping, Sequence

Record = Mapping[str, Any]
Example = dict[str, Any]
Template = Callable[..., list[Example]]

UNKNOWN_TARGET = "<unk>"  # what T5 writes where a record has no label or no answer


def glue(
    fields: Record, *, labels: Sequence[str], features: Sequence[str], training: bool
) -> list[Example]:
    """`key: value` pairs joined by single spaces, and the name of the label.

    Args:
      fields: text fields, an integer `label` (-1 where it is not known) and `idx`.
      labels: the names of the labels in the order of their numbers.
      features: the text fields to use, in order; empty means all of them, sorted by name.
      training: not used; evaluation reads the same text.
    """
    del training
    keys = features or sorted(set(fields) - {"label", "idx"})
    text = " ".join(f"{key}: {fields[key]}" for key in keys)
    return [
        {
            "inputs": text,
            "targets": _label_name(fields["label"], labels),
            "label": fields["label"],
            "idx": fields["idx"],
        }
    ]


def multirc(
    fields: Record, *, labels: Sequence[str], features: Sequence[str], training: bool
) -> list[Example]:
    """As `glue`, without the HTML marks of MultiRC's paragraphs.

    Line breaks become spaces and bold marks go; the rest stays, a trailing space included.
    """
    examples = glue(fields, labels=labels, features=features, training=training)
    for example in examples:
        text = example["inputs"].replace("<br>", " ")
        example["inputs"] = re.sub("</?b>", "", text)
    return examples


def record(
    fields: Record, *, labels: Sequence[str], features: Sequence[str], training: bool
) -> list[Example]:
    """ReCoRD: a query with a placeholder, the entities that may fill it, and a passage.

    For training there is one example per gold answer. For evaluation there is one per query, with
    the first answer as its target: T5 decodes a query once per answer and then drops all but the
    first, so the scores are the same and the decoding is saved. Every example carries all answers.

    Args:
      fields: `passage`, `query`, `entities`, `answers` and `idx`.
      labels: not used.
      features: not used.
      training: see above.
    """
    del labels, features
    passage = re.sub(r"""([.?!"'])\n@highlight\n""", r"\1 ", fields["passage"])
    passage = passage.replace("\n@highlight\n", ". ")
    entities = ", ".join(fields["entities"])
    text = f"query: {fields['query']} entities: {entities} passage: {passage}"
    answers = list(fields["answers"])
    targets = answers or [UNKNOWN_TARGET]
    return [
        {"inputs": text, "targets": target, "answers": answers, "idx": fields["idx"]}
        for target in (targets if training else targets[:1])
    ]


def wsc(
    fields: Record, *, labels: Sequence[str], features: Sequence[str], training: bool
) -> list[Example]:
    """Winograd schemas as text: the pronoun in stars, the noun phrase it might mean as target.

    For training only records with label 1 give an example, since the target of the others is a
    noun phrase that the pronoun does not mean. Evaluation keeps all.

    Args:
      fields: `text`, `span1_text` (noun phrase), `span2_text` (pronoun), `span2_index` (the
        pronoun's place among the words that spaces separate), `label` and `idx`.
      labels: not used.
      features: not used.
      training: see above.

    Raises:
      ValueError: `span2_index` does not point at the pronoun.
    """
    del labels, features
    if training and fields["label"] != 1:
        return []
    text = _blank_pronoun(fields).replace(" X ", f" *{fields['span2_text']}* ")
    return [
        {
            "inputs": text,
            "targets": fields["span1_text"],
            "label": fields["label"],
            "idx": fields["idx"],
        }
    ]


TEMPLATES: dict[str, Template] = {"glue": glue, "multirc": multirc, "record": record, "wsc": wsc}


def _label_name(label: int, labels: Sequence[str]) -> str:
    return UNKNOWN_TARGET if label == -1 else labels[label]


# Two texts of WSC whose span2_index does not point at the pronoun: (before the pronoun, the
# pronoun as it stands, the blank with the spaces T5 puts around it, after the pronoun).
_MISPLACED_PRONOUNS = (
    (
        "The boy continued to whip the pony , and eventually the pony threw him over. "
        'John laughed out quite loud. "Good for ',
        'him,"',
        'X ,"',
        " he said. ",
    ),
    (
        "When they had eventually calmed down a bit , and had gotten home, Mr. Farley put the "
        "magic pebble in an iron safe . Some day they might want to use ",
        "it",
        "X",
        " , but really for now, what more could they wish for?",
    ),
)


def _blank_pronoun(fields: Record) -> str:
    text, pronoun, index = fields["text"], fields["span2_text"], fields["span2_index"]
    for before, found, blank, after in _MISPLACED_PRONOUNS:
        if text == before + found + after:
            # T5 drops the space that ends the first of the two texts.
            return (before + blank + after).rstrip(" ")
    words = text.split(" ")
    if not 0 < index < len(words) or words[index] != pronoun:
        raise ValueError(
            f"span2_index {index} does not point at the pronoun {pronoun!r} in {text!r}; it must "
            "be the pronoun's place among the words that single spaces separate, and not the first"
        )
    return " ".join([" ".join(words[:index]), "X", " ".join(words[index + 1 :])])
