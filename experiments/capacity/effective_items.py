"""The number of associations that the prompts of other tasks would hold where gains level off.

    python -m experiments.capacity.effective_items STUDY [STUDY ...] --capacity STUDY [STUDY ...]

Prints P* D / c for each task and model of the first folders, joined, with c of the others, joined,
and writes effective_items.md, .csv and a figure into a folder of their name in `results/`
(`--output_dir`).
Where it is the same on every rung, what a task needs is room; where it falls with size, larger
models know more of the task.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from spjax.analysis import capacity, capacity_laws, joined
from spjax.analysis.figures import _style
from spjax.files import write_text

NAME = "effective_items"
_BEYOND = 1.6  # length of an arrow, as a factor


def constants_of(folders: Sequence[Path]) -> dict[str, float]:
    """Returns c by ladder, of the fit of associations to the most cells.

    Raises:
      ValueError: the studies have too few cells for one.
    """
    fitted = capacity_laws.fits(capacity.needs(joined.read(folders)))
    of_associations = [fit for fit in fitted if fit.form == "associations"]
    if not of_associations:
        names = ", ".join(map(str, folders))
        raise ValueError(f"{names}: too few cells of associations to fit a law to.")
    chosen = capacity_laws.of_most_cells(of_associations)
    return {ladder: fit.constant[0] for ladder, fit in chosen.items()}


def markdown(table: pd.DataFrame, constants: Mapping[str, float]) -> str:
    """Returns a row for each task with the interval on every model, smallest first."""
    models = _models(table)
    text = (
        "Effective K, P* D / c: associations that a prompt would hold at the lengths between which "
        f"gains level off (90 % interval), with c = {_text(constants)} trained numbers for each. "
        'Last: the K that lie in the intervals of all models; "none" says that their needs differ, '
        '"any" that nothing is known.'
    )
    lines = [
        text,
        "",
        f"| task | {' | '.join(models)} | all |",
        "| --- |" + " ---: |" * len(models),
    ]
    lines[-1] += " ---: |"
    for task, part in table.groupby("task", sort=False):
        rows = part.set_index("model")
        shown = [_shown(*rows.loc[x, ["low", "high"]]) if x in rows.index else "-" for x in models]
        low, high = part["low"].max(), part["high"].min()
        both = _shown(low, high) if low <= high else "none"
        lines.append(f"| {task} | {' | '.join(shown)} | {both} |")
    return "\n".join(lines) + "\n"


def _models(table: pd.DataFrame) -> list[str]:
    return list(table.sort_values("model_parameters")["model"].unique())


def _text(constants: Mapping[str, float]) -> str:
    return ", ".join(f"{constant:.1f} ({name})" for name, constant in constants.items())


def _shown(low: float, high: float) -> str:
    if low == 0:
        return (
            "any" if math.isinf(high) else f"up to {high:.2g}" if high < 10 else f"up to {high:.0f}"
        )
    start, end = (f"{x:.2g}" if x < 10 else f"{x:.0f}" for x in (low, high))
    return f"{start} or more" if math.isinf(high) else f"{start} to {end}"


def draw(table: pd.DataFrame, constants: Mapping[str, float], folder: Path) -> list[Path]:
    """Draws the interval of each task by model; an arrow is one without an end there."""
    models, tasks = _models(table), list(dict.fromkeys(table["task"]))
    with _style.style():
        figure = _style.new_figure(6.4, 3.6)
        axes = figure.subplots()
        shifts = np.linspace(-0.25, 0.25, len(models)) if len(models) > 1 else [0.0]
        for model, look, shift in zip(models, _style.looks(len(models)), shifts):
            rows = table[table["model"] == model].set_index("task").reindex(tasks)
            places = np.arange(len(tasks)) + shift
            low, high = rows["low"].to_numpy(), rows["high"].to_numpy()
            up, down = np.isinf(high) & (low > 0), np.isfinite(high) & (low == 0)
            starts, ends = np.where(down, high / _BEYOND, low), np.where(up, low * _BEYOND, high)
            is_any = np.isinf(high) & (low == 0)
            starts, ends = np.where(is_any, np.nan, starts), np.where(is_any, np.nan, ends)
            label = f"{_style.short_name(model)} (D={rows['width'].max():.0f})"
            axes.vlines(places, starts, ends, color=look.color, linewidth=2, label=label)
            axes.plot(places[up], ends[up], "^", color=look.color, markersize=5)
            axes.plot(places[down], starts[down], "v", color=look.color, markersize=5)
            for each, at in (
                (up, starts),
                (down, ends),
                (~up & ~down, starts),
                (~up & ~down, ends),
            ):
                axes.plot(places[each], at[each], "_", color=look.color, markersize=7)
        axes.set_yscale("log")
        axes.set_ylabel("Effective K, P* D / c")
        names = [task.partition("_")[2] or task for task in tasks]
        axes.set_xticks(range(len(tasks)), names, rotation=30, ha="right")
        _style.legend(figure, axes)
        notes = [
            f"90 % intervals of the length at which gains level off, c = {_text(constants)}.",
            "Arrows up: no length is shown to be enough; down: none is shown not to be.",
            "Tasks without a line: neither.",
        ]
        _style.add_notes(figure, notes)
        return _style.save(figure, table, folder / "figures", NAME)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table and writes the files."""
    parser = argparse.ArgumentParser(prog=f"python -m experiments.capacity.{NAME}")
    parser.add_argument("studies", type=Path, nargs="+", help="folders of studies of other tasks")
    parser.add_argument(
        "--capacity",
        type=Path,
        nargs="+",
        required=True,
        help="folders of studies of associations, which c is fitted to",
    )
    parser.add_argument("--output_dir", type=Path, default=Path("results") / NAME)
    options = parser.parse_args(arguments)
    try:
        constants = constants_of(options.capacity)
        table = capacity.effective_items(joined.read(options.studies), constants)
        if table.empty:
            raise ValueError("the studies have no model with prompts of two lengths.")
    except ValueError as error:
        parser.error(str(error))
    text = markdown(table, constants)
    print(text)
    write_text(options.output_dir / f"{NAME}.md", f"# Effective number of associations\n\n{text}")
    numbers = table.to_csv(index=False, lineterminator="\n")
    write_text(options.output_dir / f"{NAME}.csv", numbers)
    for path in draw(table, constants, options.output_dir):
        print(path)


if __name__ == "__main__":
    main()
