"""The number of associations that the prompts of other tasks would hold where gains level off.

    python -m experiments.capacity.effective_items STUDY_FOLDER CAPACITY_STUDY_FOLDER

Prints P* D / c for each task and model of the first study, with c of the second, and writes
effective_items.md and effective_items.csv into the first. Where it is the same on every rung, what
a task needs is room; where it falls with size, larger models know more of the task.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from spjax.analysis import capacity, statistics
from spjax.files import write_text


def constant_of(folder: Path) -> float:
    """Returns c of the fit of associations with the most steps.

    Raises:
      ValueError: the study has too few cells for one.
    """
    fitted = capacity.fits(capacity.needs(statistics.load(folder)))
    of_associations = [fit for fit in fitted if fit.form == "associations"]
    if not of_associations:
        raise ValueError(f"{folder} has too few cells of associations to fit a law to.")
    return max(of_associations, key=lambda fit: fit.steps).constant[0]


def markdown(table: pd.DataFrame, constant: float) -> str:
    """Returns a row for each task with the interval on every model, smallest first."""
    models = table.sort_values("model_parameters")["model"].unique()
    text = (
        "Effective K, P* D / c: associations that a prompt would hold at the lengths between which "
        f"gains level off (90 % interval), with c = {constant:.1f} trained numbers for each."
    )
    lines = [text, "", f"| task | {' | '.join(models)} |", "| --- |" + " ---: |" * len(models)]
    for task, part in table.groupby("task", sort=False):
        rows = part.set_index("model")
        shown = [_shown(rows.loc[model]) if model in rows.index else "-" for model in models]
        lines.append(f"| {task} | {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


def _shown(row: pd.Series) -> str:
    if math.isinf(row["high"]):
        return f"{row['low']:.2g} or more"
    return f"{row['low']:.2g} to {row['high']:.2g}"


def main(arguments: Sequence[str]) -> None:
    """Prints the table and writes both files."""
    folder, other = map(Path, arguments)
    constant = constant_of(other)
    table = capacity.effective_items(statistics.load(folder), constant)
    if table.empty:
        raise ValueError(f"no model of {folder} has prompts of two lengths.")
    text = markdown(table, constant)
    print(text)
    write_text(folder / "effective_items.md", f"# Effective number of associations\n\n{text}")
    numbers = table.to_csv(index=False, lineterminator="\n")
    write_text(folder / "effective_items.csv", numbers)


if __name__ == "__main__":
    main(sys.argv[1:])
