"""Examples that each way of tuning saves over each other (Le Scao & Rush 2021).

    python -m experiments.extensions.data_efficiency STUDY_FOLDER

Writes data_efficiency.md and data_efficiency.json into the folder.
"""

from __future__ import annotations

import itertools
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from experiments.extensions import stored
from spjax.analysis import examples, statistics

EXPLANATION = """
An advantage is the area between two curves over the height of the window of scores that both
reach: examples that the first saves, on average over these scores, with the 95 % interval over
draws of the examples, paired. "-": no score is reached by both.
"""


def advantages(results: pd.DataFrame) -> list[dict[str, Any]]:
    """A row for each model and pair of lines, examples saved by the first over the second."""
    by_seed = examples.by_seed(results)
    rows = []
    for (model, more), (other, less) in itertools.combinations(by_seed, 2):
        if model == other:
            saved = examples.advantage(by_seed[model, more], by_seed[model, less])
            row = {"model": model, "line": more, "over": less}
            known = dict(zip(("examples", "low", "high"), saved))
            rows.append(row | {k: None if math.isnan(v) else v for k, v in known.items()})
    return rows


def markdown(results: pd.DataFrame, rows: Sequence[dict[str, Any]]) -> str:
    """Scores at each number of examples, and the advantages."""
    cells, notes = examples.curves(results)
    counts = sorted(int(count) for count in cells["examples"].dropna().unique())
    head = ["model", "line", *map(str, counts)]
    tasks = " and ".join(cells["tasks"].iloc[0].split())
    what = "mean ± standard deviation (ddof=1) over draws of the examples, by their number"
    lines = [f"Test score in %, {what}; mean of {tasks}.", ""]
    lines += [f"| {' | '.join(head)} |", "| --- | --- |" + " ---: |" * len(counts)]
    for (model, line), part in cells.groupby(["model", "line"], sort=False):
        score_of = {
            int(row.examples): f"{row.mean:.1f} ± {row.std:.1f}" for row in part.itertuples()
        }
        shown = [model, line, *(score_of.get(count, "-") for count in counts)]
        lines.append(f"| {' | '.join(shown)} |")
    lines += ["", "| model | line | over | examples saved |", "| --- | --- | --- | ---: |"]
    for row in rows:
        saved = "-" if row["examples"] is None else f"{row['examples']:.0f}"
        saved += "" if row["low"] is None else f" [{row['low']:.0f}, {row['high']:.0f}]"
        lines.append(f"| {row['model']} | {row['line']} | {row['over']} | {saved} |")
    return "\n".join([*lines, EXPLANATION, *(f"- {note}" for note in notes)]).rstrip() + "\n"


def main(arguments: Sequence[str]) -> None:
    """Prints the tables and writes both files."""
    folder = Path(arguments[0])
    results = statistics.load(folder)
    rows = advantages(results)
    title = "What examples are worth"
    stored.write(folder, "data_efficiency", title, rows, markdown(results, rows))


if __name__ == "__main__":
    main(sys.argv[1:])
