"""Prompts that start from those of other tasks, and whether likeness says which help (SPoT).

    python -m experiments.extensions.transfer SOURCES_FOLDER
    python -m experiments.extensions.transfer SOURCES_FOLDER STUDY_FOLDER

The first call writes the prompts of seed 0 to SOURCES_FOLDER/prompts/, named after their tasks. The
second, after the study that starts from them, compares for each pair of tasks the gain of that
start over the one at random (test scores in points, same seeds) with the likeness of the source's
prompt and the target's own prompts of other seeds: the cosine of mean rows, and the mean cosine of
all pairs of rows (Vu et al. 2022, section 4.2). It writes transfer.md, transfer.json and a figure
into STUDY_FOLDER.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from experiments.extensions import stored
from spjax.analysis import interpretation, statistics
from spjax.analysis.figures import _style
from spjax.checkpoints import prompts

START = "from_file "
MEASURES = {"average": "cosine of mean rows", "per_token": "mean cosine of rows"}


def collect(folder: Path) -> None:
    """Writes the prompts of seed 0 under the names of their tasks.

    Raises:
      ValueError: two of them are of the same task.
    """
    found = [item for item in stored.runs(folder) if item.row["seed"] == 0]
    tasks = [item.row["task"] for item in found]
    if len(set(tasks)) < len(tasks):
        raise ValueError(
            f"{folder} has several prompts of seed 0 for a task, of {sorted(set(tasks))}: the "
            "sources of a transfer are prompts of one model, one for each task."
        )
    for item in found:
        path = folder / "prompts" / f"{item.row['task']}.npy"
        path.parent.mkdir(exist_ok=True)
        prompts.write(path, item.prompt)
        print(path)


def likeness(found: Sequence[stored.Stored]) -> dict[tuple[str, str], dict[str, float]]:
    """For each source and target, by both measures: seed 0 of the one, other seeds of the other."""
    sources = [item for item in found if item.row["seed"] == 0]
    others = [item for item in found if item.row["seed"] != 0]
    both = interpretation.similarities([item.prompt for item in (*sources, *others)])
    pairs: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for i, source in enumerate(sources):
        for j, other in enumerate(others, len(sources)):
            pairs.setdefault((source.row["task"], other.row["task"]), []).append((i, j))
    return {
        tasks: {name: float(np.mean([both[name][at] for at in own])) for name in MEASURES}
        for tasks, own in pairs.items()
    }


def gains(results: pd.DataFrame) -> list[dict[str, Any]]:
    """A row for each target and start: mean score, gain over the start at random, and its error."""
    table = results.pivot_table(values=statistics.SCORE, index=["task", "seed"], columns="init")
    starts = [name for name in table.columns if name.startswith(START)]
    (random,) = (name for name in table.columns if name not in starts)
    rows = []
    for start in starts:
        differences = (table[start] - table[random]).groupby(level="task")
        facts = pd.DataFrame({"gain": differences.mean(), "error": differences.sem()})
        facts["score"] = table[start].groupby(level="task").mean()
        facts["random"] = table[random].groupby(level="task").mean()
        for task, row in facts.iterrows():
            rows.append({"source": start.removeprefix(START), "target": task, **row.to_dict()})
    return rows


def correlations(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Of likeness and gain over pairs of different tasks, by measure.

    "pearson" and "spearman" are over all pairs, "within" is Pearson's after each target's mean is
    taken off: whether the more alike of its sources is the better one.
    """
    table = pd.DataFrame([row for row in rows if row["source"] != row["target"]])
    found = {}
    for name in MEASURES:
        pair = table[[name, "gain"]]
        within = pair - pair.groupby(table["target"]).transform("mean")
        kinds = {"pearson": pair, "spearman": pair.rank(), "within": within}
        found[name] = {kind: float(own.corr().iloc[0, 1]) for kind, own in kinds.items()}
    return found


def markdown(rows: Sequence[dict[str, Any]], found: dict[str, dict[str, float]]) -> str:
    """Gains with the likenesses, and the correlations."""
    head = ["target", "source", "from random", "from the source", "gain", *MEASURES.values()]
    lines = [f"| {' | '.join(head)} |", "| --- | --- |" + " ---: |" * (len(head) - 2)]
    for row in sorted(rows, key=lambda row: (row["target"], row["source"])):
        cells = [row["target"], row["source"], f"{row['random']:.1f}", f"{row['score']:.1f}"]
        cells += [f"{row['gain']:+.1f} ± {row['error']:.1f}"]
        cells += [f"{row[name]:.2f}" for name in MEASURES]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "Gain: test score in points, ± the standard error over seeds.", ""]
    head = ["likeness and gain, pairs of different tasks", "Pearson", "Spearman", "within targets"]
    lines += [f"| {' | '.join(head)} |", "| --- | ---: | ---: | ---: |"]
    for name, kinds in found.items():
        lines.append(f"| {MEASURES[name]} | {' | '.join(f'{x:+.2f}' for x in kinds.values())} |")
    return "\n".join(lines) + "\n"


def draw(rows: Sequence[dict[str, Any]], folder: Path) -> list[Path]:
    """Gain over likeness, a marker a target; hollow where a task starts from itself."""
    table = pd.DataFrame(rows)
    with _style.style():
        figure = _style.new_figure(5.6, 3.3)
        axes = figure.add_subplot()
        targets = sorted(set(table["target"]))
        for target, look in zip(targets, _style.looks(len(targets))):
            part = table[table["target"] == target]
            own = (part["source"] == target).to_numpy()
            style = {"color": look.colour, "marker": look.marker, "linestyle": "none"}
            axes.errorbar(part["average"], part["gain"], yerr=part["error"], label=target,
                          elinewidth=0.8, markersize=5, **style)  # fmt: skip
            axes.plot(part["average"][own], part["gain"][own], markerfacecolor="white",
                      markersize=5, zorder=4, **style)  # fmt: skip
        axes.axhline(0, color=_style.GREY, linewidth=0.8)
        axes.set_xlabel("Cosine of the mean rows of source and target prompt")
        axes.set_ylabel("Gain over a start at random (points)")
        _style.legend(figure, axes)
        note = "Markers: targets. Bars: standard error over seeds. Hollow: the task's own prompt."
        _style.add_notes(figure, [note])
        return _style.save(figure, table, folder / "figures", "gain_over_likeness")


def main(arguments: Sequence[str]) -> None:
    """Collects the sources, or prints the table and writes all files."""
    sources, *studies = map(Path, arguments)
    if not studies:
        return collect(sources)
    alike = likeness(stored.runs(sources))
    rows = gains(statistics.load(studies[0]))
    rows = [row | alike[row["source"], row["target"]] for row in rows]
    found = correlations(rows)
    draw(rows, studies[0])
    stored.write(studies[0], "transfer", "Starts from other tasks", rows, markdown(rows, found))


if __name__ == "__main__":
    main(sys.argv[1:])
