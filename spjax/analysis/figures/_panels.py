"""A panel for each frozen model, with the same lines in all of them."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from spjax.analysis.figures import _style

WIDTH, MARGIN, HEIGHT = 2.3, 2.0, 3.3  # inches: a panel, the legend, the figure


def draw(
    cells: pd.DataFrame, references: tuple[float, float], label: str, notes: Sequence[str]
) -> tuple[Figure, dict[str, Axes]]:
    """Draws one panel for each model; returns the figure and its panels, smallest model first.

    cells: rows of Suite.cells with `place`, the position on the axis. references: majority and
    ceiling in percent. label: of the horizontal axis. notes: text below.
    """
    models = cells.sort_values("model_parameters")["model"].unique()
    figure = _style.new_figure(WIDTH * len(models) + MARGIN, HEIGHT)
    panels = figure.subplots(1, len(models), sharey=True, squeeze=False)[0]
    looks = _style.looks_of(cells, "line")
    for axes, model in zip(panels, models):
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        part = cells[(cells["model"] == model) & (cells["seeds"] > 0)]
        for line, look in looks.items():
            points = part[part["line"] == line]
            _style.draw_line(axes, points, points["place"], look, line)
        _style.draw_references(axes, *references)
        size = _style.humanised(cells.loc[cells["model"] == model, "model_parameters"].iloc[0])
        axes.set_title(f"{_style.short_name(model)} ({size})", fontsize=8, loc="left")
    panels[len(panels) // 2].set_xlabel(label)
    _style.legend(figure, *panels)
    _style.add_notes(figure, [_style.bars_note(cells), *notes])
    return figure, dict(zip(models, panels))
