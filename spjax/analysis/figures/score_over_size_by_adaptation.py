"""Score over model size by steps of LM adaptation: Lester et al. 2021, Figure 3(d).

The arms are called adaptation_<steps>.
"""

from pathlib import Path

import pandas as pd

from spjax.analysis import arms, statistics
from spjax.analysis.figures import NothingToDraw, _by_role, _style, score_over_size


def draw(results: pd.DataFrame, folder: Path) -> list[Path]:
    """Draws the figure; returns the PNG, SVG and CSV written.

    results: the rows of results.csv. Raises NothingToDraw where no arm has a number of steps, else
    ValueError as _by_role.suite does.
    """
    kinds = [kind for kind in _by_role.kinds(results) if kind[1].startswith(arms.ADAPTATION)]
    steps = {kind: int(kind[1].split()[1]) for kind in kinds if kind[0] == statistics.PROMPT_TUNING}
    if not steps:
        raise NothingToDraw(
            "no arm of prompts is called adaptation_<steps>, as in "
            "experiments/lester2021/adaptation.gin"
        )
    lines = {kind: f"{steps[kind]:,} steps" for kind in sorted(steps, key=lambda kind: steps[kind])}
    suite, notes = _by_role.suite(results, lines)
    with _style.style():
        return score_over_size.draw_suite(suite, folder, "score_over_size_by_adaptation", notes)
