"""Score over model size, one line a prompt length: Lester et al. 2021, Figure 3(a).

Two figures: the mean over tasks, and every task on its own (score_over_size_by_task). Lines are
moved sideways by a few percent of a size step so that error bars do not hide each other; the CSV
has the exact sizes.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from spjax.analysis import statistics
from spjax.analysis.figures import _style

WIDTH, HEIGHT = 6.4, 3.7  # inches
PANEL_WIDTH, PANEL_HEIGHT, COLUMNS = 2.3, 1.85, 3
SMALL = 0.75  # lines and markers of a panel
SIDEWAYS = 0.16  # of a size step, from the first line to the last


def draw(results: pd.DataFrame, folder: Path) -> list[Path]:
    """Draws both figures; returns the PNG, SVG and CSV written for each.

    results: the rows of results.csv. Raises ValueError as statistics.main_runs does.
    """
    runs = statistics.main_runs(results)
    suite = statistics.suite(runs)
    with _style.style():
        paths = draw_suite(suite, folder, "score_over_size")
        if runs["task"].nunique() > 1:
            paths += _draw_tasks(runs, suite, folder)
    return paths


def draw_suite(
    suite: statistics.Suite, folder: Path, name: str, notes: Sequence[str] = ()
) -> list[Path]:
    """Draws the mean over tasks in the style of all figures; returns the files written.

    suite: a line of the figure is a line of it. name: of the files. notes: more of them.
    """
    figure = _style.new_figure(WIDTH, HEIGHT)
    axes = figure.add_subplot()
    cells = suite.cells
    _draw_lines(axes, cells, _style.looks_of(cells, "line"))
    _style.draw_references(axes, suite.majority, suite.ceiling)
    _style.size_axis(axes, cells)
    axes.set_ylabel(_style.score_label(suite.tasks, suite.scored_on))
    _style.legend(figure, axes)
    _style.add_notes(figure, [_style.bars_note(cells), *notes, *suite.notes])
    return _style.save(figure, _style.numbers(suite), folder, name)


def _draw_tasks(runs: pd.DataFrame, suite: statistics.Suite, folder: Path) -> list[Path]:
    cells = statistics.by_task(runs)
    tasks = sorted(set(cells["task"]))
    rows = math.ceil(len(tasks) / COLUMNS)
    columns = min(COLUMNS, len(tasks))
    figure = _style.new_figure(PANEL_WIDTH * columns + 1.2, PANEL_HEIGHT * rows + 0.3)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    bottom = panels.flat[max(len(tasks) - columns, 0) : len(tasks)]
    looks = _style.looks_of(cells, "line")
    for axes, task in zip(panels.flat, tasks):
        part = cells[cells["task"] == task]
        _draw_lines(axes, part, looks, SMALL)
        _style.draw_references(axes, part["majority"].iloc[0], part["ceiling"].iloc[0])
        axes.set_title(task, fontsize=8, loc="left")
        _style.size_axis(axes, cells, names=False)
        axes.set_xlabel("Parameters" if axes in bottom else "")
        axes.tick_params(labelbottom=axes in bottom)
    for axes in panels[:, 0]:
        axes.set_ylabel(f"{suite.scored_on.capitalize()} score (%)")
    for axes in panels.flat[len(tasks) :]:
        axes.set_axis_off()
    _style.legend(figure, *panels.flat[: len(tasks)])
    what = f"{_style.bars_note(cells)} Each run's checkpoint is the best by validation score."
    _style.add_notes(figure, [what, *statistics.diverged_notes(runs)])
    table = cells[["task", *_style.NUMBERS, "majority", "ceiling"]]
    return _style.save(figure, table, folder, "score_over_size_by_task")


def _draw_lines(
    axes: Axes, cells: pd.DataFrame, looks: dict[str, _style.Look], scale: float = 1
) -> None:
    sizes = sorted(set(cells["model_parameters"]))
    step = min((b / a for a, b in zip(sizes, sizes[1:])), default=1.0)
    for index, (line, look) in enumerate(looks.items()):
        part = cells[(cells["line"] == line) & (cells["seeds"] > 0)]
        shift = step ** (SIDEWAYS * (index / max(len(looks) - 1, 1) - 0.5))
        _style.draw_line(axes, part, part["model_parameters"] * shift, look, line, scale)
