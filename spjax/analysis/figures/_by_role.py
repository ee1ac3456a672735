"""Score over model size at the default prompt length, a line for each method and role of arms."""

import dataclasses
from collections.abc import Mapping

import pandas as pd

from spjax.analysis import arms, statistics
from spjax.analysis.figures import NothingToDraw

Kind = tuple[str, str]  # method and role of an arm


def kinds(results: pd.DataFrame) -> list[Kind]:
    """Returns the methods and roles of arms that the results have."""
    runs = statistics.main_runs(results)
    return sorted(set(zip(runs["method"], runs["variant"].map(arms.roles(runs)).dropna())))


def suite(
    results: pd.DataFrame, lines: Mapping[Kind, str]
) -> tuple[statistics.Suite, tuple[str, ...]]:
    """Averages the runs of some lines over tasks.

    Args:
      results: the rows of results.csv.
      lines: label by method and role; the cells are in their order.

    Returns:
      The suite, and a note on the prompt length.

    Raises:
      NothingToDraw: no run is of these lines.
      ValueError: as `statistics.main_runs`.
    """
    runs = statistics.main_runs(results)
    kind = pd.Series(
        list(zip(runs["method"], runs["variant"].map(arms.roles(runs)))), runs.index, dtype=object
    )
    runs = runs.assign(line=kind.map(lambda pair: lines.get(pair)))
    runs = runs[runs["line"].notna()]
    prompts = runs["method"] == statistics.PROMPT_TUNING
    notes: tuple[str, ...] = ()
    if prompts.any():
        length = statistics.default_length(results)
        runs = runs[~prompts | (runs["prompt_length"] == length)]
        notes = (f"Prompts of P = {length}.",)
    if runs.empty:
        arms_of = ", ".join(sorted(set(results["arm"].fillna("").astype(str))))
        raise NothingToDraw(f"no run is of {', '.join(lines.values())} (arms: {arms_of})")
    whole = statistics.suite(runs)
    place = {label: number for number, label in enumerate(lines.values())}
    order = whole.cells["line"].map(place).sort_values(kind="stable").index
    return dataclasses.replace(whole, cells=whole.cells.loc[order].reset_index(drop=True)), notes
