"""Score over model size by initialization of the prompt: Lester et al. 2021, Figure 3(b)."""

import dataclasses
from pathlib import Path

import pandas as pd

from spjax.analysis import evidence, statistics
from spjax.analysis.figures import NothingToDraw, _style, score_over_size

ORDER = ("uniform", "sampled_vocabulary", "class_labels")


def draw(results: pd.DataFrame, folder: Path) -> list[Path]:
    """Draws the figure; returns the PNG, SVG and CSV written.

    results: the rows of results.csv. Raises NothingToDraw where no prompt has been tuned, else
    ValueError as statistics.main_runs does.
    """
    if not (results["method"] == statistics.PROMPT_TUNING).any():
        methods = ", ".join(sorted(set(results["method"].astype(str))))
        raise NothingToDraw(f"no prompt has been tuned (methods: {methods})")
    runs = evidence.default_arm(statistics.initialisation_runs(results))
    length = runs["prompt_length"].iloc[0]
    runs = runs.assign(line=runs["line"].str.replace("_", " "))
    suite = statistics.suite(runs)
    place = suite.cells["init"].map(lambda init: ORDER.index(init) if init in ORDER else len(ORDER))
    order = place.sort_values(kind="stable").index
    suite = dataclasses.replace(suite, cells=suite.cells.loc[order].reset_index(drop=True))
    notes = (f"Prompts of P = {length}.",)
    with _style.style():
        return score_over_size.draw_suite(suite, folder, "score_over_size_by_initialization", notes)
