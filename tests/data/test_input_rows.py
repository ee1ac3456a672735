"""Lines to answer, good ones and bad ones."""

import json

import pytest

from spjax.data import lines


def rows(*data, **options):
    return list(lines.read([text.encode() + b"\n" for text in data], **options))


def test_text_keeps_every_line():
    found = rows("one", "", '{"inputs": "x"}')
    assert [(row.line, row.text) for row in found] == [(1, "one"), (2, ""), (3, '{"inputs": "x"}')]
    assert not any(row.problem or row.fields is not None for row in found)


def test_marks_and_line_ends_go():
    found = list(lines.read([b"\xef\xbb\xbfa\r\n", b"b"]))
    assert [row.text for row in found] == ["a", "b"]


@pytest.mark.parametrize("options", [{}, {"name": "x.JSONL"}, {"format": "jsonl"}])
def test_json_lines_are_told_from_text(options):
    found = rows('{"inputs": "a", "id": 7}', "", '{"inputs": "b"}', **options)
    assert [(row.line, row.text) for row in found] == [(1, "a"), (3, "b")]
    assert found[0].fields == {"inputs": "a", "id": 7}


def test_columns():
    found = rows(
        '{"q": "a", "p": "cb"}', '{"q": "b", "p": "x"}', '{"q": "c"}',
        input_column="q", prompt_column="p", prompts=("cb", "wsc"),
    )  # fmt: skip
    assert (found[0].text, found[0].prompt) == ("a", "cb")
    assert found[1].problem == "unknown prompt 'x'; the known ones are cb, wsc"
    assert found[2].problem == "no field 'p', only 'q'"


@pytest.mark.parametrize(
    "line, problem",
    [
        (b"{", "not a JSON object (Expecting property name"),
        (b"[1]", "expected a JSON object, found list"),
        (b'{"inputs": 3}', "the field 'inputs' is 3; it must be a string"),
        (b"{}", "no field 'inputs', only none"),
        (b"\xff", "not UTF-8 text (invalid start byte)"),
        (b'{"inputs": "\\ud800"}', "not UTF-8 text (surrogates not allowed)"),
        (b'{"inputs": ' + b"[" * 200_000, "nested too deeply"),
    ],
)
def test_bad_rows_say_why_and_the_next_are_read(line, problem):
    found = list(lines.read([line, b'{"inputs": "b"}'], format="jsonl"))
    assert found[0].problem.startswith(problem) and found[0].line == 1
    assert found[0].fields == {} and found[1].text == "b"


def test_rows_come_as_lines_come():
    taken = []

    def stream():
        for text in ("a", "b", "c"):
            taken.append(text)
            yield text.encode()

    assert next(lines.read(stream())).text == "a" and taken == ["a"]


def test_a_json_row_goes_through_unchanged():
    fields = {"inputs": "ä", "n": [1, {"x": None}]}
    assert rows(json.dumps(fields), format="jsonl")[0].fields == fields
