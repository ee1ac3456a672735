"""Inputs for prediction, from lines of text or rows of JSON lines, CSV, TSV or Parquet."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from spjax.data.tasks import file_rows
from spjax.data.tasks.row_texts import Template
from spjax.files import json_lines

FORMATS = ("text", "jsonl", "csv", "tsv", "parquet")
# What the whole text is called in a user's own files (`FileTask.template`) and in token caches.
INPUT_COLUMNS = ("input", "inputs")
_WHOLE = "{input}"  # the template of a file that holds whole texts


@dataclasses.dataclass(frozen=True)
class InputColumns:
    """Columns of a row that hold the input of a prompt.

    Attributes:
      template: of the prompt's task, which rows were put into when it was trained
        (`FileTask.template`); "" where rows hold whole texts.
      column: the column with the text, or with the only column of the template; "" for those of
        the template, or else one of `INPUT_COLUMNS`.
      shown: names of the fields that the prompt's own insertion shows (`PreparedPrompt.shown`); a
        row with all of these needs no text.
    """

    template: str = ""
    column: str = ""
    shown: tuple[str, ...] = ()

    @functools.cached_property
    def _template(self) -> Template:
        return Template(self.template or _WHOLE)

    @property
    def names(self) -> tuple[str, ...]:
        """Returns the columns in the template; none where rows hold whole texts."""
        return () if self.template in ("", _WHOLE) else self._template.columns

    def of_line(self, text: str) -> str:
        """Returns the input of a line of text.

        A line with the fixed parts of the template is the whole input; any other is the value of
        the only column.

        Raises:
          ValueError: the template has several columns.
        """
        if not self.names or self._template.wrote(text):
            return text
        if len(self.names) == 1:
            return self._template.join({self.names[0]: text})
        raise ValueError(
            f"{file_rows.shown(text)} is not written as the template of the prompt's task, "
            f"{self.template!r}; give rows with the columns {self._listed} as JSON lines, CSV, TSV "
            "or Parquet, without --input_column"
        )

    def of_row(self, fields: Mapping[str, Any]) -> str | dict[str, str]:
        """Returns the input of a row, or the texts of the fields in the prompt's insertion.

        Raises:
          ValueError: there is none.
        """
        if self.column:
            return self.of_line(_text(fields, self.column))
        if self.names and {*self.names} <= fields.keys():
            return self._template.fill(fields)
        if self.shown and {*self.shown} <= fields.keys():
            return {name: _text(fields, name) for name in self.shown}
        if self.names:
            lost = next(name for name in self.names if name not in fields)
            raise ValueError(
                f"{file_rows.missing(lost, tuple(fields))}; the template of the prompt's task, "
                f"{self.template!r}, shows {self._listed}"
            )
        return self._whole_text(fields)

    @property
    def _listed(self) -> str:
        return " and ".join(map(repr, self.names))

    def _whole_text(self, fields: Mapping[str, Any]) -> str:
        here = [name for name in INPUT_COLUMNS if name in fields]
        if len(here) > 1 and fields[here[0]] != fields[here[1]]:
            raise ValueError(
                f"the fields {here[0]!r} and {here[1]!r} differ; say which one is the input with "
                "--input_column"
            )
        if not here:
            columns = " or ".join(map(repr, INPUT_COLUMNS))
            shown = ", ".join(map(repr, self.shown))
            either = f", nor all of {shown}, which the prompt's template shows" if shown else ""
            present = ", ".join(map(repr, fields)) or "none"
            raise ValueError(f"no field {columns}{either}, only {present}")
        return _text(fields, here[0])


@dataclasses.dataclass(frozen=True)
class Row:
    """One input, or its error.

    Attributes:
      location: suffix of the source's name in messages, such as ":12" for a line.
      input: the text, or the texts of the fields that its prompt's insertion shows, by name; ""
        where there is a problem.
      prompt: value of its prompt column; "" without one.
      fields: all values by column, empty if it cannot be used; None for a line of text.
      problem: the reason why the row cannot be used; "" if it can.
    """

    location: str
    input: str | Mapping[str, str] = ""
    prompt: str = ""
    fields: Mapping[str, Any] | None = None
    problem: str = ""


def read(
    stream: BinaryIO,
    prompts: Mapping[str, InputColumns],
    *,
    format: str = "",
    name: str = "",
    prompt_column: str = "",
) -> Iterator[Row]:
    """Yields rows in order; of text and JSON lines each as soon as its line is there.

    Args:
      stream: bytes, in UTF-8 if they are no Parquet; empty lines are inputs in text and skipped
        elsewhere.
      prompts: the columns of the input, by the name of its prompt; "" without a prompt column.
      format: one of `FORMATS`; "" to go by the ending of `name`, else by whether the first line is
        a JSON object.
      name: of the file, "" if it has none.
      prompt_column: the column with the name of the prompt; "" if rows have none. Text has no
        columns, so with one the format is another.

    Returns:
      An iterator of rows, bad ones with their `problem`.

    Raises:
      ValueError: the stream is not what `format` says, or text looks like a table.
    """
    lines: Iterable[bytes] = stream
    format = format or _format_of(name) or ("jsonl" if prompt_column else "")
    if format in ("", "text"):
        first = next(iter(stream), None)
        lines = itertools.chain([] if first is None else [first], stream)
        if not format:
            format = "jsonl" if first is not None and _is_object(first) else "text"
            if format == "text":
                _check_no_header(first or b"", prompts.values())
    if format == "text":
        columns, *others = prompts.values()
        if prompt_column or others:
            raise ValueError(
                "lines of text have no column that names a prompt; leave out --format=text, or "
                "--prompt_column."
            )
        if columns.column:
            raise ValueError(
                f"--input_column={columns.column} is for rows, and lines of text have no columns; "
                "leave it out, or say what the input is with --format."
            )
        return _text_rows(lines, columns)
    if format == "jsonl":
        rows = file_rows.of_lines(lines)
    else:
        rows = file_rows.of_stream(stream, f".{format}", name or "stdin")
    return (_row(row, prompts, prompt_column) for row in rows)


def _format_of(name: str) -> str:
    ending = Path(name).suffix.lower()
    if ending not in file_rows.ENDINGS:
        return ""
    return ending[1:] if ending[1:] in FORMATS else "jsonl"


def _text_rows(lines: Iterable[bytes], columns: InputColumns) -> Iterator[Row]:
    for number, data in enumerate(lines, 1):
        location = f":{number}"
        try:
            text = data.decode("utf-8").rstrip("\r\n")
            text = text.removeprefix("\ufeff") if number == 1 else text
            yield Row(location, columns.of_line(text))
        except UnicodeDecodeError as error:
            yield Row(
                location, problem=f"not UTF-8 text ({error.reason} at byte {error.start + 1})"
            )
        except ValueError as error:
            yield Row(location, problem=str(error))


def _row(row: file_rows.Row, prompts: Mapping[str, InputColumns], prompt_column: str) -> Row:
    if row.problem:
        return Row(row.location, fields={}, problem=row.problem)
    try:
        # Values that JSON has no word for, as dates of Parquet, are answered as their text.
        json.dumps(row.fields, ensure_ascii=False, default=str).encode()
        prompt = _text(row.fields, prompt_column) if prompt_column else ""
        if prompt not in prompts:
            raise ValueError(f"unknown prompt {prompt!r}; the known ones are {', '.join(prompts)}")
        return Row(row.location, prompts[prompt].of_row(row.fields), prompt, row.fields)
    except UnicodeEncodeError as error:
        return Row(row.location, fields={}, problem=f"not UTF-8 text ({error.reason})")
    except ValueError as error:
        return Row(row.location, fields={}, problem=str(error))


def _text(fields: Mapping[str, Any], column: str) -> str:
    if column not in fields:
        raise ValueError(file_rows.missing(column, tuple(fields)))
    if not isinstance(fields[column], str):
        text = file_rows.shown(fields[column])
        raise ValueError(f"the field {column!r} is {text}; it must be a text")
    return fields[column]


def _is_object(data: bytes) -> bool:
    return any(isinstance(line.value, dict) for line in json_lines([data]))


def _check_no_header(line: bytes, prompts: Iterable[InputColumns]) -> None:
    """Refuses a first line that names a table's columns instead of being an input."""
    text = line.decode("utf-8-sig", "replace")
    wanted = [columns.names or (name,) for columns in prompts for name in INPUT_COLUMNS]
    for format, delimiter in (("tsv", "\t"), ("csv", ",")):
        cells = {cell.strip().strip('"') for cell in text.split(delimiter)}
        if len(cells) > 1 and any({*names} <= cells for names in wanted):
            raise ValueError(
                f"the first line, {text.strip()!r}, looks like the header of a table; say what the "
                f"input is with --format={format}, or with --format=text if it is an input."
            )
