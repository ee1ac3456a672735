"""Score over prompt length, one line a model size; full fine-tuning of the same model at the right.

Each arm of full fine-tuning, as of multi-task tuning, has a place of its own. There a model has one
point, in the look of the first of its lines.

The same cells as Figure 3(a) of Lester et al. 2021, seen along the other axis.
"""

import math
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from spjax.analysis import statistics
from spjax.analysis.figures import NothingToDraw, _style

WIDTH, HEIGHT = 6.4, 3.7  # inches
SIDEWAYS = 0.05  # between full fine-tuning of two models, in decades at the most
APART = 2.2  # ratio of the places of two arms of full fine-tuning


def draw(results: pd.DataFrame, folder: Path) -> list[Path]:
    """Draws the figure; returns the PNG, SVG and CSV written.

    results: the rows of results.csv. Raises NothingToDraw where no run has a prompt, else as
    statistics.main_runs does.
    """
    suite = statistics.suite(statistics.main_runs(results))
    cells = suite.cells
    prompts = cells[cells["prompt_length"] > 0]
    if prompts.empty:
        raise NothingToDraw(
            f"no run has a prompt (methods: {sorted(set(cells['method']))}): score_over_length "
            "wants prompt lengths; draw score_over_size instead"
        )
    with _style.style():
        figure = _style.new_figure(WIDTH, HEIGHT)
        axes = figure.add_subplot()
        _draw_cells(axes, prompts, cells[cells["method"] == statistics.FULL_FINE_TUNING])
        _style.draw_references(axes, suite.majority, suite.ceiling)
        axes.set_ylabel(_style.score_label(suite.tasks, suite.scored_on))
        _style.legend(figure, axes)
        _style.add_notes(figure, [_style.bars_note(cells), *suite.notes])
        return _style.save(figure, _style.numbers(suite), folder, "score_over_length")


def _draw_cells(axes: Axes, prompts: pd.DataFrame, full: pd.DataFrame) -> None:
    lengths = sorted(set(prompts["prompt_length"]))
    axes.set_xscale("log")
    ticks = {length: str(length) for length in lengths}
    full = full[full["seeds"] > 0]
    lines = list(full["line"].unique())  # in the order of cells
    asides = [lengths[-1] * 2.3 * APART**i for i in range(len(lines))]
    names = [line.replace(" ", "\n") for line in lines]
    if len(names) > 1:  # side by side
        names = [name.replace("-", "-\n") for name in names]
    ticks |= dict(zip(asides, names))
    if lines:
        axes.axvline(lengths[-1] * 1.45, color=_style.GREY, linewidth=0.5)
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("Prompt length (soft tokens)")
    variants = prompts["variant"].nunique()
    keys = ["variant", "model_parameters", "model"]
    groups = list(prompts.sort_values(keys).groupby(keys))
    models = list(prompts.sort_values(["model_parameters", "model"])["model"].unique())
    room = min(SIDEWAYS, 0.7 * math.log10(APART) / len(models))  # an arm keeps to its place
    look_of: dict[str, _style.Look] = {}
    for ((variant, count, model), part), look in zip(groups, _style.looks(len(groups))):
        name = f"{_style.short_name(model)} ({_style.humanised(count)})"
        label = f"{name}, {variant.replace('_', ' ')}" if variants > 1 else name
        part = part[part["seeds"] > 0]
        _style.draw_line(axes, part, part["prompt_length"], look, label)
        look_of.setdefault(model, look)
    for index, model in enumerate(models):
        shift = 10 ** (room * (index - (len(models) - 1) / 2))
        for aside, line in zip(asides, lines):
            point = full[(full["model"] == model) & (full["line"] == line)]
            places = [aside * shift] * len(point)
            _style.draw_line(axes, point, places, look_of[model], "_full fine-tuning")
