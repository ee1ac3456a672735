"""Templates that place soft tokens anywhere in a text.

In `{p:3} {premise} ? {p:2} answer: {p:1} {hypothesis}` each `{p:n}` is n soft tokens, in
order, names in braces are fields of the example, and all else stays as words (the anchors of
P-tuning). `{inputs}` is the task's whole text. Fields are found in that text, which T5 writes as
`hypothesis: ... premise: ...`: a field is a name that every text of a split has, up to the next.

The token ids of a split are assembled in memory, with the negative id `-1 - i` where soft token i
goes; `spjax.data.batching.batching.rows` turns those into slots. So nothing else needs to know of
templates, and the token cache on disk serves all of them.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from spjax.data.token_cache.cache import CachedSplit
from spjax.data.token_cache.cache_files import Ragged
from spjax.vocabularies.vocabulary import Vocabulary

_log = logging.getLogger(__name__)
WHOLE = "inputs"  # the field that is the task's whole text
_PART = re.compile(r"\{([^{}]*)\}")
_SLOTS = re.compile(r"p:(\d+)")
_NAME = re.compile(r"(?:^| )(\w+): ")


@dataclasses.dataclass(frozen=True)
class Template:
    """A parsed template.

    Attributes:
      parts: in order: ("words", text), ("field", name) or ("slots", number of soft tokens).
    """

    parts: tuple[tuple[str, Any], ...]

    @property
    def length(self) -> int:
        """Returns the number of soft tokens (P)."""
        return sum(value for kind, value in self.parts if kind == "slots")

    @property
    def fields(self) -> tuple[str, ...]:
        """Returns the names of the fields in the template."""
        return tuple(value for kind, value in self.parts if kind == "field")


def is_template(insertion: str) -> bool:
    """Returns whether an insertion is a template and not the name of a place."""
    return "{" in insertion


def parse(text: str) -> Template:
    """Parses a template.

    Raises:
      ValueError: it has no slots or no field, or braces that hold something else.
    """
    parts: list[tuple[str, str | int]] = []
    for i, piece in enumerate(_PART.split(text)):
        if i % 2 == 0:
            parts += [("words", piece.strip())] if piece.strip() else []
        elif match := _SLOTS.fullmatch(piece):
            parts.append(("slots", int(match[1])))
        else:
            parts.append(("field", piece))
    template = Template(tuple(parts))
    anchors = " ".join(str(value) for kind, value in parts if kind == "words")
    names = all(name.isidentifier() for name in template.fields)
    if not (template.length and template.fields and names) or set("{}") & set(anchors):
        raise ValueError(
            f"the template {text!r} is not understood: write rows of the prompt as {{p:3}}, at "
            "least one, and fields of the task as {name}, at least one ({inputs} for all the text)."
        )
    return template


def insert_slots(split: CachedSplit, text: str, vocabulary: Vocabulary) -> CachedSplit:
    """Applies a template to the inputs of a split; id -1 - r is the slot of soft token r.

    If the text is too long, the longest field loses its last tokens; anchors and slots stay.

    Args:
      split: with the task's texts.
      text: the template.
      vocabulary: the vocabulary.

    Raises:
      ValueError: a bad template, or a field that the texts do not have.
    """
    template = parse(text)
    texts = [example["inputs_text"] for example in split.examples]
    names = names_of(texts)
    if unknown := sorted(set(template.fields) - {*names, WHOLE}):
        raise ValueError(
            f"the template {text!r} shows {unknown[0]!r}, which texts of {split.task} do not have. "
            f"Use some of: {', '.join([*names, WHOLE])}."
        )
    for kind, value in template.parts:
        if kind == "words" and vocabulary.unk_id in vocabulary.encode(value):
            _tell_unknown(text, value)
    room = split.lengths["inputs"] - 1
    rows = [_ids(template, _fields(one, names, vocabulary), vocabulary, room) for one in texts]
    offsets = np.cumsum([0, *map(len, rows)])
    values = np.concatenate([np.zeros(0, np.int32), *(np.asarray(r, np.int32) for r in rows)])
    return dataclasses.replace(split, inputs=Ragged(values, offsets))


@functools.cache  # once for all splits
def _tell_unknown(text: str, part: str) -> None:
    _log.warning("the template %r has words that the vocabulary lacks (<unk>): %r", text, part)


def insert_slots_in_text(
    content: str | Mapping[str, str],
    text: str,
    names: Sequence[str],
    vocabulary: Vocabulary,
    length: int,
) -> tuple[list[int], int]:
    """Applies a template to one input; also returns its number of tokens before it was cut.

    Args:
      content: the task's text, or the texts of the template's fields.
      text: the template.
      names: `names_of` the texts that the prompt was trained on, so that fields end as they did
        there; empty for the template's own fields.
      vocabulary: the vocabulary.
      length: most tokens of text, EOS included.

    Raises:
      ValueError: a field of the template is missing.
    """
    template = parse(text)
    if isinstance(content, str):
        fields = _fields(content, [*names] or template.fields, vocabulary)
    else:
        fields = {
            name: vocabulary.encode(content[name]) for name in template.fields if name in content
        }
    if missing := [name for name in template.fields if name not in fields]:
        raise ValueError(
            f"there is no {missing[0]!r}, which the prompt's template shows; write it as "
            f"'{missing[0]}: ...' in the text, as its task does, or as a JSON field"
        )
    shown = sum(len(fields[name]) for name in template.fields)
    anchors = sum(
        len(vocabulary.encode(value)) for kind, value in template.parts if kind == "words"
    )
    return _ids(template, fields, vocabulary, length - 1), shown + anchors + 1


def names_of(texts: Sequence[str]) -> list[str]:
    """Returns the names of fields in all texts, in the order of the first."""
    fields = [dict.fromkeys(_NAME.findall(text)) for text in texts]
    return [name for name in (fields or [{}])[0] if all(name in names for names in fields)]


def _fields(text: str, names: Sequence[str], vocabulary: Vocabulary) -> dict[str, list[int]]:
    """Returns the token ids of each field; the first occurrence of a name counts."""
    first: dict[str, re.Match] = {}
    for match in _NAME.finditer(text):
        if match[1] in names:
            first.setdefault(match[1], match)
    order = sorted(first.values(), key=lambda match: match.start())
    ends = [*(match.start() for match in order[1:]), len(text)]
    ids = {m[1]: vocabulary.encode(text[m.end() : end]) for m, end in zip(order, ends)}
    return {**ids, WHOLE: vocabulary.encode(text)}


def _ids(
    template: Template, fields: Mapping[str, list[int]], vocabulary: Vocabulary, room: int
) -> list[int]:
    """Returns the ids of one example, EOS last; at most `room` of them are text."""
    encode = vocabulary.encode
    pieces = [
        list(fields[value]) if kind == "field" else encode(value) if kind == "words" else []
        for kind, value in template.parts
    ]
    of_fields = [piece for piece, (kind, _) in zip(pieces, template.parts) if kind == "field"]
    for _ in range(sum(map(len, pieces)) - room):
        longest = max(of_fields, key=len)
        del longest[-1:]
    ids: list[int] = []
    row = 0
    for piece, (kind, value) in zip(pieces, template.parts):
        if kind == "slots":
            piece, row = [-1 - r for r in range(row, row + value)], row + value
        ids += piece
    return [*ids, vocabulary.eos_id]
