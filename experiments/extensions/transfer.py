"""Prompts that start from those of other tasks, and whether likeness says which help (SPoT).

    python -m experiments.extensions.transfer SOURCES_FOLDER
    python -m experiments.extensions.transfer SOURCES_FOLDER STUDY_FOLDER

The first call writes what runs of seed 0 have left (prompts, or what a target stage starts from) to
SOURCES_FOLDER/prompts/, named after their tasks. The second, after the study that starts from them,
compares for each pair of tasks the gain of that start over the one at random (test scores in
points, same seeds) with the likeness of the source's prompt and the target's own prompts of other
seeds: the cosine of mean rows, and the mean cosine of all pairs of rows (Vu et al. 2022, section
4.2). The study's other arms stand beside the start at random and the start with the best validation
score. It writes transfer.md, transfer.json and a figure into STUDY_FOLDER.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from experiments.extensions import stored
from spjax.analysis import interpretation, resampling, statistics
from spjax.analysis.figures import _style
from spjax.analysis.resampling import Sample
from spjax.checkpoints.prompts import run_prompts

ARM, START = "starts", "from_file "
MEASURES = {"average": "cosine of mean rows", "per_token": "mean cosine of rows"}


def collect(folder: Path) -> None:
    """Copies what runs of seed 0 have left, under the names of their tasks.

    Raises:
      ValueError: two of them are of the same task, or there are none.
    """
    table = statistics.load(folder)
    table = table[(table["seed"] == 0) & (table["status"] == "finished")]
    if table["task"].duplicated().any():
        raise ValueError(
            f"{folder} has several runs of seed 0 for a task, of {sorted(set(table['task']))}: the "
            "sources of a transfer are of one model, one for each task."
        )
    if table.empty:
        raise ValueError(f"{folder} has no finished run of seed 0.")
    (folder / "prompts").mkdir(exist_ok=True)
    for key, task in zip(table["key"], table["task"]):
        for name in (run_prompts.PROMPT_FILE, run_prompts.TENSORS_FILE):
            if (source := folder / "runs" / key / name).is_file():
                print(shutil.copyfile(source, folder / "prompts" / f"{task}{source.suffix}"))


def likeness(runs: Sequence[stored.Stored]) -> dict[tuple[str, str], dict[str, float]]:
    """For each source and target, by both measures: seed 0 of the one, other seeds of the other."""
    sources = [item for item in runs if item.row["seed"] == 0]
    others = [item for item in runs if item.row["seed"] != 0]
    both = interpretation.similarities([item.prompt for item in (*sources, *others)])
    pairs: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for i, source in enumerate(sources):
        for j, other in enumerate(others, len(sources)):
            pairs.setdefault((source.row["task"], other.row["task"]), []).append((i, j))
    return {
        tasks: {name: float(np.mean([both[name][at] for at in values])) for name in MEASURES}
        for tasks, values in pairs.items()
    }


def gains(results: pd.DataFrame) -> list[dict[str, Any]]:
    """A row for each target and start: mean score, gain over the start at random, its interval."""
    results = results[results["arm"] == ARM]
    table = results.pivot_table(values=statistics.SCORE, index=["task", "seed"], columns="init")
    starts = [name for name in table.columns if name.startswith(START)]
    (random,) = (name for name in table.columns if name not in starts)
    rows = []
    for start in starts:
        for task, scores in table[[start, random]].groupby(level="task"):
            paired = scores.dropna()
            both = f"{task} from {start!r} and from {random!r}"
            gain = over_seeds(paired[start] - paired[random], both)
            low, high = gain.interval()
            row = {"source": start.removeprefix(START), "target": task}
            row |= {"gain": gain.value, "low": low, "high": high}
            rows.append(row | {"score": scores[start].mean(), "random": scores[random].mean()})
    return rows


def over_seeds(scores: pd.Series, name: str) -> resampling.Estimate:
    """The mean of runs of one task that differ by their seed; ValueError if there are none."""
    estimate = Sample(scores.to_numpy(float)[None, None, None]).estimate(0)
    if estimate is None:
        raise ValueError(
            f"no seed has a score of {name}: at least one is needed; let the sweep finish"
        )
    return estimate


def correlations(
    rows: Sequence[dict[str, Any]],
) -> dict[str, dict[str, tuple[float, float, float]]]:
    """Of likeness and gain over pairs of different tasks, by measure, with 95 % intervals.

    "pearson" and "spearman" are over all pairs, "within" is Pearson's after each target's mean is
    taken off: whether the more alike of its sources is the better one. Pairs that share a task
    depend on each other, so the interval is the jackknife's over tasks (each left out as source and
    as target), by Fisher's z with Student's t: with so few tasks a bootstrap would draw tables of
    two or three, in which nearly every correlation is perfect.
    """
    table = pd.DataFrame([row for row in rows if row["source"] != row["target"]])
    tasks = sorted({*table["source"], *table["target"]})
    without = [table[(table["source"] != task) & (table["target"] != task)] for task in tasks]
    result = {}
    for name in MEASURES:
        whole = _correlations(table, name)
        replicates = [_correlations(part, name) for part in without]
        result[name] = {
            kind: (value, *_jackknife(value, [one[kind] for one in replicates]))
            for kind, value in whole.items()
        }
    return result


def _correlations(table: pd.DataFrame, name: str) -> dict[str, float]:
    pair = table[[name, "gain"]]
    within = pair - pair.groupby(table["target"]).transform("mean")
    kinds = {"pearson": pair, "spearman": pair.rank(), "within": within}
    return {kind: float(columns.corr().iloc[0, 1]) for kind, columns in kinds.items()}


def _jackknife(value: float, replicates: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of a correlation from those without one task each."""
    bound = 1 - 1e-9  # Fisher's z of a perfect correlation is infinite
    whole, *others = np.arctanh(np.clip([value, *replicates], -bound, bound))
    count = len(others)
    error = np.sqrt((count - 1) / count * np.square(others - np.mean(others)).sum())
    half = error * stats.t.ppf((1 + resampling.CONFIDENCE) / 2, count - 1)
    low, high = np.tanh([whole - half, whole + half])
    return float(low), float(high)


def markdown(
    rows: Sequence[dict[str, Any]], correlation: dict[str, dict[str, tuple[float, float, float]]]
) -> str:
    """Gains with the likenesses, and the correlations."""
    head = ["target", "source", "from random", "from the source", "gain", *MEASURES.values()]
    lines = [f"| {' | '.join(head)} |", "| --- | --- |" + " ---: |" * (len(head) - 2)]
    for row in sorted(rows, key=lambda row: (row["target"], row["source"])):
        cells = [row["target"], row["source"], f"{row['random']:.1f}", f"{row['score']:.1f}"]
        cells += [f"{row['gain']:+.1f} {_brackets(row['low'], row['high'])}"]
        cells += [f"{row[name]:.2f}" for name in MEASURES]
        lines.append(f"| {' | '.join(cells)} |")
    note = (
        "Gain: test score in points, with its 95 % interval over seeds. Of correlations: the 95 %"
    )
    lines += ["", f"{note} interval over tasks.", ""]
    head = ["likeness and gain, pairs of different tasks", "Pearson", "Spearman", "within targets"]
    lines += [f"| {' | '.join(head)} |", "| --- | ---: | ---: | ---: |"]
    for name, kinds in correlation.items():
        cells = [f"{x:+.2f} {_brackets(low, high, 2)}" for x, low, high in kinds.values()]
        lines.append(f"| {MEASURES[name]} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _brackets(low: float, high: float, digits: int = 1) -> str:
    return "[-]" if np.isnan(low) else f"[{low:.{digits}f}, {high:.{digits}f}]"


def other_arms(results: pd.DataFrame) -> str:
    """A table of the study's other arms, on the tasks that they have; "" if there are none."""
    starts, others = results[results["arm"] == ARM], results[results["arm"] != ARM]
    lines: list[str] = []
    for task, part in others.groupby("task"):
        of_task = starts[starts["task"] == task]
        from_task = of_task["init"].str.startswith(START)
        foreign = of_task[from_task & (of_task["init"] != START + task)]
        best = foreign.groupby("init")["validation_score"].mean().idxmax()
        columns = {
            "at random": of_task[~from_task],
            "best source": foreign[foreign["init"] == best],
        }
        columns |= dict(iter(part.groupby("arm")))
        if not lines:
            head = " | ".join(columns)
            lines += ["", f"| target | {head} |", "| --- |" + " ---: |" * len(columns)]
        scores = [
            over_seeds(runs[statistics.SCORE].dropna(), f"{task}, {name}")
            for name, runs in columns.items()
        ]
        cells = [
            f"{score.value:.1f} {_brackets(*np.clip(score.interval(), 0, 100))}" for score in scores
        ]
        lines.append(f"| {task} | {' | '.join(cells)} |")
    note = "Test score, 95 % interval over seeds. Best source: of other tasks, by validation."
    return "\n".join([*lines, "", note, ""]) if lines else ""


def draw(rows: Sequence[dict[str, Any]], folder: Path) -> list[Path]:
    """Gain over likeness, a marker a target; hollow where a task starts from itself."""
    table = pd.DataFrame(rows)
    with _style.style():
        figure = _style.new_figure(5.6, 3.3)
        axes = figure.add_subplot()
        targets = sorted(set(table["target"]))
        for target, look in zip(targets, _style.looks(len(targets))):
            part = table[table["target"] == target]
            same_task = (part["source"] == target).to_numpy()
            style = {"color": look.color, "marker": look.marker, "linestyle": "none"}
            axes.errorbar(
                part["average"],
                part["gain"],
                yerr=[part["gain"] - part["low"], part["high"] - part["gain"]],
                label=target,
                elinewidth=0.8,
                markersize=5,
                **style,
            )
            axes.plot(
                part["average"][same_task],
                part["gain"][same_task],
                markerfacecolor="white",
                markersize=5,
                zorder=4,
                **style,
            )
        axes.axhline(0, color=_style.GREY, linewidth=0.8)
        axes.set_xlabel("Cosine of the mean rows of source and target prompt")
        axes.set_ylabel("Gain over a start at random (points)")
        _style.legend(figure, axes)
        note = "Markers: targets. Bars: 95 % interval over seeds. Hollow: the task's own prompt."
        _style.add_notes(figure, [note])
        return _style.save(figure, table, folder / "figures", "gain_over_likeness")


def main(arguments: Sequence[str]) -> None:
    """Collects the sources, or prints the table and writes all files."""
    sources, *studies = map(Path, arguments)
    if not studies:
        collect(sources)
        return
    alike = likeness(stored.runs(sources))
    results = statistics.load(studies[0])
    rows = gains(results)
    rows = [row | alike[row["source"], row["target"]] for row in rows]
    correlation = correlations(rows)
    draw(rows, studies[0])
    text = markdown(rows, correlation) + other_arms(results)
    stored.write(studies[0], "transfer", "Starts from other tasks", rows, text)


if __name__ == "__main__":
    main(sys.argv[1:])
