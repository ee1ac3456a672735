"""Score over the number of training examples, one panel a frozen model, one line a way of tuning.

The figure of Le Scao & Rush 2021, with the numbers of examples on a logarithmic axis.
"""

from pathlib import Path

import pandas as pd

from spjax.analysis import examples
from spjax.analysis.figures import _panels, _style

ALL = 1.0  # where runs stand that have all examples of their tasks
NONE = 0.5  # and those that have none, as a share of the fewest
CLOSE = 1.6  # times as many examples at the next tick leave no room for another name


def draw(results: pd.DataFrame, folder: Path) -> list[Path]:
    """Draws the figure; returns the PNG, SVG and CSV written.

    results: the rows of results.csv. Raises ValueError as statistics.main_runs does.
    """
    cells, notes = examples.curves(results)
    some = cells["examples"].where(cells["examples"] > 0)
    cells["place"] = some.fillna(NONE * some.min()).fillna(ALL)
    references = (cells["majority"].max(), cells["ceiling"].max())
    with _style.style():
        figure, panels = _panels.draw(cells, references, "Training examples", notes)
        names = ["all" if pd.isna(count) else f"{count:.0f}" for count in cells["examples"]]
        ticks = dict(sorted(zip(cells["place"], names)))
        for axes in panels.values():
            axes.set_xticks(list(ticks), _apart(ticks))
        tasks = cells["tasks"].iloc[0].split()
        next(iter(panels.values())).set_ylabel(_style.score_label(tasks))
        table = cells[[*_style.NUMBERS, "examples", "tasks", "majority", "ceiling"]]
        return _style.save(figure, table, folder, "score_over_examples")


def _apart(ticks: dict[float, str]) -> list[str]:
    """Returns the names of ascending ticks, without those that would overlap the next one."""
    names: list[str] = []
    last = float("inf")
    for position, name in reversed(ticks.items()):
        far = position * CLOSE < last
        names.insert(0, name if far else "")
        last = position if far else last
    return names
