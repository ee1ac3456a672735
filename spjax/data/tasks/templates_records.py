"""Access to a record's fields, with errors that name the field."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Record = Mapping[str, Any]
Example = dict[str, Any]
Template = Callable[..., list[Example]]

UNKNOWN_TARGET = "<unk>"  # what T5 writes where a record has no label or no answer


def value(fields: Record, path: str) -> Any:
    """Returns the value of a field; a path such as "answers/text" leads into nested fields.

    Raises:
      ValueError: there is no such field.
    """
    current: Any = fields
    for name in path.split("/"):
        if not isinstance(current, Mapping) or name not in current:
            raise ValueError(
                f"a record has no field {path!r}; it has {', '.join(sorted(fields))}. Give records "
                "with the fields that TFDS gives them."
            )
        current = current[name]
    return current


def text(fields: Record, path: str) -> str:
    """Returns the value of a field that must be a text.

    Raises:
      ValueError: there is no such field, or it is no text.
    """
    content = value(fields, path)
    if not isinstance(content, str):
        raise ValueError(f"the field {path!r} of a record is {content!r}; it must be a text")
    return content


def texts(fields: Record, path: str) -> list[str]:
    """Returns the value of a field that must be a list of texts, which may be empty.

    Raises:
      ValueError: there is no such field, or it is no list of texts.
    """
    content = value(fields, path)
    if isinstance(content, str) or not all(isinstance(item, str) for item in content):
        raise ValueError(
            f"the field {path!r} of a record is {content!r}; it must be a list of texts"
        )
    return list(content)


def choice(fields: Record, path: str, words: Sequence[str]) -> str:
    """Returns the word whose number a field holds, `UNKNOWN_TARGET` for -1.

    Raises:
      ValueError: there is no such field, or it is no number of a word.
    """
    number: Any = value(fields, path)
    whole = isinstance(number, numbers.Integral)
    if not whole or not -1 <= number < len(words):
        raise ValueError(
            f"the field {path!r} of a record is {number!r}; it must be a number from 0 to "
            f"{len(words) - 1}, or -1 where it is not known"
        )
    return UNKNOWN_TARGET if number == -1 else words[number]
