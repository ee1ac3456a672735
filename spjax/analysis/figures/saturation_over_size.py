"""Saturation length over model size: P*, its 90 % interval, and P90 of the fitted curve.

`spjax.analysis.saturation` defines all three. The paper says that gains beyond about 20 soft tokens
are marginal (Lester et al. 2021, section 3.2); a dashed line marks that.
"""

import math
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from spjax.analysis import saturation, statistics
from spjax.analysis.criteria import MARGIN
from spjax.analysis.figures import NothingToDraw, _style

WIDTH, HEIGHT = 6.4, 3.7  # inches
PAPER = 20  # soft tokens
SIDEWAYS = 0.03  # decades between the marks of one model
STARS = (
    ("P*", "shortest_possible", "length"),
    ("P* of these tasks", "these_shortest", "these_length"),
)


def draw(results: pd.DataFrame, folder: Path) -> list[Path]:
    """Draws the figure; returns the PNG, SVG and CSV written.

    results: the rows of results.csv. The CSV has the rows of single tasks too. Raises NothingToDraw
    where no model has two prompt lengths, else as statistics.main_runs does.
    """
    table = saturation.of_results(results)
    if table.empty:
        raise NothingToDraw(
            "no model has runs with two prompt lengths, which a saturation length is between; "
            "draw score_over_size instead"
        )
    table = table.sort_values(["variant", "model_parameters"], kind="stable")
    suite = table[table["task"] == ""]
    lengths = sorted(set(results.loc[results["prompt_length"] > 0, "prompt_length"].astype(int)))
    with _style.style():
        figure = _style.new_figure(WIDTH, HEIGHT)
        axes = figure.add_subplot()
        beyond = _length_axis(axes, lengths)
        variants = list(dict.fromkeys(suite["variant"]))
        looks = iter(_style.looks(3 * len(variants)))
        for index, variant in enumerate(variants):
            of_variant = suite[suite["variant"] == variant]
            name = f", {variant.replace('_', ' ')}" if len(variants) > 1 else ""
            shifts = (10 ** ((3 * index + mark) * SIDEWAYS) for mark in range(3))
            for (text, low, high), shift in zip(STARS, shifts):
                look, label = next(looks), f"{text}{name}"
                stars = of_variant.rename(columns={low: "low", high: "high"})
                _draw_stars(axes, stars, look, label, shift, beyond)
            _draw_curves(axes, of_variant, next(looks), f"P90{name}", next(shifts), beyond)
        axes.axhline(PAPER, color=_style.GREY, linestyle=(0, (4, 3)), linewidth=1, zorder=1)
        _style.size_axis(axes, suite)
        if suite["model_parameters"].nunique() == 1:  # else the marks of one model fill the axis
            count = suite["model_parameters"].iloc[0]
            axes.set_xlim(count / 3, count * 3)
        _style.legend(figure, axes)
        _style.add_notes(figure, _notes(statistics.suite(statistics.main_runs(results)).tasks))
        return _style.save(figure, table, folder, "saturation_over_size")


def _length_axis(axes: Axes, lengths: list[int]) -> float:
    """Makes the axis of prompt lengths; returns the place of what lies beyond the longest."""
    beyond = lengths[-1] * 1.8
    axes.set_yscale("log")
    axes.set_yticks([*lengths, beyond], [*map(str, lengths), "beyond"])
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_ylim(lengths[0] / 1.4, beyond * 1.4)
    axes.set_ylabel("Prompt length (soft tokens)")
    return beyond


def _draw_stars(
    axes: Axes, rows: pd.DataFrame, look: _style.Look, label: str, shift: float, beyond: float
) -> None:
    """Draws P* with its interval; a hollow mark says that the study has not located it.

    rows: of `saturation.of_results`, with the ends of the interval as columns low and high.
    """
    located = rows["high"].notna() & (rows["high"] < rows["longest"])
    places = rows["high"].where(located, beyond).astype(float)
    _draw_bars(axes, rows, places, rows["low"].astype(float), places, look, label, shift)
    hollow = places[~located]
    sizes = rows.loc[~located, "model_parameters"] * shift
    style: dict[str, Any] = {"color": look.color, "marker": look.marker, "markersize": 4.5}
    axes.plot(sizes, hollow, linestyle="none", markerfacecolor="white", zorder=4, **style)


def _draw_curves(
    axes: Axes, rows: pd.DataFrame, look: _style.Look, label: str, shift: float, beyond: float
) -> None:
    rows = rows[rows["p90"].notna()]
    if rows.empty:
        return

    def place(column: str) -> pd.Series:
        known = rows[column].where(rows[column].notna(), rows["p90"])
        return known.map(lambda length: _within(length, axes, beyond))

    _draw_bars(axes, rows, place("p90"), place("p90_low"), place("p90_high"), look, label, shift)


def _within(length: float, axes: Axes, beyond: float) -> float:
    """Returns the place of a length: "beyond" if over the longest, the axis' foot if below it."""
    longest = beyond / 1.8
    if math.isinf(length) or length > longest:
        return beyond
    return max(length, axes.get_ylim()[0])


def _draw_bars(
    axes: Axes,
    rows: pd.DataFrame,
    places: pd.Series,
    low: pd.Series,
    high: pd.Series,
    look: _style.Look,
    label: str,
    shift: float,
) -> None:
    axes.errorbar(
        rows["model_parameters"] * shift,
        places,
        yerr=[(places - low).clip(lower=0), (high - places).clip(lower=0)],
        label=label,
        color=look.color,
        marker=look.marker,
        markersize=4.5,
        linestyle=look.dashes if len(rows) > 1 else "none",
        linewidth=look.width,
        capsize=2.2,
        elinewidth=0.8,
        zorder=3,
    )


def _notes(tasks: tuple[str, ...] | list[str]) -> list[str]:
    what = f"mean of {len(tasks)} tasks" if len(tasks) > 1 else tasks[0]
    star = (
        f"Of the score, {what}. P*: from here on no longer prompt gains more than {MARGIN:g} point "
        "(one-sided 95 % bounds, over tasks or for these tasks alone); bar: from the length after "
        "the longest that is shown to be beaten. Hollow: no length of the study is shown to be "
        "enough."
    )
    fit = "P90: where the curve S - a P^-b has 90 % of its rise over P = 1; bar: 95 % interval."
    paper = f"Dashed: {PAPER} soft tokens, beyond which the paper finds gains to be marginal."
    return [star, fit, paper]
