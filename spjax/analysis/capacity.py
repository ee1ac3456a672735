"""The trained numbers that hold what a prompt has to carry.

The need of a cell (a task of `spjax.data.tasks.capacity_tasks`, a number of items K, a frozen
model) is the least amount of trained numbers at which `THRESHOLD` percent of the examples are right
(of exceptions half of them follow the rule): where the monotone regression of the mean score over
the amounts of a study crosses the threshold, interpolated between two amounts, in logits on a
logarithmic axis. For prompt tuning that amount over the width of the model is a prompt length, P*.

Intervals are those of the jackknife, which leaves one draw of the words out of all cells at a time,
with Student's t. The scheme of `resampling` would not do: a crossing is not linear in the scores,
and noise added to them moves it towards short prompts, since the monotone regression takes any
score above the threshold for the crossing. Of 95 % intervals that were made so 75 to 88 % had the
true need in them, of those of the jackknife about 90 % (tests/analysis/test_capacity_intervals.py).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import optimize, stats

from spjax.analysis import saturation, statistics
from spjax.analysis.resampling import CONFIDENCE
from spjax.data.tasks import capacity_tasks

THRESHOLD = 95.0  # percent of the examples
# Cells are groups of runs that differ in amount, draw and seeds alone.
CELL = ("form", "method", "init", "model_parameters", "model", "steps", "learning_rate", "items")
_AMOUNT = "stored_parameters"
_UNITS = ("draw", "pretraining_seed", "seed")  # the first with several values is left out by one


@dataclasses.dataclass(frozen=True)
class Needs:
    """The needs of all cells of a study.

    Attributes:
      table: a row a cell: those of `CELL`, `ladder` (of the model), `bits` (K times the bits of a
        label; NaN for recitation), `information` (K times those that a label takes which is right
        in `threshold` percent of the cases), `width` (D; NaN where no prompt is tuned), `draws`,
        `least` and `most` (amounts tried), `dropped` (amounts that lack a run), `numbers` (the
        need; 0 where the least amount is enough, infinite where the largest is not, NaN where it
        may lie at an amount that was dropped), `low` and `high` (its 95 % interval, which ends at 0
        and infinity where it leaves the amounts tried; NaN with a single draw).
      without_UC: of `numbers`, with each draw left out in turn; those beyond the amounts tried are
        moved to the least or largest. NaN where the cell has no such draw, or no other.
    """

    table: pd.DataFrame
    without_UC: np.ndarray


def ladder(model: str) -> str:
    """Returns the family of a model, whose members have words and labels of the same vocabulary."""
    return model.partition("_")[0]


def has_tasks(results: pd.DataFrame) -> bool:
    """Returns whether some runs are on a task of `capacity_tasks`."""
    return bool(_is_capacity(results["task"]).any())


def without_tasks(results: pd.DataFrame) -> pd.DataFrame:
    """Returns the runs on all other tasks."""
    return results[~_is_capacity(results["task"])]


def _is_capacity(tasks: pd.Series) -> pd.Series:
    return tasks.map(lambda name: capacity_tasks.is_name(str(name).partition(":")[0]))


def needs(results: pd.DataFrame, threshold: float = THRESHOLD) -> Needs:
    """Returns the needs of the cells that a study has.

    Args:
      results: rows of results.csv; those of other tasks, of tasks without items, and of runs
        without a score are left out.
      threshold: percent of the examples that are to be right.

    Raises:
      ValueError: no run is on a task of `capacity_tasks`, the results lack a column, or two runs
        differ in nothing that a need is told for.
    """
    runs = _runs(results, threshold)
    unit = next((name for name in _UNITS if runs[name].nunique() > 1), _UNITS[0])
    units = sorted(runs[unit].unique())
    rows, without = [], []
    for key, part in runs.groupby(list(CELL), sort=True, dropna=False):
        cell = _cell(part, unit, units if len(units) > 1 else [], threshold)
        if cell is not None:
            rows.append({**dict(zip(CELL, key)), **cell[0]})
            without.append(cell[1])
    if not rows:
        raise ValueError("no cell of the study has every draw at any amount of trained numbers.")
    return Needs(pd.DataFrame(rows), np.stack(without, axis=1))


def _runs(results: pd.DataFrame, threshold: float) -> pd.DataFrame:
    missing = {_AMOUNT, "steps", "learning_rate"} - set(results.columns)
    if missing:
        raise ValueError(f"the results lack the columns {sorted(missing)}.")
    runs = results[_is_capacity(results["task"]) & results[statistics.SCORE].notna()]
    runs = runs[runs[_AMOUNT] > 0].drop_duplicates("key" if "key" in runs.columns else None)
    parsed = [capacity_tasks.parse(name)[0] for name in runs["task"]]
    runs = runs.assign(items=[task.items for task in parsed])
    runs["draw"] = [task.draw for task in parsed]
    of_label = np.array([math.log2(task.labels) if task.labels else math.nan for task in parsed])
    runs["bits"] = runs["items"] * of_label
    runs["information"] = runs["items"] * [information(bits, threshold) for bits in of_label]
    runs["form"] = [form(task) for task in parsed]
    runs["ladder"] = runs["model"].map(ladder)
    lengths = runs["prompt_length"].where(runs["method"] == statistics.PROMPT_TUNING)
    runs["width"] = runs[_AMOUNT] / lengths.where(lengths > 0)
    runs = runs[runs["items"] > 0]
    if runs.empty:
        kinds = ", ".join(capacity_tasks.KINDS)
        raise ValueError(f"no run has a score on a task of a prompt's capacity: {kinds}.")
    return runs


def form(task: capacity_tasks.CapacityTask) -> str:
    """Returns the name of a task without K and draw, and with labels if they are not K."""
    name = capacity_tasks.name_of(dataclasses.replace(task, draw=0))
    return ":".join(part for part in name.split(":") if part != f"k{task.items}")


def information(bits: float, threshold: float) -> float:
    """Returns the bits that a label takes which is to be right in some percent of the cases.

    The rate-distortion function of a uniform source under Hamming distortion (Cover and Thomas
    2006, problem 10.5): guesses are right without any.

    Args:
      bits: of a label, the binary logarithm of the number of labels; NaN gives NaN.
      threshold: percent of the cases.
    """
    wrong = 1 - threshold / 100
    if math.isnan(bits):
        return math.nan
    if wrong >= 1 - 2.0**-bits:
        return 0.0
    of_errors = float(stats.entropy([wrong, 1 - wrong], base=2)) + wrong * math.log2(2.0**bits - 1)
    return bits - of_errors


def _cell(
    runs: pd.DataFrame, unit: str, units: Sequence[Any], threshold: float
) -> tuple[dict[str, Any], np.ndarray] | None:
    """Returns need, interval and needs without each unit; None where no amount has all runs."""
    if runs.duplicated([_AMOUNT, *_UNITS]).any():
        first = runs[runs.duplicated([_AMOUNT, *_UNITS])].iloc[0]
        raise ValueError(
            f"two runs of {first['form']} on {first['model']} have {first[_AMOUNT]:,.0f} trained "
            "numbers and the same draw and seeds: they differ in a setting that a need is not told "
            "for, such as the batch size. Judge their studies apart."
        )
    groups = runs.groupby([_AMOUNT, unit])[statistics.SCORE]
    counts_AU, means_AU = groups.size().unstack(fill_value=0), groups.mean().unstack()
    is_whole = (counts_AU == counts_AU.to_numpy().max()).all(axis=1)
    known, dropped = means_AU[is_whole], means_AU.index[~is_whole].to_numpy(float)
    if known.empty:
        return None
    amounts = known.index.to_numpy(float)
    need = crossing(amounts, known.mean(axis=1), threshold)
    without = np.full(len(units), math.nan)
    places = [units.index(value) for value in known.columns if value in units]
    if len(known.columns) > 1:
        for place, value in zip(places, known.columns):
            mean = known.drop(columns=value).mean(axis=1)
            without[place] = crossing(amounts, mean, threshold)
    bracket = _bracket(amounts, need)
    first = runs.iloc[0]
    names = ("ladder", "bits", "information", "width")
    row: dict[str, Any] = {name: first[name] for name in names}
    row |= {"draws": len(known.columns), "least": amounts[0], "most": amounts[-1]}
    row |= {"dropped": len(dropped)}
    low, high = _interval(need, without[places], bracket, amounts)
    if np.any((bracket[0] < dropped) & (dropped < bracket[1])):
        need = low = high = math.nan
    return row | {"numbers": need, "low": low, "high": high}, without.clip(amounts[0], amounts[-1])


def _bracket(amounts: np.ndarray, need: float) -> tuple[float, float]:
    """Returns the amounts tried between which a need lies; 0 and infinity at the ends."""
    ends = np.array([0.0, *amounts, math.inf])
    if need == 0:
        return 0.0, float(amounts[0])
    place = int(np.searchsorted(ends, need))
    return float(ends[place - 1]), float(ends[place])


def _interval(
    need: float, without_U: np.ndarray, bracket: tuple[float, float], amounts: np.ndarray
) -> tuple[float, float]:
    """Returns the interval of a need; NaN with a single draw, or where there is no need."""
    if len(without_U) < 2 or need == 0 or math.isinf(need):
        return math.nan, math.nan
    inside_U = without_U.clip(amounts[0], amounts[-1])
    error = jackknife_error(np.log(need), np.log(inside_U))
    # Draws that agree say no more than that the need lies between two of the amounts tried.
    if error == 0:
        return bracket
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(without_U) - 1)) * error
    low, high = need * math.exp(-half), need * math.exp(half)
    low = 0.0 if low < amounts[0] or (without_U == 0).any() else low
    return low, math.inf if high > amounts[-1] or np.isinf(without_U).any() else high


def jackknife_error(value: ArrayLike, without_U: np.ndarray) -> Any:
    """Returns the standard error of a statistic from its values without each unit (first axis).

    Units without a value, which some cell of the statistic lacks, are left out.
    """
    without_U = without_U[np.isfinite(without_U.reshape(len(without_U), -1)).all(axis=1)]
    count = len(without_U)
    return np.sqrt((count - 1) / count * np.square(without_U - value).sum(axis=0))


def crossing(amounts: ArrayLike, scores: ArrayLike, threshold: float) -> float:
    """Returns the amount at which the monotone regression of scores crosses a threshold.

    Args:
      amounts: ascending and positive.
      scores: at each.
      threshold: of the scores.

    Returns:
      Interpolated between the scores' logits on a logarithmic axis, since scores over amounts are
      shaped like an S; 0 where the first amount is enough, infinity where the
      last is not.
    """
    fitted = optimize.isotonic_regression(scores).x
    above = np.flatnonzero(fitted >= threshold - 1e-9)
    if not len(above):
        return math.inf
    i = int(above[0])
    if i == 0:
        return 0.0
    if fitted[i] <= threshold + 1e-9:
        return float(np.asarray(amounts, float)[i])
    low, at, high = (_logit(score) for score in (fitted[i - 1], threshold, fitted[i]))
    share = (at - low) / (high - low)
    logs = np.log(np.asarray(amounts, float)[i - 1 : i + 1])
    return float(np.exp(logs[0] + share * (logs[1] - logs[0])))


def _logit(score: float) -> float:
    """Returns the logit of a score in percent; half a point from the ends is added."""
    return math.log((score + 0.5) / (100.5 - score))


def effective_items(results: pd.DataFrame, constants: Mapping[str, float]) -> pd.DataFrame:
    """Returns how many associations would need the prompts at which the gains of tasks level off.

    Args:
      results: rows of results.csv, of any tasks.
      constants: c by ladder, trained numbers for each association (`Fits.constant`).

    Returns:
      A row for each model and task: `model`, `model_parameters`, `task`, `width`, `length` (P* of
      `saturation`; NaN where none is shown), `low` and `high` (P D / c of the longest length that
      is shown not to be enough, 0 where none is, and of P*, infinite where there is none: the ends
      of a 90 % interval).

    Raises:
      ValueError: a model is of a ladder without a constant.
    """
    if absent := sorted({*map(ladder, results["model"])} - {*constants}):
        raise ValueError(
            f"there is no constant of {' and '.join(absent)} models, only of "
            f"{' and '.join(sorted(constants))} ones; their words and labels are others."
        )
    prompts = results[results["method"] == statistics.PROMPT_TUNING]
    width = prompts["trainable_parameters"] / prompts["prompt_length"]
    width_of = width.groupby(prompts["model"]).median()
    table = saturation.of_results(results)
    if table.empty:
        return table
    rows = []
    for row in table[table["task"] != ""].itertuples():
        located = row.length is not None and row.length < row.longest
        scale = width_of[row.model] / constants[ladder(row.model)]
        tried = prompts.loc[prompts["model"] == row.model, "prompt_length"]
        excluded = tried[tried < row.shortest_possible].max()
        rows.append(
            {
                "model": row.model,
                "model_parameters": row.model_parameters,
                "task": row.task,
                "width": width_of[row.model],
                "length": row.length if located else math.nan,
                "low": 0.0 if math.isnan(excluded) else excluded * scale,
                "high": row.length * scale if located else math.inf,
            }
        )
    return pd.DataFrame(rows)
