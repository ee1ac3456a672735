"""Texts made of the columns of a row, by a template such as `"premise: {premise}"`."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from typing import Any

from spjax import guesses
from spjax.data.tasks import file_rows


class BadRow(ValueError):
    """A row that no example can be made of; the text says why."""


class Template:
    """A text with columns in braces.

    Attributes:
      text: the template; braces that are no column are doubled.
      columns: names of the columns, each once, in order.
    """

    def __init__(self, text: str, setting: str = "template") -> None:
        """Parses the text.

        Args:
          text: the template.
          setting: the field of `FileTask` that it comes from, for the message.

        Raises:
          ValueError: there is something else than a name between braces.
        """
        problem = ""
        try:
            parsed = list(string.Formatter().parse(text))
        except ValueError as error:
            parsed, problem = [], str(error)
        if any(name == "" or spec or conversion for _, name, spec, conversion in parsed):
            problem = "between braces stands the name of a column and nothing else"
        if problem:
            raise ValueError(
                f"FileTask.{setting} is {text!r}: {problem}. Write a column as {{column}} and a "
                "brace as {{ or }}."
            )
        self.text = text
        self._pieces = [(literal, name) for literal, name, _, _ in parsed]
        self.columns = tuple(dict.fromkeys(name for _, name in self._pieces if name is not None))

    def fill(self, fields: Mapping[str, Any], numeric: bool = False) -> str:
        """Returns the text of a row.

        Args:
          fields: values of the row by column.
          numeric: whether numbers may stand for their text.

        Raises:
          BadRow: a column is missing, empty or no text.
        """
        texts = {}
        for column in self.columns:
            content = value(column, fields)
            if numeric and isinstance(content, (int, float)) and not isinstance(content, bool):
                content = str(content)
            texts[column] = _text(column, content)
        return self.join(texts)

    def join(self, texts: Mapping[str, str]) -> str:
        """Returns the template with these texts in place of its columns."""
        pieces = self._pieces
        return "".join(text + (texts[name] if name is not None else "") for text, name in pieces)

    def wrote(self, text: str) -> bool:
        """Returns whether a text has the fixed parts of the template."""
        fixed = [""]
        for literal, name in self._pieces:
            fixed[-1] += literal
            fixed += [""] if name is not None else []
        first, *between, last = fixed if len(fixed) > 1 else [*fixed, ""]
        position = len(first)
        for part in between:
            if (start := text.find(part, position)) < 0:
                return False
            position = start + len(part)
        return text.startswith(first) and text.endswith(last) and position <= len(text) - len(last)


def value(column: str, fields: Mapping[str, Any]) -> Any:
    """Returns the value of a column.

    Raises:
      BadRow: there is no such column.
    """
    if column not in fields:
        raise BadRow(file_rows.missing(column, tuple(fields)))
    return fields[column]


def _text(column: str, content: Any) -> str:
    if not isinstance(content, str):
        raise BadRow(f"the field {column!r} is {file_rows.shown(content)}; it must be a text")
    if not content.strip():
        raise BadRow(f"the field {column!r} is empty")
    if not file_rows.is_utf8(content):
        raise BadRow(f"the field {column!r} has half of a surrogate pair")
    return content


def label(column: str, content: Any, labels: Sequence[str]) -> int:
    """Returns the number of the label that a column holds, by word or by number.

    Raises:
      BadRow: it holds neither.
    """
    written = [str(content)]
    if isinstance(content, bool):
        written += [str(content).lower(), str(int(content))]
    elif isinstance(content, float) and content.is_integer():
        written.append(str(int(content)))  # Pandas makes 1.0 of a 1 in a column with gaps
    for word in written:  # all before any number, for labels such as "1" and "2"
        if word in labels:
            return labels.index(word)
    digits = any(label.isdecimal() for label in labels)  # then a number is a label or wrong
    if not digits and re.fullmatch(r"\d{1,9}", written[-1]) and int(written[-1]) < len(labels):
        return int(written[-1])
    close = guesses.closest(str(content), labels)
    guess = f"; did you mean {close!r}?" if close else ""
    numbers = "" if digits else f" or a number from 0 to {len(labels) - 1}"
    raise BadRow(
        f"the field {column!r} is {file_rows.shown(content)}; it must be {', '.join(labels)}"
        f"{numbers}{guess}"
    )
