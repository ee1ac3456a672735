"""Inputs to answer, good ones and bad ones, in every format."""

import csv
import io
import json
import re

import pandas
import pytest

from spjax.data.tasks import input_rows
from spjax.data.tasks.input_rows import InputColumns

PAIR = "premise: {premise} hypothesis: {hypothesis}"
ROWS = [
    {"premise": "it is,\tcold", "hypothesis": 'a "dog"', "answer": "no"},
    {"premise": "the fox", "hypothesis": "é", "answer": "yes"},
]


def rows(*data, columns=None, **options):
    stream = io.BytesIO(b"".join(text.encode() + b"\n" for text in data))
    return list(input_rows.read(stream, {"": columns or InputColumns()}, **options))


def table(format):
    """`ROWS` as the bytes of a file."""
    stream = io.BytesIO()
    if format == "parquet":
        pandas.DataFrame(ROWS).to_parquet(stream)
        return stream.getvalue()
    if format == "jsonl":
        return "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    text = io.StringIO()
    writer = csv.DictWriter(text, ROWS[0], delimiter="\t" if format == "tsv" else ",")
    writer.writeheader()
    writer.writerows(ROWS)
    return text.getvalue().encode("utf-8-sig")


def test_text_keeps_every_line():
    found = rows("one", "", '{"inputs": "x"}')
    expected = [(":1", "one"), (":2", ""), (":3", '{"inputs": "x"}')]
    assert [(row.location, row.input) for row in found] == expected
    assert not any(row.problem or row.fields is not None for row in found)
    assert not rows()


def test_marks_and_line_ends_go():
    found = list(input_rows.read(io.BytesIO(b"\xef\xbb\xbfa\r\nb"), {"": InputColumns()}))
    assert [row.input for row in found] == ["a", "b"]


@pytest.mark.parametrize("options", [{}, {"name": "x.JSONL"}, {"format": "jsonl"}])
def test_json_lines_are_told_from_text(options):
    found = rows('{"inputs": "a", "id": 7}', "", '{"input": "b"}', **options)
    assert [(row.location, row.input) for row in found] == [(":1", "a"), (":3", "b")]
    assert found[0].fields == {"inputs": "a", "id": 7}


@pytest.mark.parametrize("format", input_rows.FORMATS[1:])
def test_rows_of_every_format_are_put_into_the_template(format):
    texts = [PAIR.format(**row) for row in ROWS]
    for options in ({"format": format}, {"name": f"new.{format}"}):
        stream = io.BytesIO(table(format))
        found = list(input_rows.read(stream, {"": InputColumns(PAIR)}, **options))
        assert [row.input for row in found] == texts
        assert [row.fields for row in found] == ROWS and not any(row.problem for row in found)


def test_a_line_takes_the_place_of_the_only_column():
    one = InputColumns("sentence: {text}.")
    found = rows("it is cold", "sentence: it is cold.", "", columns=one)
    assert [row.input for row in found] == ["sentence: it is cold."] * 2 + ["sentence: ."]
    found = rows('{"body": "a", "text": "b"}', columns=InputColumns(one.template, "body"))
    assert found[0].input == "sentence: a."
    found = rows(PAIR.format(**ROWS[0]), "it is cold", columns=InputColumns(PAIR))
    assert found[0].input == PAIR.format(**ROWS[0])
    assert "'it is cold' is not written as the template of the prompt's task" in found[1].problem
    (row,) = rows(json.dumps(ROWS[0]), columns=InputColumns(PAIR, "premise"))
    assert "with the columns 'premise' and 'hypothesis' as JSON lines" in row.problem


@pytest.mark.parametrize(
    "columns, row, problem",
    [
        (InputColumns(PAIR), {"premise": "a"}, "no field 'hypothesis', only 'premise'; the templ"),
        (InputColumns(PAIR), {"premise": "a", "hypothesis": " "}, "the field 'hypothesis' is empt"),
        (InputColumns(PAIR), {"premise": "a", "hypothesis": 3}, "'hypothesis' is 3; it must be a"),
        (InputColumns(), {"input": "a", "inputs": "b"}, "'input' and 'inputs' differ; say which"),
        (InputColumns("{input}"), {"text": "a"}, "no field 'input' or 'inputs', only 'text'"),
        (InputColumns(shown=("a", "b")), {"a": "x"}, "nor all of 'a', 'b', which the prompt's"),
        (InputColumns(column="texts"), {"text": "a"}, "no field 'texts', only .*mean 'text'"),
    ],
)
def test_rows_without_an_input_say_why(columns, row, problem):
    (found,) = rows(json.dumps(row), columns=columns)
    assert re.search(problem, found.problem), found.problem


def test_a_header_is_no_input():
    for header, format in (("input\ttarget", "tsv"), ("answer, premise, hypothesis", "csv")):
        columns = InputColumns(PAIR if format == "csv" else "")
        with pytest.raises(ValueError, match=f"like the header of a table.*--format={format}"):
            rows(header, "a", columns=columns)
        assert rows(header, columns=InputColumns(), format="text")[0].input == header
    (row,) = rows("a,a", "1,2", format="csv")
    assert row.problem == "the column 'a' occurs 2 times"
    with pytest.raises(ValueError, match="--input_column=q is for rows, and lines of text have no"):
        rows("one", columns=InputColumns(column="q"))
    with pytest.raises(ValueError, match="lines of text have no column that names a prompt"):
        rows("one", format="text", prompt_column="p")
    with pytest.raises(ValueError, match="'stdin' is not a Parquet file"):
        rows("one", format="parquet")


def test_a_column_names_the_prompt():
    data = ['{"q": "a", "p": "cb"}', '{"q": "b", "p": "x"}', '{"q": "c"}']
    stream = io.BytesIO("\n".join(data).encode())
    known = dict.fromkeys(("cb", "wsc"), InputColumns(column="q"))
    found = list(input_rows.read(stream, known, prompt_column="p"))
    assert (found[0].input, found[0].prompt) == ("a", "cb")
    assert found[1].problem == "unknown prompt 'x'; the known ones are cb, wsc"
    assert found[2].problem.startswith("no field 'p', only 'q'")


@pytest.mark.parametrize(
    "line, problem",
    [
        (b'{"', "not a JSON object (Invalid control character"),
        (b"[1]", "expected a JSON object, found [1]"),
        (b'{"inputs": 3}', "the field 'inputs' is 3; it must be a text"),
        (b"{}", "no field 'input' or 'inputs', only none"),
        (b"\xff", "not UTF-8 text (invalid start byte"),
        (b'{"inputs": "\\ud800"}', "not UTF-8 text (surrogates not allowed)"),
        (b'{"inputs": ' + b"[" * 200_000, "nested too deeply"),
    ],
)
def test_bad_rows_say_why_and_the_next_are_read(line, problem):
    stream = io.BytesIO(line + b'\n{"inputs": "b"}')
    found = list(input_rows.read(stream, {"": InputColumns()}, format="jsonl"))
    assert found[0].problem.startswith(problem) and found[0].location == ":1"
    assert found[0].fields == {} and found[1].input == "b"


def test_rows_come_as_lines_come():
    taken = []

    def stream():
        for text in ("a", "b", "c"):
            taken.append(text)
            yield text.encode()

    assert next(input_rows.read(stream(), {"": InputColumns()})).input == "a" and taken == ["a"]


def test_a_json_row_goes_through_unchanged():
    fields = {"inputs": "ä", "n": [1, {"x": None}]}
    assert rows(json.dumps(fields), format="jsonl")[0].fields == fields
