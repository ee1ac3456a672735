"""Score over the number of trained parameters, one panel a frozen model, one marker a line.

All trained parameters count, including networks that are dropped after training. Lines that train
nothing are at the left.
"""

from pathlib import Path

import pandas as pd
from matplotlib.ticker import LogLocator

from spjax.analysis import statistics
from spjax.analysis.figures import NothingToDraw, _panels, _style

TRAINED = "trainable_parameters"
NONE = 0.2  # where nothing is trained, as a share of the least that is


def draw(results: pd.DataFrame, folder: Path) -> list[Path]:
    """Draws the figure; returns the PNG, SVG and CSV written.

    results: the rows of results.csv. Raises NothingToDraw where they lack the numbers of trained
    parameters, else as statistics.main_runs does.
    """
    if TRAINED not in results.columns or results[TRAINED].isna().all():
        raise NothingToDraw(
            f"the results have no {TRAINED}: score_over_parameters needs them; write results.csv "
            "again with `spjax sweep`, or draw score_over_size instead"
        )
    runs = statistics.main_runs(results)
    suite = statistics.suite(runs)
    cell = ["line", "model"]
    counts = runs.groupby(cell)[TRAINED].max().fillna(0).astype(int)
    cells = suite.cells.join(counts, on=cell)
    trained = cells[TRAINED].where(cells[TRAINED] > 0)
    cells["place"] = trained.fillna(NONE * trained.groupby(cells["model"]).transform("min"))
    cells["place"] = cells["place"].fillna(1.0)  # where no line of a model trains anything
    references = (suite.majority, suite.ceiling)
    with _style.style():
        figure, panels = _panels.draw(cells, references, "Trained parameters", suite.notes)
        for model, axes in panels.items():
            part = cells[cells["model"] == model]
            axes.set_xlim(part["place"].min() / 2, part["place"].max() * 2)
            ticks = _ticks(part)
            axes.set_xticks(list(ticks), list(ticks.values()))
        axes = next(iter(panels.values()))
        axes.set_ylabel(_style.score_label(suite.tasks, suite.scored_on))
        table = _style.numbers(suite).assign(**{TRAINED: cells[TRAINED]})
        return _style.save(figure, table, folder, "score_over_parameters")


def _ticks(part: pd.DataFrame) -> dict[float, str]:
    """Places and names: powers of ten, and 0 where something trains nothing."""
    none = part[TRAINED] == 0
    trained = part.loc[~none, "place"]
    ticks = {part.loc[none, "place"].min(): "0"} if none.any() else {}
    if trained.empty:
        return ticks
    least, most = trained.min() / 2, trained.max() * 2
    powers = [at for at in LogLocator(10).tick_values(least, most) if least <= at <= most]
    return ticks | {at: _style.humanised(at) for at in powers}
