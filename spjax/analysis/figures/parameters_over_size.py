"""Trained parameters over model size by method: Lester et al. 2021, Figure 4.

A band goes from the least to the most over prompt lengths. Methods that keep fewer numbers than
they train, such as prefixes written by a network, have a second line. The paper's lines for methods
that are not here (WARP) and for texts, whose tokens it counts, are not drawn.
"""

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from spjax.analysis import statistics
from spjax.analysis.figures import NothingToDraw, _style

WIDTH, HEIGHT = 6.4, 3.9  # inches
TRAINED, STORED = "trainable_parameters", "stored_parameters"
SHARES = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)  # percent


def draw(results: pd.DataFrame, folder: Path) -> list[Path]:
    """Draws the figure; returns the PNG, SVG and CSV written.

    results: the rows of results.csv. Raises NothingToDraw where no run says how much it trains or
    none trains anything, else ValueError as statistics.main_runs does.
    """
    if TRAINED not in results.columns or not (results[TRAINED].fillna(0) > 0).any():
        raise NothingToDraw(
            f"no run has {TRAINED}; write results.csv again with `spjax sweep`, or choose a study "
            "of a method that trains"
        )
    counts = _counts(statistics.main_runs(results))
    with _style.style():
        figure = _style.new_figure(WIDTH, HEIGHT)
        axes = figure.add_subplot()
        lines = list(dict.fromkeys(counts["line"]))
        for line, look in _style.looks_of(counts, "line").items():
            _draw_line(axes, counts[counts["line"] == line], look, line)
        axes.set_yscale("log")
        _style.size_axis(axes, counts)
        axes.set_ylabel("Parameters of a task")
        _draw_shares(axes, counts)
        _style.legend(figure, axes)
        notes = []
        if (counts["most"] > counts["least"]).any():
            lengths = sorted(set(results.loc[results["prompt_length"] > 0, "prompt_length"]))
            notes.append(
                f"Bands: least to most over prompt lengths from {lengths[0]:g} to "
                f"{lengths[-1]:g}; lines: their mean."
            )
        if any(line.endswith(", stored") for line in lines):
            notes.append("Stored: what is left of a method's parameters after training.")
        notes.append("Dotted: shares of the model's parameters.")
        _style.add_notes(figure, notes)
        return _style.save(figure, counts, folder, "parameters_over_size")


def _counts(runs: pd.DataFrame) -> pd.DataFrame:
    """Returns a row for each line and model, with numbers of parameters over prompt lengths."""
    runs = runs.assign(line=_named(runs), count=runs[TRAINED])
    parts = [runs]
    if STORED in runs.columns:
        fewer = runs[runs[STORED] < runs[TRAINED]]
        parts.append(fewer.assign(line=fewer["line"] + ", stored", count=fewer[STORED]))
    of_runs = pd.concat(parts, ignore_index=True)
    of_runs = of_runs[of_runs["count"].fillna(0) > 0]
    cell = ["line", "method", "model", "model_parameters"]
    of_lengths = of_runs.groupby([*cell, "prompt_length"], sort=False)["count"].max()
    grouped = of_lengths.groupby(level=cell)
    counts = grouped.agg(["mean", "std", "min", "max", "count"]).reset_index()
    counts = counts.rename(columns={"min": "least", "max": "most", "count": "lengths"})
    counts["percent"] = 100 * counts["mean"] / counts["model_parameters"]
    least = counts.groupby("line")["mean"].transform("min")
    order = counts.assign(of_line=least).sort_values(["of_line", "line", "model_parameters"]).index
    return counts.loc[order].reset_index(drop=True)


def _named(runs: pd.DataFrame) -> pd.Series:
    """Returns the methods' names, with those of their arms where these train different numbers."""
    counted = runs.groupby(["method", "model", "prompt_length"])[TRAINED]
    differ = set(runs.loc[counted.transform("nunique") > 1, "method"])
    names = runs["method"].mask(runs["method"].isin(differ), runs["variant"])
    return names.str.replace("_", " ").str.replace("fine t", "fine-t")


def _draw_line(axes: Axes, part: pd.DataFrame, look: _style.Look, label: str) -> None:
    axes.fill_between(
        part["model_parameters"], part["least"], part["most"], color=look.color, alpha=0.15, lw=0
    )
    axes.plot(
        part["model_parameters"],
        part["mean"],
        color=look.color,
        marker=look.marker,
        markersize=4.5,
        linestyle=look.dashes,
        linewidth=look.width,
        label=label,
        zorder=3,
    )


def _draw_shares(axes: Axes, counts: pd.DataFrame) -> None:
    """Draws the lines of equal shares that lie in the range of the counts."""
    ends = [counts["model_parameters"].min(), counts["model_parameters"].max()]
    low, high = axes.get_ylim()
    for share in SHARES:
        values = [end * share / 100 for end in ends]
        if low <= values[-1] and values[0] <= high:
            axes.plot(ends, values, color=_style.GREY, linestyle=(0, (1, 3)), linewidth=0.8)
            text = f"{share:g} %"
            at = (ends[-1], values[-1])
            axes.annotate(text, at, (3, 0), textcoords="offset points", va="center", fontsize=6)
    axes.set_ylim(low, high)
