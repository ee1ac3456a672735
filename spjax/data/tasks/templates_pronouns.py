"""Templates for pronoun resolution: Winograd schemas and definite pronoun resolution.

T5 puts the pronoun in stars and lets the model write the noun phrase (Raffel et al. 2020, appendix
D; the name of both tasks is "wsc:").
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from spjax.data.tasks.templates_records import Example, Record, choice, text, texts, value


def wsc(
    fields: Record, *, labels: Sequence[str], features: Sequence[str], training: bool
) -> list[Example]:
    """Formats a Winograd schema: the pronoun in stars; the target is the candidate noun phrase.

    For training only records with label 1 give an example, since the target of the others is a
    noun phrase that the pronoun does not mean. Evaluation keeps all.

    Args:
      fields: of TFDS `super_glue/wsc.fixed`: `text`, `span1_text` (noun phrase), `span2_text`
        (pronoun), `span2_index` (the pronoun's place among the words that spaces separate),
        `label` (0, 1, or -1 in the test split) and `idx`.
      labels: not used.
      features: not used.
      training: see above.

    Raises:
      ValueError: a field is missing, or `span2_index` does not point at the pronoun.
    """
    del labels, features
    label, idx = value(fields, "label"), value(fields, "idx")
    if training and label != 1:
        return []
    inputs = _blank_pronoun(fields).replace(" X ", f" *{text(fields, 'span2_text')}* ")
    return [{"inputs": inputs, "targets": text(fields, "span1_text"), "label": label, "idx": idx}]


def dpr(
    fields: Record, *, labels: Sequence[str], features: Sequence[str], training: bool
) -> list[Example]:
    """Formats pronoun resolution: the first such pronoun in stars; the target is the referent.

    Only a pronoun between a space and a space, full stop or comma is starred; a text without any
    is left as it is.

    Args:
      fields: of TFDS `definite_pronoun_resolution`: `sentence`, `pronoun`, `candidates` (two) and
        `label` (0 or 1, the place of the right one). There is no `idx`.
      labels: not used.
      features: not used.
      training: not used; evaluation reads the same text.

    Raises:
      ValueError: a field is missing or the label is no candidate's place.
    """
    del labels, features, training
    pronoun = re.escape(text(fields, "pronoun"))
    inputs = re.sub(f" ({pronoun})([ .,])", r" *\1*\2", text(fields, "sentence"), count=1)
    target = choice(fields, "label", texts(fields, "candidates"))
    return [{"inputs": inputs, "targets": target, "label": fields["label"]}]


# Two texts of WSC whose span2_index does not point at the pronoun: (before the pronoun, the
# pronoun as it stands, the blank with the spaces T5 puts around it, after the pronoun).
_MISPLACED_PRONOUNS = (
    (
        (
            "The boy continued to whip the pony , and eventually the pony threw him over. "
            'John laughed out quite loud. "Good for '
        ),
        'him,"',
        'X ,"',
        " he said. ",
    ),
    (
        (
            "When they had eventually calmed down a bit , and had gotten home, Mr. Farley put the "
            "magic pebble in an iron safe . Some day they might want to use "
        ),
        "it",
        "X",
        " , but really for now, what more could they wish for?",
    ),
)


def _blank_pronoun(fields: Record) -> str:
    whole, pronoun = text(fields, "text"), text(fields, "span2_text")
    index = value(fields, "span2_index")
    for before, misplaced, blank, after in _MISPLACED_PRONOUNS:
        if whole == before + misplaced + after:
            # T5 drops the space that ends the first of the two texts.
            return (before + blank + after).rstrip(" ")
    words = whole.split(" ")
    if not 0 < index < len(words) or words[index] != pronoun:
        raise ValueError(
            f"span2_index {index} does not point at the pronoun {pronoun!r} in {whole!r}; it must "
            "be the pronoun's place among the words that single spaces separate, and not the first"
        )
    return " ".join([" ".join(words[:index]), "X", " ".join(words[index + 1 :])])
