"""Rows of JSON lines, CSV and Parquet files, with position and error of each bad one."""

from __future__ import annotations

import csv
import dataclasses
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from spjax import guesses
from spjax.files import json_lines, open_regular

ENDINGS = (".jsonl", ".json", ".ndjson", ".csv", ".tsv", ".parquet")
_SHOWN = 60  # characters of a value in a message
_UNREAD = "what follows was not read"
_QUOTED = re.compile(r'"([^"]|"")*""([^"]|"")*"')
NAME_COLUMNS = (
    'Name your columns with --gin.TASK_TEMPLATE="{COLUMN}" and --gin.TASK_TARGET="{COLUMN}" '
    "(of gin_configs/tasks/file.gin)."
)
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_SEPARATORS = {";": "semicolons", "\t": "tabs", ",": "commas", "|": "bars"}
# In TSV too, as spreadsheets and Pandas write it; read as they stand, their marks would be text.
_QUOTES = 'a cell that begins with " ends with one, and each " inside is written twice'

_SWALLOWED = (
    "a quoted cell begins here in which each line would be a whole row: the file may have been "
    "written without quoting. Write it as JSON lines (.jsonl), or as a table in which quotation "
    "marks stand around each text that has such a mark, a comma, a tab or a line break in it"
)


@dataclasses.dataclass(frozen=True)
class Row:
    """One row, or its error.

    Attributes:
      location: suffix of the file's name in messages: ":12" for a line, ", row 12" in Parquet.
      fields: its values by column; empty where there is a problem.
      problem: the reason why it cannot be used; "" if it can.
      lacks: the required column that the header of a table lacks, where that is the problem.
      is_last: whether the file was not read any further because of the problem.
    """

    location: str
    fields: dict[str, Any]
    problem: str = ""
    lacks: str = ""
    is_last: bool = False


def read(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """Yields the rows of a file in order.

    Args:
      path: with one of `ENDINGS`, which decides the format.
      columns: the required ones. A table without one of them is a single bad row.

    Raises:
      ValueError: the file cannot be read at all, or its ending is unknown.
    """
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        if not path.exists():
            raise ValueError(
                f"there is no {str(path)!r}; paths are relative to the working directory."
            )
        raise ValueError(f"{str(path)!r} ends in {ending!r}; give one of {', '.join(ENDINGS)}.")
    try:
        with open_regular(path) as stream:
            whole = stream if ending == ".parquet" else io.BytesIO(stream.read())
            return of_stream(whole, ending, str(path), columns)
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())
        raise ValueError(
            f"cannot read {str(path)!r}: {reason}; paths are relative to the working directory."
        ) from error


def of_stream(
    stream: BinaryIO, ending: str, name: str, columns: Sequence[str] | None = None
) -> Iterator[Row]:
    """Yields the rows of an open file or pipe; JSON lines as they come, others after the end.

    Args:
      stream: its bytes.
      ending: one of `ENDINGS`.
      name: of the stream, for messages.
      columns: the required ones, as in `read`; None for all.

    Raises:
      ValueError: it is not Parquet, though `ending` says so.
    """
    if ending == ".parquet":
        seekable = stream if stream.seekable() else io.BytesIO(stream.read())
        return _parquet(seekable, name, columns)
    if ending in _DELIMITERS:
        return _table(stream.read(), name, _DELIMITERS[ending], columns)
    return of_lines(stream)


def missing(column: str, columns: Sequence[str]) -> str:
    """Returns the message that a column is missing among others, with a guess."""
    close = guesses.closest(column, columns)
    guess = f"; did you mean {close!r}?" if close else ""
    return f"no field {column!r}, only {', '.join(map(repr, columns)) or 'none'}{guess}"


def check_columns(name: str, rows: Sequence[Row], columns: Sequence[str]) -> None:
    """Refuses a file in which every row lacks the same column."""
    absent = {
        row.lacks or next((x for x in columns if not row.problem and x not in row.fields), "")
        for row in rows
    }
    if len(absent) != 1 or not (column := absent.pop()):
        return
    present = dict.fromkeys(field for row in rows for field in row.fields)
    problem = rows[0].problem or missing(column, tuple(present))
    raise ValueError(f"{name} has {problem}{'' if problem[-1] == '?' else '.'} {NAME_COLUMNS}")


def shown(value: Any) -> str:
    """Formats a value for a message."""
    text = repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + " ..."


def of_lines(lines: Iterable[bytes]) -> Iterator[Row]:
    """Yields the rows of JSON lines, each as soon as its line is read."""
    first = True
    for number, text, value, problem in json_lines(lines):
        # A list or an object over several lines: each of these would be another bad row.
        start = text.removeprefix(b"\xef\xbb\xbf").strip() if first else text.strip()
        opened = bool(problem) and (start == b"{" or (first and start.startswith(b"[")))
        first = False
        if opened:
            problem += f"; write one object on each line, without [ and ] around them; {_UNREAD}"
        elif not problem and not isinstance(value, dict):
            problem = f"expected a JSON object, found {shown(value)}; write one object on each line"
        yield Row(f":{number}", {} if problem else value, problem, is_last=opened)
        if opened:
            return


def _table(data: bytes, name: str, delimiter: str, columns: Sequence[str] | None) -> Iterator[Row]:
    """Yields rows of a CSV or TSV file, quoted or, for TSV, written without quoting."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError(f"{name!r} is UTF-16 text; save it as UTF-8.")
    # Bytes that are no UTF-8 become surrogates, by which their row is known.
    text = data.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "surrogateescape")
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))  # that of the process
    lines = [line.rstrip("\r\n") for line in io.StringIO(text, newline="")]
    if problem := _separator_problem(lines, delimiter, columns):
        return iter([Row(":1", {}, problem, is_last=True)])
    try:
        swallowed, pairs_up = _first_swallowed(text, lines, delimiter), True
    except csv.Error:
        swallowed, pairs_up = 0, False
    if swallowed or not pairs_up:
        if delimiter == "\t" and _reads_without_quotes(lines, delimiter):
            return _csv(text, delimiter, columns, csv.QUOTE_NONE)
        if swallowed:
            return iter([Row(f":{swallowed}", {}, f"{_SWALLOWED}; {_UNREAD}", is_last=True)])
    return _csv(text, delimiter, columns)


def _first_swallowed(text: str, lines: Sequence[str], delimiter: str) -> int:
    """Returns the first line of a quoted cell that seems to hold whole rows, 0 if none.

    In a file written without quoting, a text that begins with a quotation mark and another that
    ends with one enclose the rows between them: then each line between the two has as many
    delimiters as the header, or where there is none between, these two have. So may a text of
    several lines by chance, but not most such texts of a file, and a space follows a comma in
    prose. A quoted cell of one line that holds a delimiter says that the file is quoted.

    Raises:
      csv.Error: quotation marks do not pair up.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    width, last, several, rowlike = 0, 0, 0, []
    for cells in reader:
        first, last = last, reader.line_num
        width = width or len(cells)
        rows = [line.split(delimiter) for line in lines[first:last]]
        if last - first > 1:
            several += 1
            # The first and the last may hold delimiters in their texts.
            inner = rows[1:-1] or rows
            if all(len(row) == width and not any(c[:1] == " " for c in row[1:]) for row in inner):
                rowlike.append(first + 1)
        elif len(cells) == width != len(rows[0]):
            return 0
    return rowlike[0] if width > 1 and 2 * len(rowlike) > several else 0


def _reads_without_quotes(lines: Sequence[str], delimiter: str) -> bool:
    """Returns whether all lines have equally many cells, at least two, none quoted."""
    rows = [line.split(delimiter) for line in lines if line]
    quoted = any(_QUOTED.fullmatch(cell) for row in rows for cell in row)
    return not quoted and len({len(row) for row in rows}) == 1 < len(rows[0])


def _csv(
    text: str, delimiter: str, columns: Sequence[str] | None, quoting: Any = csv.QUOTE_MINIMAL
) -> Iterator[Row]:
    source = io.StringIO(text, newline="")
    reader = csv.reader(source, delimiter=delimiter, strict=True, quoting=quoting)
    header: list[str] | None = None
    while True:
        location = f":{reader.line_num + 1}"
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield Row(location, {}, f"not CSV ({error}); {_QUOTES}; {_UNREAD}", is_last=True)
            return
        if cells is None:
            return
        if not cells:  # an empty line
            continue
        if header is None:
            header = cells
            if bad := _header_problem(location, header, columns):
                yield bad
                return
            continue
        problem = ""
        if not is_utf8("".join(cells)):
            problem = "not UTF-8 text"
        elif len(cells) != len(header):
            problem = f"{len(cells)} cells, but the header has {len(header)}"
        yield Row(location, {} if problem else dict(zip(header, cells)), problem)


def _separator_problem(lines: Sequence[str], delimiter: str, columns: Sequence[str] | None) -> str:
    """Returns a message if a header without the delimiter uses another one, else ""."""
    header, wanted = next(filter(None, lines), ""), {*(columns or ())}
    for mark, name in {} if delimiter in header else _SEPARATORS.items():
        if mark in header and wanted <= {cell.strip(' "') for cell in header.split(mark)}:
            return (
                f"the header is {shown(header)}: its columns stand between {name}; save the file "
                "with commas as .csv, or with tabs as .tsv"
            )
    return ""


def _header_problem(
    location: str, header: Sequence[str], columns: Sequence[str] | None
) -> Row | None:
    """Returns the bad row that a header makes of a whole table, None if it is as it should be."""
    for column in header if columns is None else columns:
        if column not in header:
            return Row(location, {}, missing(column, header), lacks=column, is_last=True)
        if header.count(column) > 1:
            problem = f"the column {column!r} occurs {header.count(column)} times"
            return Row(location, {}, problem, is_last=True)
    return None


def is_utf8(text: str) -> bool:
    """Returns whether a text has no halves of surrogate pairs."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _parquet(file: BinaryIO, name: str, columns: Sequence[str] | None) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet  # here, because few need it

    try:
        if bad := _header_problem("", pyarrow.parquet.read_schema(file).names, columns):
            return iter([bad])
        wanted = None if columns is None else list(dict.fromkeys(columns))
        table = pyarrow.parquet.read_table(file, columns=wanted)
    except pyarrow.ArrowInvalid as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{name!r} is not a Parquet file: {reason}") from error
    return _parquet_rows(table)


def _parquet_rows(table: Any) -> Iterator[Row]:
    for number in range(table.num_rows):
        location = f", row {number + 1}"
        try:
            yield Row(location, {name: table[name][number].as_py() for name in table.column_names})
        except UnicodeDecodeError:
            yield Row(location, {}, "not UTF-8 text")
