"""Score over the number of examples: curves, and the examples that one method saves over another.

The number of a run's examples is in the name of its task (`pocket_boolq:n100:seed1`, of which
`seed1` is the draw), or in its variant, where a method only shows examples (`k=4`).
"""

import math

import numpy as np
import pandas as pd

from spjax.analysis import resampling, statistics
from spjax.analysis.resampling import Sample

REPLICATES = 1000
_EXAMPLES, _DRAW, _SHOWN = r":n(\d+)", r":seed(\d+)", r"\bk=(\d+)"


def curves(results: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Returns mean over tasks and its interval of each line and model by number of examples.

    Args:
      results: the rows of results.csv. Runs of the same number and another draw of examples count
        as seeds.

    Returns:
      Columns as `statistics.Suite.cells`, and `examples`, `tasks` (joined by spaces), `majority`
      and `ceiling`; ordered by line, model and examples. Runs on all examples are left out, unless
      all are: then `examples` is missing. And notes for the reader.
    """
    rows = _counted(statistics.checked(results))
    parts, notes = [], []
    for count, part in rows.groupby("examples", dropna=rows["examples"].notna().any()):
        suite = statistics.suite(statistics.main_runs(part))
        facts = {"tasks": " ".join(suite.tasks), "majority": suite.majority}
        parts.append(suite.cells.assign(examples=count, ceiling=suite.ceiling, **facts))
        where = "" if pd.isna(count) else f"{count:.0f} examples: "
        notes += [where + note for note in suite.notes]
    cells = pd.concat(parts, ignore_index=True)
    order = ["line", "model_parameters", "examples"]
    return cells.sort_values(order, ignore_index=True), notes


def by_seed(results: pd.DataFrame) -> dict[tuple[str, str], pd.DataFrame]:
    """Returns suite scores in percent for each model and line: a row a seed, a column a count.

    Args:
      results: as in `curves`.
    """
    parts = []
    for count, part in _counted(statistics.checked(results)).groupby("examples"):
        runs = statistics.main_runs(part)
        scores = runs.groupby(["model", "line", "seed", "task"])[statistics.SCORE].mean()
        means = scores.unstack("task").mean(axis=1, skipna=False)
        parts.append(means.rename(int(count)))
    table = pd.concat(parts, axis=1)
    return {key: part.droplevel([0, 1]) for key, part in table.groupby(level=["model", "line"])}


def advantage(more: pd.DataFrame, less: pd.DataFrame) -> tuple[float, float, float]:
    """Returns the examples `more` saves over `less`, as in Le Scao & Rush 2021, section 4.

    Each curve is the mean over seeds, and never falls: a score reached with fewer examples counts
    for all larger numbers. At a given score one curve needs so many examples more than the other;
    this is averaged over all scores that both reach, and is thus the area between the curves over
    the height of that window.

    Args:
      more: scores in percent, a row for each seed, a column for each number of examples.
      less: likewise; its numbers of examples may be others.

    Returns:
      Examples saved and their 95 % interval over seeds, by `resampling`. All are NaN where the
      windows do not meet, and the interval where a number of examples has a single seed or they
      do not meet in one replicate of twenty.
    """
    more, less = more.dropna(axis=1, how="all"), less.dropna(axis=1, how="all")
    counts = more.columns.to_numpy(float), less.columns.to_numpy(float)
    seeds = sorted({*more.index, *less.index})
    both = pd.concat([more.reindex(seeds), less.reindex(seeds)], axis=1)
    sample = Sample(both.to_numpy(float).T[:, None, None, :])
    estimates = [sample.estimate(place) for place in range(both.shape[1])]
    means = np.array([[estimate.value for estimate in estimates if estimate]])
    value = float(_between(*counts, means)[0])
    if math.isnan(value):
        return value, math.nan, math.nan
    replicates = resampling.draws([each for each in estimates if each], REPLICATES)
    saved_R = _between(*counts, replicates)
    known = saved_R[~np.isnan(saved_R)]
    if len(known) < resampling.CONFIDENCE * len(saved_R):
        return value, math.nan, math.nan
    tail = (1 - resampling.CONFIDENCE) / 2
    low, high = np.quantile(known, [tail, 1 - tail])
    return value, float(low), float(high)


def _between(x_more: np.ndarray, x_less: np.ndarray, scores_RC: np.ndarray) -> np.ndarray:
    """Returns the mean distance of two curves whose scores stand beside each other in each row."""
    distances = []
    for scores_C in scores_RC:
        y_more = np.maximum.accumulate(scores_C[: len(x_more)])
        y_less = np.maximum.accumulate(scores_C[len(x_more) :])
        low, high = max(y_more[0], y_less[0]), min(y_more[-1], y_less[-1])
        saved = _area(x_less, y_less, low, high) - _area(x_more, y_more, low, high)
        distances.append(saved / (high - low) if high > low else math.nan)
    return np.array(distances)


def _area(x: np.ndarray, y: np.ndarray, low: float, high: float) -> float:
    """Integrates x over y from `low` to `high`, for a broken line whose y never falls."""
    area = 0.0
    for x0, x1, y0, y1 in zip(x, x[1:], y, y[1:]):
        start, end = max(y0, low), min(y1, high)
        if end > start:
            middle = ((start + end) / 2 - y0) / (y1 - y0)
            area += (end - start) * (x0 + middle * (x1 - x0))
    return area


def _counted(results: pd.DataFrame) -> pd.DataFrame:
    """Adds the column `examples`; removes the number and the draw from `task` and `init`."""
    task, init = results["task"], results["init"]
    shown = pd.to_numeric(init.str.extract(_SHOWN)[0])
    drawn = pd.to_numeric(task.str.extract(_DRAW)[0])
    return results.assign(
        examples=shown.fillna(pd.to_numeric(task.str.extract(_EXAMPLES)[0])),
        seed=drawn.fillna(results["seed"]).astype(int),
        task=task.str.partition(":")[0],
        init=init.str.replace(_SHOWN, "", regex=True).str.strip(),
    )
