"""The table printed after a sweep: model size x prompt length, mean ± spread over seeds."""

import math
import textwrap

import pandas as pd

from spjax import text_tables
from spjax.analysis import resampling, statistics

ABSENT = "-"
WIDTH = 100  # characters of the text around the plain table


def table(results: pd.DataFrame) -> str:
    """Returns the table as plain text with aligned columns, heading above and notes below.

    results: the rows of results.csv. Raises ValueError as statistics.main_runs does.
    """
    suite = _suite(results)
    rows = _rows(suite)
    aligned = text_tables.render(rows, right=range(1, len(rows[0])), header_rule=True)
    notes = [textwrap.fill(note, WIDTH) for note in _notes(suite)]
    text = "\n".join([textwrap.fill(heading(suite), WIDTH), "", aligned, "", *notes])
    return text.rstrip() + "\n"


def markdown(results: pd.DataFrame) -> str:
    """Returns the table in Markdown. Raises ValueError as statistics.main_runs does."""
    suite = _suite(results)
    head, *body = [f"| {' | '.join(cell.strip() for cell in row)} |" for row in _rows(suite)]
    rule = "| --- |" + " ---: |" * (len(_rows(suite)[0]) - 1)
    # A star at a line's start would be a list item's bullet.
    notes = ["- " + note.replace("* ", "\\* ", 1) for note in _notes(suite)]
    return "\n".join([heading(suite), "", head, rule, *body, "", *notes]).rstrip() + "\n"


def heading(suite: statistics.Suite) -> str:
    """Describes the numbers: the score, the tasks and the seeds."""
    tasks = suite.tasks
    what = f"mean of {len(tasks)} tasks ({', '.join(tasks)})" if len(tasks) > 1 else tasks[0]
    seeds = suite.cells["seeds"].max()
    spread = resampling.repeats(seeds, suite.cells["draws"].max())
    spread = f"mean ± standard deviation (ddof=1) over {spread}" if seeds > 1 else spread
    by = "validation score" + (" too" if "validation" in suite.scored_on else "")
    score = f"{suite.scored_on.capitalize()} score"
    return f"{score} in %, {what}; {spread}; checkpoints chosen by {by}."


def _suite(results: pd.DataFrame) -> statistics.Suite:
    return statistics.suite(statistics.main_runs(results))


def _rows(suite: statistics.Suite) -> list[list[str]]:
    """Returns the header and one row a model, smallest first; cells end in a star or a blank."""
    cells = suite.cells
    full = cells["method"] == statistics.FULL_FINE_TUNING
    order = list(dict.fromkeys([*cells.loc[~full, "line"], *cells.loc[full, "line"]]))
    rows = [["model", "parameters", "majority", *(f"{line} " for line in order)]]
    models = cells.sort_values(["model_parameters", "model"])
    for (count, model), part in models.groupby(["model_parameters", "model"]):
        cell_of = {row.line: _cell(row) for row in part.itertuples()}
        values = [cell_of.get(line, f"{ABSENT} ") for line in order]
        rows.append([model, f"{count:,}", _number(suite.majority), *values])
    return rows


def _cell(row) -> str:
    if row.seeds == 0:
        return f"{ABSENT} "
    spread = f" ± {row.std:.1f}" if row.seeds > 1 else ""
    return f"{row.mean:.1f}{spread}" + ("*" if row.seeds < row.expected else " ")


def _number(value: float) -> str:
    return f"{value:.1f}" if math.isfinite(value) else ABSENT


def _notes(suite: statistics.Suite) -> list[str]:
    ceiling = suite.ceiling
    known = math.isfinite(ceiling) and ceiling < 100
    return [*([f"A perfect reader scores {ceiling:.1f}."] if known else []), *suite.notes]
