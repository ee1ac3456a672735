"""Notes on the cells of a suite: what was chosen, and what is missing."""

from __future__ import annotations

from typing import Any

import pandas as pd

LISTED = 6  # cells a note names before it only counts the rest


def notes(runs: pd.DataFrame, cells: pd.DataFrame, tasks: tuple[str, ...]) -> list[str]:
    """Returns what a reader of a suite's cells has to know of them: rates, and what is missing."""
    lines = _chosen_rates(runs) if "rates" in runs.columns else []
    absent = sorted(set(runs["task"]) - set(tasks))
    if absent:
        lines.append(f"Not averaged, since not measured everywhere: {', '.join(absent)}.")
    partial = cells[(cells["seeds"] > 0) & (cells["seeds"] < cells["expected"])]
    if len(partial):
        lines.append(f"* Fewer runs than elsewhere: {listed(_counted(partial, cells))}.")
    if few := _trained_less(cells):
        lines.append(f"Fewer draws or seeds than other lines at every size: {listed(few)}.")
    empty = cells[cells["seeds"] == 0]
    if len(empty):
        names = [cell_name(row) for row in empty.itertuples()]
        lines.append(f"Incomplete, not shown (no seed has all tasks): {listed(names)}.")
    return lines


def _chosen_rates(runs: pd.DataFrame) -> list[str]:
    """Returns a note on the learning rates that lines and sizes tried, none if each tried one."""
    cells = runs.dropna(subset="learning_rate").groupby(["line", "model"], sort=False)["rates"]
    counts = cells.max().rename("rates").reset_index()
    alike = counts.groupby("line")["rates"].transform("nunique") == 1
    counts["name"] = (counts["model"] + " ").where(~alike, "") + counts["line"]
    several = counts[counts["rates"] > 1].sort_values("rates", ascending=False, kind="stable")
    if several.empty:
        return []
    if counts["rates"].nunique() == 1:
        most = counts["rates"].iloc[0]
        return [
            f"Learning rates: each line's and size's best of {most:.0f} by mean validation score."
        ]
    groups = [
        f"of {count:.0f} for {listed(list(part['name'].unique()))}"
        for count, part in several.groupby("rates", sort=False)
    ]
    text = f"Learning rates: the best by mean validation score {' and '.join(groups)}."
    return [f"{text} One was tried for all others." if len(several) < len(counts) else text]


def _counted(partial: pd.DataFrame, cells: pd.DataFrame) -> list[str]:
    """Returns names of cells with their numbers of runs; a model whose cells are alike is one."""
    names = []
    for model, part in partial.groupby("model", sort=False):
        counts = [f"({row.seeds} of {row.expected})" for row in part.itertuples()]
        alike = cells["expected"].isin(set(part["expected"])) & (cells["model"] == model)
        if len(part) == alike.sum() and len(set(counts)) == 1 < len(part):
            names.append(f"{model} {counts[0]}")
        else:
            names += [f"{cell_name(row)} {x}" for row, x in zip(part.itertuples(), counts)]
    return names


def _trained_less(cells: pd.DataFrame) -> list[str]:
    """Returns names of variants with fewer runs a cell than another has.

    A variant with a single line has the name of that line.
    """
    most, names = cells["expected"].max(), []
    few = cells[cells["expected"] < most].drop_duplicates(["variant", "line"])
    for variant, part in few.groupby("variant", sort=False):
        name = part["line"].iloc[0] if len(part) == 1 else variant
        names.append(f"{name} ({part['expected'].iloc[0]:.0f} of {most:.0f})")
    return names


def cell_name(row: Any) -> str:
    """Returns the name of a cell: its model and line."""
    return f"{row.model} {row.line}"


def listed(names: list[str]) -> str:
    """Returns the first names and how many more there are, or one more name in place of that."""
    divider = "; " if any("," in name for name in names) else ", "
    if len(names) <= LISTED + 1:  # one more name takes no more room than "and 1 more"
        return divider.join(names)
    return f"{divider.join(names[:LISTED])} and {len(names) - LISTED} more"
