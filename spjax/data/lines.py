"""Inputs to answer, as lines of text or JSON objects from a file or a stream, one at a time."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

FORMATS = ("text", "jsonl")
_ENDINGS = (".jsonl", ".json", ".ndjson")


@dataclasses.dataclass(frozen=True)
class Row:
    """One line.

    Attributes:
      line: its number, from 1.
      text: the input; "" where there is a problem.
      prompt: what its prompt column says; "" without one.
      parts: texts of the fields that its prompt asks for, by name; None where `text` is the input.
      fields: the whole JSON object, empty if it cannot be used; None for a line of text.
      problem: why the line cannot be used; "" if it can.
    """

    line: int
    text: str = ""
    prompt: str = ""
    parts: dict[str, str] | None = None
    fields: dict[str, Any] | None = None
    problem: str = ""


def read(
    lines: Iterable[bytes],
    format: str = "",
    name: str = "",
    input_column: str = "inputs",
    prompt_column: str = "",
    prompts: Iterable[str] | Mapping[str, Sequence[str]] = (),
) -> Iterator[Row]:
    """Rows in the order of the lines, each as soon as its line is there.

    Args:
      lines: UTF-8; empty lines are inputs in text and skipped in JSON lines.
      format: one of `FORMATS`; "" to go by the ending of `name`, else by whether the first line
        is a JSON object.
      name: of the file.
      input_column: the JSON field with the text.
      prompt_column: the JSON field with the name of the prompt; "" if rows have none. Only JSON
        lines have columns, so with one the format is theirs.
      prompts: the names it may hold, each with the fields that its template shows if it has one;
        a JSON object with all of these needs no text. Without a prompt column the name is "".

    Returns:
      An iterator of rows, bad ones with their `problem`.
    """
    numbered = enumerate(lines, 1)
    if not format:
        format = "jsonl" if prompt_column or name.lower().endswith(_ENDINGS) else ""
    if not format:
        first = next(numbered, None)
        numbered = itertools.chain([first] if first else [], numbered)
        format = "jsonl" if first and _is_object(first[1]) else "text"
    known = prompts if isinstance(prompts, Mapping) else dict.fromkeys(prompts, ())
    for line, data in numbered:
        try:
            text = data.decode("utf-8").rstrip("\r\n")
            text = text.removeprefix("\ufeff") if line == 1 else text
            if format == "text":
                yield Row(line, text)
            elif text.strip():
                yield _json_row(line, text, input_column, prompt_column, known)
        except (ValueError, RecursionError) as error:
            fields: dict[str, Any] | None = None if format == "text" else {}
            yield Row(line, fields=fields, problem=_explain(error))


def _json_row(
    line: int, text: str, input_column: str, prompt_column: str, known: Mapping[str, Sequence[str]]
) -> Row:
    fields = json.loads(text)
    if not isinstance(fields, dict):
        raise ValueError(f"expected a JSON object, found {type(fields).__name__}")
    json.dumps(fields, ensure_ascii=False).encode()  # refuses halves of surrogate pairs
    prompt = ""
    if prompt_column:
        prompt = _field(fields, prompt_column)
        if prompt not in known:
            raise ValueError(f"unknown prompt {prompt!r}; the known ones are {', '.join(known)}")
    shown = known.get(prompt, ())
    if shown and set(shown) <= set(fields):
        parts = {name: _field(fields, name) for name in shown}
        return Row(line, prompt=prompt, parts=parts, fields=fields)
    if shown and input_column not in fields:
        raise ValueError(
            f"neither a field {input_column!r} nor all of {', '.join(map(repr, shown))}, which the "
            f"prompt's template shows, only {', '.join(map(repr, fields)) or 'none'}"
        )
    return Row(line, _field(fields, input_column), prompt, fields=fields)


def _field(fields: dict[str, Any], column: str) -> str:
    if column not in fields:
        raise ValueError(f"no field {column!r}, only {', '.join(map(repr, fields)) or 'none'}")
    if not isinstance(fields[column], str):
        raise ValueError(f"the field {column!r} is {fields[column]!r}; it must be a string")
    return fields[column]


def _is_object(data: bytes) -> bool:
    try:
        return isinstance(json.loads(data.decode("utf-8-sig")), dict)
    except (ValueError, RecursionError):
        return False


def _explain(error: Exception) -> str:
    if isinstance(error, UnicodeError):
        return f"not UTF-8 text ({error.reason})" if hasattr(error, "reason") else "not UTF-8 text"
    if isinstance(error, json.JSONDecodeError):
        return f"not a JSON object ({error.msg} at character {error.pos + 1})"
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)
