"""Soft tokens that hold K items, over K: a line a model, and beside it all of them times the width.

Where the right panel is one line, what counts is the number of trained numbers for each item.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter

from spjax.analysis import capacity, capacity_laws
from spjax.analysis.figures import NothingToDraw, _style

WIDTH, HEIGHT = 7.6, 3.5  # inches
LAW = "c K"


def draw(results: pd.DataFrame, folder: Path) -> list[Path]:
    """Draws the figure for the first form of task; returns the files written.

    results: the rows of results.csv. Raises NothingToDraw where no prompt is tuned on a task of
    `spjax.data.tasks.capacity_tasks`.
    """
    try:
        of_study = capacity.needs(results)
    except ValueError as error:
        raise NothingToDraw(f"{error} soft_tokens_over_items is about these.") from None
    table = of_study.table[of_study.table["width"].notna()]
    if table.empty:
        raise NothingToDraw("no prompt is tuned, which soft_tokens_over_items is about.")
    form = sorted(table["form"], key=len)[0]
    counts = table.loc[table["form"] == form, "steps"].value_counts()
    steps = counts.index[counts == counts.max()].max()  # those of most cells, else the most
    cells = table[(table["form"] == form) & (table["steps"] == steps)].sort_values(
        ["width", "items"]
    )
    fitted = [x for x in capacity_laws.fits(of_study) if (x.form, x.steps) == (form, steps)]
    with _style.style():
        figure = _style.new_figure(WIDTH, HEIGHT)
        left, right = figure.subplots(1, 2)
        models = list(dict.fromkeys(cells["model"]))
        for model, look in zip(models, _style.looks(len(models))):
            part = cells[cells["model"] == model]
            width = part["width"].iloc[0]
            label = f"{_style.short_name(model)} (D={width:.0f})"
            _draw_line(left, part, part["width"], look, label)
            _draw_line(right, part, 1.0, look, label)
        if fitted:
            items = np.array([cells["items"].min(), cells["items"].max()])
            law = fitted[0].constant[0] * items
            right.plot(items, law, color=_style.GREY, linestyle=(0, (4, 3)), linewidth=1, label=LAW)
        for axes, text in ((left, "soft tokens, P*"), (right, "trained numbers, P* D")):
            _scale(axes, sorted(set(cells["items"])), f"Least {text}")
        _style.legend(figure, right)
        _style.add_notes(figure, _notes(form, int(steps), cells, fitted))
        return _style.save(figure, cells, folder, "soft_tokens_over_items")


def _draw_line(
    axes: Axes, cells: pd.DataFrame, over: pd.Series | float, look: _style.Look, label: str
) -> None:
    """Draws needs with their intervals; those out of reach are arrows at the amount tried."""
    need, low, high = (cells[name] / over for name in ("numbers", "low", "high"))
    least, most = cells["least"] / over, cells["most"] / over
    inside = (need > 0) & np.isfinite(need)
    low, high = low.clip(lower=least), high.clip(upper=most)
    bars = [(x.where(inside).clip(lower=0).fillna(0)) for x in (need - low, high - need)]
    axes.errorbar(
        cells["items"],
        need.where(inside),
        yerr=bars,
        label=label,
        color=look.color,
        marker=look.marker,
        markersize=4.5,
        linestyle=look.dashes,
        linewidth=look.width,
        capsize=2.2,
        elinewidth=0.8,
    )
    for beyond, at, marker in ((need == 0, least, "v"), (np.isinf(need), most, "^")):
        axes.plot(
            cells["items"][beyond],
            at[beyond],
            color=look.color,
            linestyle="none",
            marker=marker,
            markerfacecolor="white",
            markersize=5,
        )


def _scale(axes: Axes, items: list[int], label: str) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(items, [str(count) for count in items])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.set_xlabel("Items, K")
    axes.set_ylabel(label)


def _notes(
    form: str, steps: int, cells: pd.DataFrame, fitted: list[capacity_laws.Fits]
) -> list[str]:
    draws = cells["draws"].min()
    notes = [
        f"{form}, {steps:,} steps: least that holds {capacity.THRESHOLD:g} % of the items.",
        f"Bars: 95 % interval over {draws} draws of the words."
        if draws > 1
        else "One draw: no bars.",
    ]
    if not (np.isfinite(cells["numbers"]) & (cells["numbers"] > 0)).all():
        notes.append("Hollow: the shortest prompt tried is enough (down), the longest is not (up).")
    for fit in fitted:
        value, low, high = fit.constant
        of_models = f" of {fit.ladder} models" if len(fitted) > 1 else ""
        notes.append(
            f"c{of_models} = {value:.1f} [{low:.1f}, {high:.1f}] trained numbers for each item."
        )
    return notes
