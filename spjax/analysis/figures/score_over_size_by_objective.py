"""Score over model size by pre-training objective: Lester et al. 2021, Figure 3(c)."""

from pathlib import Path

import pandas as pd

from spjax.analysis import arms, statistics
from spjax.analysis.figures import _by_role, _style, score_over_size

LINES = {
    (statistics.PROMPT_TUNING, arms.SPAN_CORRUPTION): "span corruption",
    (statistics.PROMPT_TUNING, arms.SENTINEL): "span corruption and sentinel",
    (statistics.PROMPT_TUNING, ""): "LM adaptation",
}


def draw(results: pd.DataFrame, folder: Path) -> list[Path]:
    """Draws the figure; returns the PNG, SVG and CSV written.

    results: the rows of results.csv. Raises ValueError as _by_role.suite does.
    """
    suite, notes = _by_role.suite(results, LINES)
    with _style.style():
        return score_over_size.draw_suite(suite, folder, "score_over_size_by_objective", notes)
