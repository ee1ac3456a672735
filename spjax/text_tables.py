"""Plain-text tables: aligned columns, the same text on any terminal and in any file."""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Collection, Sequence

from rich.box import Box
from rich.console import Console
from rich.table import Table
from rich.text import Text

# Only a line of dashes under the header; columns are two blanks apart.
_RULE = "    \n    \n -- \n    \n    \n    \n    \n    \n"
_WIDTH = 1_000_000  # columns are never wrapped or cut off
# Rich strips blanks at the end of right-aligned cells, which stand for an absent mark.
_BLANK = "\ue000"
_CONTROLS = ("Cc", "Zl", "Zp")  # control characters, line and paragraph separators


def render(
    rows: Sequence[Sequence[object]], right: Collection[int] = (), header_rule: bool = False
) -> str:
    """Returns a table without colors and without blanks at the end of its lines.

    Args:
      rows: cells, all rows equally many; the first row may be a header.
      right: indices of right-aligned columns, such as those of numbers.
      header_rule: whether a line of dashes follows the first row.
    """
    if not rows:
        return ""
    table = Table(
        box=Box(_RULE, ascii=True) if header_rule else None,
        padding=(0, 1 if header_rule else 2, 0, 0),  # the rule divides columns by a blank
        show_header=header_rule,
        show_edge=False,
        pad_edge=False,
    )
    first, *others = [[_text(cell) for cell in row] for row in rows]
    for i, cell in enumerate(first):
        header = cell if header_rule else ""
        table.add_column(header, justify="right" if i in right else "left", no_wrap=True)
    for cells in others if header_rule else [first, *others]:
        table.add_row(*cells)
    output = io.StringIO()
    console = Console(
        file=output,
        width=_WIDTH,
        color_system=None,
        legacy_windows=False,
        force_terminal=False,
        force_jupyter=False,  # which would print into the notebook, not into the file
    )
    console.print(table)
    lines = output.getvalue().replace(_BLANK, " ").split("\n")
    return "\n".join(line.rstrip(" ") for line in lines).removesuffix("\n")


def _text(cell: object) -> Text:
    """Returns a cell in which brackets are no markup of rich's, with escapes for line breaks."""
    text = "".join(
        ascii(letter)[1:-1] if unicodedata.category(letter) in _CONTROLS else letter
        for letter in str(cell)
    )
    end = text[len(text.rstrip(" ")) :]
    return Text(text.removesuffix(end) + _BLANK * len(end))
