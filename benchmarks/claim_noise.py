"""The noise of a kept study, for `benchmarks.claim_rates`: `python -m benchmarks.claim_noise`.

    python -m benchmarks.claim_noise FOLDER [FOLDER ...]

Splits the scores of prompts of a study with one seed for each pre-training draw by an analysis of
variance over draws, tasks and prompt lengths, for each model and averaged over models. With one
seed a run's noise cannot be told from that of its draw on one task at one length.
Prints standard deviations in points, one a line, under the names of `claim_rates.Noise`, and how
much the gain from 1 to 20 soft tokens differs between tasks: its standard deviation over its mean,
which is 0.5 for effects that `claim_rates` calls normal and 1 for exponential ones.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from spjax.analysis import joined, statistics

FLAT = 20  # soft tokens from which scores differ by noise alone
STEADY = 5  # soft tokens from which no run fails to write a label
LOST = 20.0  # points by which a run with one soft token is lost, below the same with two


def measure(results: pd.DataFrame) -> dict[str, float]:
    """Returns standard deviations in points, the share of runs that are lost with one soft token,
    by how many points, and the spread of the gain over tasks.

    Models with a single draw are left out.

    Args:
      results: rows of results.csv; every draw of a model has all tasks and lengths, once.

    Raises:
      ValueError: every model has a single draw.
    """
    prompts = results[results["method"] == statistics.PROMPT_TUNING]
    draws = prompts.groupby("model")[statistics.PRETRAINING_SEED].transform("nunique")
    if not (draws > 1).any():
        raise ValueError("one pre-training draw of a model tells nothing of noise; give several")
    tables = {name: _table(runs) for name, runs in prompts[draws > 1].groupby("model")}
    steady = pd.DataFrame([_components(s[:, :, n >= STEADY]) for s, n in tables.values()]).mean()
    flat = pd.DataFrame([_components(s[:, :, n >= FLAT]) for s, n in tables.values()]).mean()
    steady["line_of_task"] = flat["line_of_task"]
    noise = {str(name): float(np.sqrt(max(value, 0.0))) for name, value in steady.items()}
    one, two = (
        np.concatenate([s[:, :, n == length].ravel() for s, n in tables.values()])
        for length in (1, 2)
    )
    lost = one < two - LOST
    gains_MT = [s[:, :, n == FLAT][..., 0] - s[:, :, n == 1][..., 0] for s, n in tables.values()]
    by_task = [gain_MT.mean(0) for gain_MT in gains_MT]
    spread = float(np.mean([gain_T.std(ddof=1) / gain_T.mean() for gain_T in by_task]))
    noise["lost_at_one"] = float(lost.mean())
    noise["lost_points_at_one"] = float((two - one)[lost].mean()) if lost.any() else 0.0
    return noise | {"spread_of_gain": spread}


def _table(runs: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Returns scores by draw, task and length, and the lengths."""
    table = runs.pivot(
        index=statistics.PRETRAINING_SEED,
        columns=["task", "prompt_length"],
        values=statistics.SCORE,
    ).sort_index(axis=1)
    lengths = np.array(sorted(runs["prompt_length"].unique()))
    return table.to_numpy().reshape(len(table), -1, len(lengths)), lengths


def _components(scores_MTL: np.ndarray) -> dict[str, float]:
    """Returns the variance of each component by the method of moments, of three crossed factors."""
    draws, tasks, lengths = scores_MTL.shape

    def interaction(one: int, other: int) -> float:
        """Returns the mean square of two factors, averaged over the third."""
        (third,) = {0, 1, 2} - {one, other}
        means = scores_MTL.mean(third)
        means = means - means.mean(0) - means.mean(1, keepdims=True) + means.mean()
        degrees = (means.shape[0] - 1) * (means.shape[1] - 1)
        return scores_MTL.shape[third] * float(np.square(means).sum()) / degrees

    of_draw_task, of_draw_line = interaction(0, 1), interaction(0, 2)
    means_M = scores_MTL.mean((1, 2))
    of_draw = tasks * lengths * float(means_M.var(ddof=1))
    additive = sum(np.expand_dims(scores_MTL.mean(axis), axis) for axis in range(3)) - sum(
        np.expand_dims(scores_MTL.mean(axes), axes) for axes in ((0, 1), (0, 2), (1, 2))
    )
    remainder = scores_MTL - additive - scores_MTL.mean()
    degrees = (draws - 1) * (tasks - 1) * (lengths - 1)
    run = float(np.square(remainder).sum()) / degrees
    return {
        "run": run,
        "draw": (of_draw - of_draw_task - of_draw_line + run) / (tasks * lengths),
        "draw_of_line": (of_draw_line - run) / tasks,
        "draw_of_task": (of_draw_task - run) / lengths,
        "line_of_task": (interaction(1, 2) - run) / draws,
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the noise of study folders together."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    folders = parser.parse_args(arguments).folders
    results = joined.join({folder: statistics.read(folder) for folder in folders})
    for name, value in measure(results).items():
        print(f"{name} {value:.2f}")


if __name__ == "__main__":
    main()
