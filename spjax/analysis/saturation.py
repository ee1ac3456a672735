"""Saturation: the prompt length beyond which nothing more than a margin is gained.

A length suffices if no longer one scores better by more than the margin. The saturation length is
the shortest that suffices together with all longer ones. P*, its upper end, comes from stepping
down from the longest length for as long as the one-sided 95 % bounds of score(P') - score(P), for
every longer P', are at most the margin. Such steps need no correction for their number (Hsu &
Berger 1999, for doses of a drug): P* is too short only if the step to the longest length that does
not suffice is taken, which happens in at most 5 % of studies where Student's bounds hold; with
skewed effects over few tasks they err more often (docs/claims.md). The lower end is the length
after the longest that some longer one is shown to beat by more than the margin, with 95 %
confidence for all pairs together (their common factor is the quantile of the largest standardized
difference in replicates). The two ends are a 90 % interval. Where P* is the longest length of a
study, the study has not located it.

Beside it stands the least-squares fit of S - a P^-b, a >= 0, and P90: the length at which 90 % of
the gain over P = 1 that the curve promises is reached, 10^(1/b).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy import special

from spjax.analysis import resampling, statistics
from spjax.analysis.criteria import MARGIN
from spjax.analysis.resampling import CONFIDENCE, Estimate

# Exponents of the fit; at the ends a curve is a logarithm or a step.
_EXPONENTS = np.geomspace(0.05, 8, 120)
_COLUMNS = ("P*", "90 % interval", "P* of these tasks", "its 90 % interval", "P90")
FEWEST_LENGTHS = 4  # one more than the curve's parameters


@dataclass(frozen=True)
class Saturation:
    """The saturation length of one model.

    Attributes:
      longest: length of the study.
      shortest_possible: lower end of the 90 % interval of the saturation length.
      length: P*, its upper end; None where scores have no spread.
      p90: of the fitted curve, NaN where it does not rise; low and high: its 95 % interval, up to
        infinity where more than one replicate in forty does not rise, NaN with a single seed.
      limit: S of the fit, in percent.
    """

    longest: int
    shortest_possible: int
    length: int | None
    p90: float
    p90_low: float
    p90_high: float
    limit: float

    @property
    def located(self) -> bool:
        """Returns whether a length shorter than the longest is P*."""
        return self.length is not None and self.length < self.longest


def locate(
    lengths: Sequence[int], estimates: Sequence[Estimate], margin: float = MARGIN
) -> Saturation:
    """Returns the saturation length of scores over prompt lengths.

    Args:
      lengths: ascending, at least two.
      estimates: the score at each, of one sample.
      margin: points that count as no gain.

    Raises:
      ValueError: fewer than two lengths, or not ascending.
    """
    if len(lengths) < 2 or list(lengths) != sorted(set(lengths)):
        raise ValueError(
            f"the lengths are {list(lengths)}: two or more in ascending order are wanted"
        )
    return Saturation(lengths[-1], *interval(lengths, estimates, margin), *_fit(lengths, estimates))


def interval(
    lengths: Sequence[int],
    estimates: Sequence[Estimate],
    margin: float = MARGIN,
    these_tasks: bool = False,
) -> tuple[int, int | None]:
    """Returns the ends of the 90 % interval of the saturation length.

    The second is P*, None where scores have no spread.

    Args:
      lengths, estimates, margin: as for `locate`.
      these_tasks: take the tasks as fixed.
    """
    gains = [estimates[j] - estimates[i] for i, j in _pairs(lengths)]
    errors, degrees = np.array([gain.spread(these_tasks) for gain in gains]).T
    if any(gain.trained_once for gain in gains) or np.isnan(errors).all():
        return lengths[0], None
    # Differences that are the same in all units, as at a ceiling, tell nothing about their noise.
    errors = np.where(np.isnan(errors), np.nanmax(errors), errors)
    degrees = np.where(np.isnan(degrees), np.nanmin(degrees), degrees)
    values = np.array([gain.value for gain in gains])
    drawn_RK = resampling.draws(gains, these_tasks=these_tasks)
    largest_R = ((drawn_RK - values) / errors).max(axis=1)
    exceeds = values - np.quantile(largest_R, CONFIDENCE) * errors > margin
    may_exceed = values + special.stdtrit(degrees, CONFIDENCE) * errors > margin
    return _after_last(lengths, exceeds), _after_last(lengths, may_exceed)


def without_spread(lengths: Sequence[int], scores: Sequence[float], margin: float = MARGIN) -> int:
    """Returns the saturation length read off scores that are taken as exact.

    Args:
      lengths: ascending.
      scores: in percent, at each.
      margin: points that count as no gain.
    """
    gains = np.array([scores[j] - scores[i] for i, j in _pairs(lengths)])
    return _after_last(lengths, gains > margin)


def _pairs(lengths: Sequence[int]) -> list[tuple[int, int]]:
    """Returns places of a shorter and a longer length, all of them."""
    return [(i, j) for j in range(len(lengths)) for i in range(j)]


def _after_last(lengths: Sequence[int], beaten: np.ndarray) -> int:
    """Returns the length after the longest that a longer one beats, by pairs."""
    shorter = np.array([i for i, _ in _pairs(lengths)])
    return lengths[shorter[beaten].max(initial=-1) + 1]


def of_results(
    results: pd.DataFrame, each_task: bool = True, tasks: tuple[str, ...] | None = None
) -> pd.DataFrame:
    """Returns the saturation of every variant and model, over tasks and for each task.

    Args:
      results: rows of results.csv.
      each_task: also for each task alone.
      tasks: to average over, as of `statistics.suite`.

    Returns:
      Columns variant, model, model_parameters, task ("" for the mean over tasks), those of
      `Saturation`, and these_shortest and these_length: `shortest_possible` and `length` for these
      tasks alone. Empty where no model has two prompt lengths.

    Raises:
      ValueError: as `statistics.main_runs`.
    """
    runs = statistics.main_runs(results)
    suite = statistics.suite(runs, tasks)
    suites = {"": suite}
    if each_task and len(suite.tasks) > 1:
        parts = ((task, runs[runs["task"] == task]) for task in suite.tasks)
        suites |= {task: statistics.suite(part) for task, part in parts}
    rows = []
    for task, of_task in suites.items():
        prompts = of_task.cells[of_task.cells["prompt_length"] > 0]
        for (variant, count, model), cells in prompts.groupby(
            ["variant", "model_parameters", "model"], sort=True
        ):
            cells = cells[cells["seeds"] > 0].sort_values("prompt_length")
            lengths = [int(length) for length in cells["prompt_length"]]
            if len(lengths) > 1:
                estimates = [of_task.estimates[line, model] for line in cells["line"]]
                saturation = locate(lengths, estimates)
                these = (saturation.shortest_possible, saturation.length)
                if not task and len(suite.tasks) > 1:
                    these = interval(lengths, estimates, these_tasks=True)
                name = {"variant": variant, "model": model, "model_parameters": count}
                name |= {"task": task, "these_shortest": these[0], "these_length": these[1]}
                rows.append(name | vars(saturation))
    return pd.DataFrame(rows)


def markdown(table: pd.DataFrame) -> str:
    """Formats the table, "" where it is empty."""
    if table.empty:
        return ""
    several = table["variant"].nunique() > 1
    head = [*(["variant"] if several else []), "model", "tasks", *_COLUMNS]
    text = (
        f"Saturation: from P* on no longer prompt gains more than {MARGIN:g} point (one-sided 95 % "
        "bounds, stepping down from the longest; `none shown` where only that is left). Bounds are "
        "over tasks, so that P* is of tasks like these; beside it, P* of these tasks alone. P90: "
        "where the curve S - a P^-b has 90 % of its rise over P = 1, with its 95 % interval over "
        "tasks."
    )
    lines = [text, "", f"| {' | '.join(head)} |", f"| {' | '.join(['---'] * len(head))} |"]
    for row in table.itertuples():
        cells = [*([row.variant] if several else []), row.model, row.task or "mean of all"]
        lines.append(f"| {' | '.join([*cells, *shown(row).values()])} |")
    return "\n".join(lines) + "\n"


def shown(row: Any) -> dict[str, str]:
    """Returns P*, its 90 % interval, both for these tasks alone, and P90 in words, by name.

    row: of `of_results`, with its columns as attributes.
    """
    over_tasks = _star(row.shortest_possible, row.length, row.longest)
    of_these = _star(row.these_shortest, row.these_length, row.longest)
    return dict(zip(_COLUMNS, (*over_tasks, *of_these, _p90(row)), strict=True))


def _star(shortest: int, length: Any, longest: int) -> tuple[str, str]:
    known = length is not None and not pd.isna(length)
    located = known and length < longest
    star, end = (f"{length:.0f}",) * 2 if located else ("none shown", "beyond")
    return star, f"{shortest} to {end}"


def _p90(row: Any) -> str:
    def text(value: float) -> str:
        if value < 2:
            return "under 2"
        return f"{value:.0f}" if value < 1000 else "beyond"

    if math.isnan(row.p90):
        return "-"
    if math.isnan(row.p90_low):
        return f"{text(row.p90)} [no interval]"
    return f"{text(row.p90)} [{text(row.p90_low)}, {text(row.p90_high)}]"


def _fit(lengths: Sequence[int], estimates: Sequence[Estimate]) -> tuple[float, ...]:
    """Returns P90, its interval, and S; NaN with too few lengths or where nothing rises."""
    if len(lengths) < FEWEST_LENGTHS:
        return (math.nan,) * 4
    values_1L = np.array([[estimate.value for estimate in estimates]])
    p90, limit = curve(lengths, values_1L)
    if math.isnan(p90[0]):
        return (math.nan,) * 4
    drawn_RL = resampling.draws(estimates, replicates=1000)
    if any(each.trained_once for each in estimates) or np.isnan(drawn_RL).any():
        return float(p90[0]), math.nan, math.nan, float(limit[0])
    drawn = curve(lengths, drawn_RL)[0]
    drawn = np.where(np.isnan(drawn), np.inf, drawn)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail], method="higher")
    return float(p90[0]), float(low), float(high), float(limit[0])


def curve(lengths: Sequence[int], scores_RL: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fits S - a P^-b to each row; returns P90 and S, P90 NaN where a is not positive.

    For every exponent of a grid S and a are linear, so all rows are solved at once;
    `scipy.optimize.curve_fit` would take a second for a thousand replicates, and a start for each.
    """
    powers_EL = np.asarray(lengths, float) ** -_EXPONENTS[:, None]
    centered_EL = powers_EL - powers_EL.mean(axis=1, keepdims=True)
    squares_E = np.square(centered_EL).sum(axis=1)
    slopes_RE = scores_RL @ centered_EL.T / squares_E  # -a
    gained_RE = np.where(slopes_RE < 0, slopes_RE**2 * squares_E, 0.0)  # squares explained
    best_R = gained_RE.argmax(axis=1)
    rows = np.arange(len(scores_RL))
    rises_R = gained_RE[rows, best_R] > 1e-9
    p90_R = np.where(rises_R, 10 ** (1 / _EXPONENTS[best_R]), np.nan)
    slopes_R = np.where(rises_R, slopes_RE[rows, best_R], 0.0)
    limits_R = scores_RL.mean(axis=1) - slopes_R * powers_EL.mean(axis=1)[best_R]
    return p90_R, limits_R
