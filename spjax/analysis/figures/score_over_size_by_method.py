"""Score over model size by way of tuning: Lester et al. 2021, Figure 1.

Prompt tuning at the default length, model tuning on single tasks and on all tasks together, and on
SuperGLUE the one score of prompt design that the paper states. Model tuning on all tasks is in a
study of its own: join the two (`spjax plot A B`).
"""

import dataclasses
import math
from pathlib import Path

import pandas as pd

from spjax.analysis import arms, stated, statistics
from spjax.analysis.figures import _by_role, _style, score_over_size

LINES = {
    (statistics.PROMPT_TUNING, ""): "prompt tuning",
    (statistics.FULL_FINE_TUNING, ""): "full fine-tuning",
    (statistics.FULL_FINE_TUNING, arms.MULTITASK): "full fine-tuning, multi-task",
}


def draw(results: pd.DataFrame, folder: Path) -> list[Path]:
    """Draws the figure; returns the PNG, SVG and CSV written.

    results: the rows of results.csv. Raises ValueError as _by_role.suite does.
    """
    suite, notes = _by_role.suite(results, LINES)
    if stated.of_super_glue(suite.tasks):
        suite = dataclasses.replace(suite, cells=_with_stated(suite.cells))
        notes += (f"{stated.PROMPT_DESIGN.name}: {stated.PROMPT_DESIGN.source}.",)
    with _style.style():
        return score_over_size.draw_suite(suite, folder, "score_over_size_by_method", notes)


def _with_stated(cells: pd.DataFrame) -> pd.DataFrame:
    """Adds the cell of the stated score."""
    point = stated.PROMPT_DESIGN
    cell = {name: math.nan if name in ("std", "low", "high") else "" for name in cells}
    cell |= {"line": "prompt design", "prompt_length": 0, "seeds": 1, "items": 0, "draws": 1}
    cell |= {"expected": 1}
    cell |= {"model": point.name, "model_parameters": point.parameters, "mean": point.score}
    return pd.concat([cells, pd.DataFrame([cell])], ignore_index=True)
