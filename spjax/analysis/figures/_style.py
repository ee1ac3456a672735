"""One look for all figures: legible to color-blind people, in gray print, and byte-stable.

Figures are made without pyplot, so drawing leaves no state behind and needs no display.
"""

import math
import textwrap
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator
from matplotlib.typing import LineStyleType

from spjax.analysis import resampling, statistics
from spjax.files import replacing, write_text

# Okabe & Ito 2008, https://jfly.uni-koeln.de/color/; without yellow, too pale on white, and with
# black left for full fine-tuning. Neighbors differ in lightness too.
COLORS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7")
MARKERS = ("o", "^", "s", "D", "v", "P", "X", "<", ">", "p", "h")
DASHES: tuple[LineStyleType, ...] = (
    *("-", (0, (5, 1.5)), (0, (1, 1)), (0, (6, 1.5, 1, 1.5))),
    *((0, (3, 1.5, 1, 1.5, 1, 1.5)), (0, (10, 2))),
)
GREY = "#666666"
DPI = 200
MAJORITY, CEILING = "majority", "perfect reader"
SIZE_LABEL = "Parameters of the frozen model"
NUMBERS = [
    *("line", "method", "prompt_length", "init", "model", "model_parameters"),
    *("mean", "low", "high", "std", "seeds", "expected"),
]
NOTE_SIZE, LINE_HEIGHT = 6.5, 0.125  # points, inches

RC: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same letters on every machine
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#E3E3E3",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.frameon": False,
    "legend.handlelength": 3.4,
    "svg.hashsalt": "spjax",
    "svg.fonttype": "path",
}


@dataclass(frozen=True)
class Look:
    """Color, marker and dashes of one line; marker and dashes alone tell lines apart in gray."""

    color: str
    marker: str
    dashes: LineStyleType
    width: float = 1.4


FULL = Look("#000000", "*", "-", 1.9)


def looks(count: int) -> list[Look]:
    """Returns looks of `count` lines.

    No two share marker and dashes (up to 66 lines), nor color and dashes (up to 36).
    """
    rounds = len(DASHES)
    return [
        Look(
            COLORS[(i + i // rounds) % len(COLORS)],
            MARKERS[i % len(MARKERS)],
            DASHES[i % rounds],
        )
        for i in range(count)
    ]


def looks_of(cells: pd.DataFrame, column: str) -> dict[str, Look]:
    """Returns the look of each line in a column, in order; full fine-tuning is black."""
    full = set(cells.loc[cells["method"] == statistics.FULL_FINE_TUNING, column])
    names = list(dict.fromkeys(cells[column]))
    look_of = dict(zip([name for name in names if name not in full], looks(len(names))))
    black = (Look(FULL.color, "*", dashes, FULL.width) for dashes in DASHES)
    return dict(zip([*look_of, *sorted(full)], [*look_of.values(), *black]))


def draw_line(
    axes: Axes, cells: pd.DataFrame, x: Iterable[float], look: Look, label: str, scale: float = 1
) -> None:
    """Draws a line of means with their intervals; hollow markers where runs are missing.

    cells: rows of Suite.cells, one a point; x: their places; scale: of line and markers.
    """
    positions = list(x)
    size = (7.5 if look.marker == FULL.marker else 4.5) * scale
    style: dict[str, Any] = {"color": look.color, "marker": look.marker, "markersize": size}
    style["markeredgewidth"] = 0.8 * scale
    axes.errorbar(
        positions,
        cells["mean"],
        yerr=[
            (cells["mean"] - cells["low"]).fillna(0.0),
            (cells["high"] - cells["mean"]).fillna(0.0),
        ],
        label=label,
        linestyle=look.dashes if len(positions) > 1 else "none",
        linewidth=look.width * scale,
        capsize=2.2 * scale,
        elinewidth=0.8,
        capthick=0.8,
        zorder=3,
        **style,
    )
    hollow = (cells["seeds"] < cells["expected"]).to_numpy()
    axes.plot(
        [at for at, empty in zip(positions, hollow) if empty],
        cells["mean"][hollow],
        linestyle="none",
        markerfacecolor="white",
        zorder=4,
        **style,
    )


def draw_references(axes: Axes, majority: float, ceiling: float) -> None:
    """Draws horizontal lines for the majority baseline and, where below 100, the ceiling."""
    if math.isfinite(majority):
        axes.axhline(majority, color=GREY, linestyle=(0, (4, 3)), linewidth=1, label=MAJORITY)
    if math.isfinite(ceiling) and ceiling < 100:
        dots = (0, (1, 2.5))
        axes.axhline(ceiling, color=GREY, linestyle=dots, linewidth=1.2, label=CEILING)


def size_axis(axes: Axes, cells: pd.DataFrame, names: bool = True) -> None:
    """Makes a logarithmic axis of parameters; each tick is a model's size and, with names, name."""
    models = cells[["model_parameters", "model"]].drop_duplicates().sort_values("model_parameters")
    axes.set_xscale("log")
    ticks = [
        humanised(count) + (f"\n{short_name(model)}" if names else "")
        for count, model in zip(models["model_parameters"], models["model"])
    ]
    axes.set_xticks(models["model_parameters"].to_list(), ticks)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel(SIZE_LABEL)


def score_label(tasks: Sequence[str], scored_on: str = "test") -> str:
    """Returns the label of the score axis: the score, and the number of tasks averaged."""
    what = f"mean of {len(tasks)} tasks" if len(tasks) > 1 else f"on {tasks[0]}"
    by = "validation score" + (" too" if "validation" in scored_on else "")
    return f"{scored_on.capitalize()} score, {what} (%)\nbest checkpoint by {by}"


def legend(figure: Figure, *axes: Axes) -> None:
    """Draws one legend at the right of all axes, best lines first, as most lines end there.

    Markers are shown without a line where no axes have more than one of them.
    """
    model_of: dict[str, Line2D] = {}
    for part in axes:
        for handle, label in zip(*part.get_legend_handles_labels()):
            # Of an error bar only the line: the little bars would blur the markers.
            line = getattr(handle, "lines", [handle])[0]
            if label not in model_of or model_of[label].get_linestyle() == "None":
                model_of[label] = line
    labels = [label for label in reversed(model_of) if label not in (MAJORITY, CEILING)]
    labels = [label for label in (CEILING, *labels, MAJORITY) if label in model_of]
    figure.legend([model_of[label] for label in labels], labels, loc="outside right upper")


def numbers(suite: statistics.Suite) -> pd.DataFrame:
    """Returns the numbers behind a figure of suite scores: a row a cell, percent, baselines."""
    constants = {"tasks": " ".join(suite.tasks), "majority": suite.majority}
    return suite.cells[NUMBERS].assign(**constants, ceiling=suite.ceiling)


def short_name(model: str) -> str:
    """Returns a model's name without T5's family: t5_1_1_small is small.

    Models and tasks are otherwise named as in gin files and tables: pocket_3m, pocket_record.
    """
    return model.removeprefix("t5_1_1_")


def humanised(count: float) -> str:
    """Formats a parameter count in two or three digits: 52736 is 53K, 3100000 is 3.1M."""
    for unit, size in (("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if count >= size:
            value = count / size
            return f"{value:.1f}{unit}" if value < 9.95 else f"{value:.0f}{unit}"
    return str(int(count))


def new_figure(width: float, height: float) -> Figure:
    """Returns an empty figure, inches, laid out so that nothing overlaps."""
    return Figure(figsize=(width, height), layout="constrained")


def bars_note(cells: pd.DataFrame) -> str:
    """Returns a note on the error bars and, where there are any, the hollow markers."""
    if cells["seeds"].max() < 2:
        return "One seed, so there are no bars."
    over = resampling.repeats(cells["seeds"].max(), cells["draws"].max())
    items = cells.loc[cells["low"].notna(), "items"]  # of the bars
    if (items > 1).any():
        over += " and test items" if (items > 1).all() else " and test items, where known"
    bars = f"Bars: 95 % interval of the mean for these tasks, over {over}."
    partial = (cells["seeds"] > 0) & (cells["seeds"] < cells["expected"])
    return bars + (" Hollow markers: runs are missing (*)." if partial.any() else "")


def add_notes(figure: Figure, notes: Sequence[str]) -> None:
    """Writes notes below the figure, which grows by their height."""
    width, height = figure.get_size_inches()
    whole = (note.replace(" = ", "\u00a0=\u00a0") for note in notes)  # no line break in P = 20
    lines = [line for note in whole for line in textwrap.wrap(note, int(width * 20))]
    below = LINE_HEIGHT * (len(lines) + 0.8)
    figure.set_size_inches(width, height + below)
    share = below / (height + below)
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)  # of new_figure
    engine.set(rect=(0, share, 1, 1 - share))
    text = "\n".join(lines)
    position = {"x": 0.1 / width, "y": 0.06 / (height + below), "va": "bottom", "ha": "left"}
    figure.text(**position, s=text, fontsize=NOTE_SIZE, color="#444444", linespacing=1.25)


def style() -> AbstractContextManager[None]:
    """Returns the context in which a figure is made and saved."""
    return matplotlib.rc_context(RC)


def save(figure: Figure, table: pd.DataFrame, folder: Path, name: str) -> list[Path]:
    """Writes name.png, name.svg and name.csv (the numbers behind them); same input, same bytes."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    png, svg, csv = (folder / f"{name}.{ending}" for ending in ("png", "svg", "csv"))
    # Figure.savefig would draw everything twice: half a second for the panels.
    figure.set_dpi(DPI)
    with replacing(png) as path:
        FigureCanvasAgg(figure).print_png(path, metadata={"Software": None})
    with replacing(svg) as path:
        FigureCanvasSVG(figure).print_svg(path, metadata={"Date": None, "Creator": None})
    write_text(csv, table.to_csv(index=False, lineterminator="\n"))
    return [png, svg, csv]
