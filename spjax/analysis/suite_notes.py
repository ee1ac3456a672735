"""Notes on the cells of a suite: what was chosen, and what is missing."""

from __future__ import annotations

from typing import Any

import pandas as pd

LISTED = 6  # cells a note names before it only counts the rest


def notes(runs: pd.DataFrame, cells: pd.DataFrame, tasks: tuple[str, ...]) -> list[str]:
    """Returns what a reader of a suite's cells has to know of them: rates, and what is missing."""
    lines: list[str] = []
    tried = int(runs["rates"].max()) if "rates" in runs.columns else 1
    if tried > 1:
        lines.append(
            f"Learning rates: each line's and size's best of {tried} by mean validation score."
        )
    absent = sorted(set(runs["task"]) - set(tasks))
    if absent:
        lines.append(f"Not averaged, since not measured everywhere: {', '.join(absent)}.")
    partial = cells[(cells["seeds"] > 0) & (cells["seeds"] < cells["expected"])]
    if len(partial):
        lines.append(f"* Fewer runs than elsewhere: {listed(_counted(partial, cells))}.")
    if few := _trained_less(cells):
        lines.append(f"Fewer draws or seeds in all: {listed(few)}.")
    empty = cells[cells["seeds"] == 0]
    if len(empty):
        names = [cell_name(row) for row in empty.itertuples()]
        lines.append(f"Incomplete, not shown (no seed has all tasks): {listed(names)}.")
    return lines


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
    """Returns names of variants with fewer runs a cell than another; of their line if it is one."""
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
    """Returns the first names, and how many more there are."""
    more = len(names) - LISTED
    divider = "; " if any("," in name for name in names) else ", "
    return divider.join(names[:LISTED]) + (f" and {more} more" if more > 0 else "")
