"""Tables are the same text in files and on any terminal, and show cells as they are."""

import builtins

import pytest

from spjax import text_tables

ROWS = [
    ("name", "score", "note"),
    ("[red]é[/]", "40.0 ", ":smile:"),
    ("  b", "1,234.5*", "x" * 150),
]


@pytest.fixture(params=["", "20", "notebook"], autouse=True)
def terminal(request, monkeypatch):
    """No terminal, what would force rich to color and wrap, and a notebook."""
    if request.param == "notebook":
        shell = type("ZMQInteractiveShell", (), {})()
        monkeypatch.setattr(builtins, "get_ipython", lambda: shell, raising=False)
    elif request.param:
        monkeypatch.setenv("COLUMNS", request.param)
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("TTY_COMPATIBLE", "1")


def test_columns_are_aligned_and_never_cut_off():
    assert text_tables.render(ROWS, right=[1]).splitlines() == [
        "name          score  note",
        "[red]é[/]     40.0   :smile:",
        "  b        1,234.5*  " + "x" * 150,
    ]


def test_a_rule_under_the_header_is_as_wide_as_the_table():
    rows = [row[:2] for row in ROWS]
    assert text_tables.render(rows, right=[1], header_rule=True).splitlines() == [
        "name          score",
        "-------------------",
        "[red]é[/]     40.0",
        "  b        1,234.5*",
    ]


def test_nothing_and_empty_cells():
    assert text_tables.render([]) == ""
    assert text_tables.render([("", 1), ("", 2)]) == "  1\n  2"
    assert text_tables.render([("a", ""), ("", "")]).split("\n") == ["a", ""]


def test_line_breaks_and_tabs_stay_in_their_cell():
    assert text_tables.render([("a\tb\n", "c\r"), ("d", "\x1b[1m")]).splitlines() == [
        "a\\tb\\n  c\\r",
        "d       \\x1b[1m",
    ]
