"""HTML text that is escaped unless it is marked as HTML, and tables that sort by a click."""

from __future__ import annotations

import html
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any


class Markup(str):
    """Text that is HTML already."""


def escaped(value: object) -> Markup:
    """Returns HTML for a value: `Markup` as it is, all else with its special characters escaped."""
    return value if isinstance(value, Markup) else Markup(html.escape(str(value)))


def element(tag: str, *content: object, **attributes: object) -> Markup:
    """Returns an element with escaped content and attributes.

    Args:
      tag: its name.
      *content: texts and `Markup`, one after the other.
      **attributes: a trailing underscore is dropped and others become hyphens, as in `class_` and
        `aria_label`. None leaves an attribute out.
    """
    names = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
    shown = "".join(
        f' {name}="{html.escape(str(value))}"' for name, value in names.items() if value is not None
    )
    return Markup(f"<{tag}{shown}>{''.join(map(escaped, content))}</{tag}>")


def paragraphs(texts: Sequence[object]) -> Markup:
    """Returns a paragraph for each text."""
    return Markup("\n".join(element("p", text) for text in texts))


def bullets(texts: Sequence[object]) -> Markup:
    """Returns a list, "" of no texts."""
    items = [element("li", text) for text in texts]
    return element("ul", *items) if items else Markup("")


def json_text(value: Any) -> Markup:
    """Returns JSON that can stand inside a script element."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=True)
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(text)


class Number:
    """A number of a table: sorted by its value, shown in a chosen format.

    Values that are no finite numbers are shown as "-" and sorted last.
    """

    def __init__(self, value: float, shown: str = "{:.1f}") -> None:
        """Args: the value, and the format of one that is finite."""
        self.value = float(value)
        self.shown = shown.format(value) if math.isfinite(self.value) else "-"


def table(
    caption: str, head: Sequence[str], rows: Sequence[Sequence[object]], **attributes: object
) -> Markup:
    """Returns a table whose columns are sorted by a click on their heads.

    Args:
      caption: says what it holds.
      head: names of the columns.
      rows: cells, as many as columns; `Number` for what is sorted as a number.
      **attributes: of the table element, as in `element`.
    """
    numeric = [any(isinstance(row[i], Number) for row in rows) for i in range(len(head))]
    cells = [
        element(
            "th",
            Markup(element("button", name, type="button")),
            scope="col",
            aria_sort="none",
            class_="number" if is_number else None,
        )
        for name, is_number in zip(head, numeric)
    ]
    body = Markup("\n").join(Markup(f"<tr>{''.join(map(_cell, row))}</tr>") for row in rows)
    content = (
        element("caption", caption),
        element("thead", element("tr", *cells)),
        element("tbody", Markup(f"\n{body}\n")),
    )
    attributes = {"class_": "sortable", **attributes}
    return element("div", element("table", *content, **attributes), class_="scroll")


def facts(rows: Mapping[str, object]) -> Markup:
    """Returns a list of names and values."""
    pairs = [element("dt", name) + element("dd", value) for name, value in rows.items()]
    return element("dl", Markup("".join(pairs)))


def _cell(value: object) -> Markup:
    if isinstance(value, Number):
        sort = repr(value.value) if math.isfinite(value.value) else ""
        return element("td", value.shown, class_="number", data_value=sort)
    return element("td", value)
