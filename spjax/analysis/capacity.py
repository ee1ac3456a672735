"""The trained numbers that hold what a prompt has to carry, and the law that they follow.

The need of a cell (a task of `spjax.data.tasks.capacity_tasks`, a number of items K, a frozen
model) is the least amount of trained numbers at which `THRESHOLD` percent of the items are right:
where the monotone regression of the mean score over the amounts of a study crosses the threshold,
interpolated between two amounts, in logits on a logarithmic axis. For prompt tuning that amount
over the width of the model is a prompt length, P*. Intervals are those of `resampling`: draws of
words, weighted anew and alike in all cells, with Student's stretch.

A law says what the need is made of. Each of `LAWS` is fitted by least squares to the logarithms of
the needs of some cells, and judged by its prediction of the others: those of the widest model and
those of the largest K, which no law has seen.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import optimize, stats

from spjax.analysis import saturation, statistics
from spjax.analysis.resampling import CONFIDENCE, LEVELS, PRETRAINING, SEEDS, TASKS, Sample
from spjax.data.tasks import capacity_tasks

THRESHOLD = 95.0  # percent of the items
REPLICATES = 1000
FEWEST_CELLS = 4  # that a law is fitted to
_SEED = 2305
# Cells are groups of runs that differ in amount, draw and seeds alone.
CELL = ("form", "method", "init", "model_parameters", "model", "steps", "learning_rate", "items")
_AMOUNT = "stored_parameters"
_UNITS = {TASKS: "draw", PRETRAINING: "pretraining_seed", SEEDS: "seed"}


@dataclasses.dataclass(frozen=True)
class Needs:
    """The needs of all cells of a study.

    Attributes:
      table: a row a cell: those of `CELL`, `bits` (K times the bits of a label), `information`
        (K times those that a label rightly told in `threshold` percent of the cases takes), `width`
        (D; NaN where no prompt is tuned), `draws`, `least` and `most` (amounts tried), `numbers`
        (the need; 0 where the least amount is enough, infinite where the largest is not), `low` and
        `high` (its 95 % interval; NaN with a single draw), `beyond` (share of the replicates that
        lie outside of the amounts tried).
      replicates_RC: of `numbers`, those outside moved to the least or largest amount tried; NaN
        with a single draw.
    """

    table: pd.DataFrame
    replicates_RC: np.ndarray


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
      results: rows of results.csv; those of other tasks and of runs without a score are left out.
      threshold: percent of the items that are to be right.

    Raises:
      ValueError: no run is on a task of `capacity_tasks`, or the results lack a column.
    """
    runs = _runs(results)
    runs["information"] = [
        items * information(bits / items, threshold)
        for items, bits in zip(runs["items"], runs["bits"])
    ]
    weights = _Weights(runs)
    rows, replicates = [], []
    for key, part in runs.groupby(list(CELL), sort=True, dropna=False):
        cell = _cell(part, weights, threshold)
        if cell is not None:
            rows.append({**dict(zip(CELL, key)), **cell[0]})
            replicates.append(cell[1])
    if not rows:
        raise ValueError("no cell of the study has every draw at any amount of trained numbers.")
    return Needs(pd.DataFrame(rows), np.stack(replicates, axis=1))


def _runs(results: pd.DataFrame) -> pd.DataFrame:
    missing = {_AMOUNT, "steps", "learning_rate"} - set(results.columns)
    if missing:
        raise ValueError(f"the results lack the columns {sorted(missing)}.")
    runs = results[_is_capacity(results["task"]) & results[statistics.SCORE].notna()]
    runs = runs[runs[_AMOUNT] > 0].drop_duplicates("key" if "key" in runs.columns else None)
    if runs.empty:
        kinds = ", ".join(capacity_tasks.KINDS)
        raise ValueError(f"no run has a score on a task of a prompt's capacity: {kinds}.")
    runs = runs.copy()
    parsed = [capacity_tasks.parse(name)[0] for name in runs["task"]]
    runs["items"] = [task.items for task in parsed]
    runs["draw"] = [task.draw for task in parsed]
    runs["bits"] = [task.items * math.log2(max(task.labels, 2)) for task in parsed]
    runs["form"] = [form(task) for task in parsed]
    lengths = runs["prompt_length"].where(runs["method"] == statistics.PROMPT_TUNING)
    runs["width"] = runs[_AMOUNT] / lengths.where(lengths > 0)
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
      bits: of a label, the binary logarithm of the number of labels.
      threshold: percent of the cases.
    """
    wrong = 1 - threshold / 100
    labels = 2.0**bits
    if wrong >= 1 - 1 / labels:
        return 0.0
    of_errors = float(stats.entropy([wrong, 1 - wrong], base=2)) + wrong * math.log2(labels - 1)
    return bits - of_errors


class _Weights:
    """Normal weights of draws and seeds for each replicate, the same in every cell."""

    def __init__(self, runs: pd.DataFrame) -> None:
        rng = np.random.default_rng(_SEED)
        self.places: dict[str, dict[Any, int]] = {}
        self._weights: dict[str, np.ndarray] = {}
        for level, column in _UNITS.items():
            values = sorted(set(runs[column]))
            self.places[level] = {value: place for place, value in enumerate(values)}
            self._weights[level] = rng.standard_normal((REPLICATES, len(values)))
        self._uniform = rng.random(REPLICATES)

    def of(self, level: str, values: Sequence[Any]) -> np.ndarray:
        """Returns weights [replicates, values], with Student's stretch for their number."""
        chosen = self._weights[level][:, [self.places[level][value] for value in values]]
        degrees = len(values) - 1
        return chosen * np.sqrt(degrees / stats.chi2.ppf(self._uniform, degrees))[:, None]


def _cell(
    runs: pd.DataFrame, weights: _Weights, threshold: float
) -> tuple[dict[str, Any], np.ndarray] | None:
    """Returns need and replicates of a cell, None where no amount has all draws."""
    axes = [_AMOUNT, *_UNITS.values()]
    values = [sorted(set(runs[column])) for column in axes]
    scores = np.full([len(value) for value in values], np.nan)
    for row in runs[[*axes, statistics.SCORE]].itertuples(index=False):
        place = tuple(value.index(x) for value, x in zip(values, row))
        if not math.isnan(scores[place]):
            raise ValueError(
                f"two runs of {runs.iloc[0]['form']} on {runs.iloc[0]['model']} have {row[0]:,.0f} "
                "trained numbers and the same draw and seeds: they differ in a setting that a need "
                "is not told for, such as the batch size. Judge their studies apart."
            )
        scores[place] = row[-1]
    estimates = [Sample(scores).estimate(i) for i in range(len(scores))]
    known = [(amount, each) for amount, each in zip(values[0], estimates) if each is not None]
    if not known:
        return None
    amounts = np.array([amount for amount, _ in known], float)
    means = np.array([each.value for _, each in known])
    level = next((x for x in LEVELS if x in _UNITS and known[0][1].units[x] > 1), None)
    need = crossing(amounts, means, threshold)
    replicates = np.full(REPLICATES, np.nan)
    low = high = beyond = math.nan
    if level is not None:
        units = values[1 + list(_UNITS).index(level)]
        shape = (len(known), len(units))
        deviations = [each.components.get((level, 0)) for _, each in known]
        deviations_LU = np.array(
            [np.zeros(shape[1]) if x is None else x.deviations_U for x in deviations]
        )
        deviations_LU = deviations_LU.reshape(shape)
        drawn_RL = np.clip(means + weights.of(level, units) @ deviations_LU.T, 0, 100)
        drawn = np.array([crossing(amounts, row, threshold) for row in drawn_RL])
        tail = (1 - CONFIDENCE) / 2
        low, high = np.quantile(drawn, [tail, 1 - tail], method="higher")
        beyond = float(np.mean((drawn == 0) | np.isinf(drawn)))
        replicates = np.clip(drawn, amounts[0], amounts[-1])
    first = runs.iloc[0]
    row = {
        "bits": first["bits"],
        "information": first["information"],
        "width": first["width"],
        "draws": len(values[1]),
        "least": amounts[0],
        "most": amounts[-1],
        "numbers": need,
        "low": float(low),
        "high": float(high),
        "beyond": beyond,
    }
    return row, replicates


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
    low, at, high = (_logit(score) for score in (fitted[i - 1], threshold, fitted[i]))
    share = (at - low) / (high - low)
    logs = np.log(np.asarray(amounts, float)[i - 1 : i + 1])
    return float(np.exp(logs[0] + share * (logs[1] - logs[0])))


def _logit(score: float) -> float:
    """Returns the logit of a score in percent; half a point from the ends is added."""
    return math.log((score + 0.5) / (100.5 - score))


@dataclasses.dataclass(frozen=True)
class Law:
    """A form of the need in soft tokens.

    Attributes:
      text: with free numbers as small letters; K is the number of items, D the width, N the
        parameters of the model, B the bits of the labels.
      known: logarithm of the part without free numbers, of a table of cells.
      free: functions of such a table whose logarithms get an exponent each.
      offset: whether a constant number of soft tokens is added; then nothing else is free.
    """

    text: str
    known: Callable[[pd.DataFrame], np.ndarray]
    free: tuple[Callable[[pd.DataFrame], np.ndarray], ...] = ()
    offset: bool = False

    @property
    def parameters(self) -> int:
        """Returns the number of free numbers."""
        return 1 + len(self.free) + self.offset

    def fit(self, cells: pd.DataFrame, tokens_RC: np.ndarray) -> np.ndarray:
        """Fits the law to soft tokens of cells, of each replicate for itself.

        Returns:
          The free numbers, [replicates, numbers]: the logarithm of c and exponents, or c and b.
        """
        if self.offset:  # least squares of relative errors, which is linear
            ratio = np.exp(self.known(cells))
            designs = np.stack([ratio, np.ones_like(ratio)], axis=1) / tokens_RC[..., None]
            if np.isnan(designs).any():  # of replicates of a single draw
                return np.full((len(designs), 2), np.nan)
            return np.stack([np.linalg.lstsq(x, np.ones(len(x)))[0] for x in designs])
        targets_RC = np.log(tokens_RC) - self.known(cells)
        return np.linalg.lstsq(self._design(cells), targets_RC.T)[0].T

    def predict(self, cells: pd.DataFrame, fitted_RF: np.ndarray) -> np.ndarray:
        """Returns soft tokens of cells, [replicates, cells], from what `fit` returned."""
        if self.offset:
            ratio = np.exp(self.known(cells))
            return np.maximum(fitted_RF[:, :1] * ratio + fitted_RF[:, 1:], 1e-3)
        return np.exp(self.known(cells) + fitted_RF @ self._design(cells).T)

    def _design(self, cells: pd.DataFrame) -> np.ndarray:
        columns = [np.ones(len(cells)), *(function(cells) for function in self.free)]
        return np.stack(columns, axis=1)


def _log(column: str) -> Callable[[pd.DataFrame], np.ndarray]:
    return lambda cells: np.log(cells[column].to_numpy(float))


_K, _B, _D, _N = map(_log, ("items", "bits", "width", "model_parameters"))
MAIN = Law("c K / D", lambda cells: _K(cells) - _D(cells))
OFFSET = Law("c K / D + b", MAIN.known, offset=True)
EXPONENTS = Law("c K^a / D^b", lambda cells: 0 * _K(cells), (_K, lambda cells: -_D(cells)))
LAWS = (
    MAIN,
    Law("c B / D", lambda cells: _B(cells) - _D(cells)),
    Law("c K", _K),
    Law("c K / N", lambda cells: _K(cells) - _N(cells)),
    OFFSET,
    Law("c K / D^b", _K, (lambda cells: -_D(cells),)),
    Law("c K / N^b", _K, (lambda cells: -_N(cells),)),
    Law("c K^a / D", lambda cells: -_D(cells), (_K,)),
    EXPONENTS,
)


@dataclasses.dataclass(frozen=True)
class Fits:
    """Laws fitted to some cells of one form and budget, and their predictions of the others.

    Attributes:
      form: of the task.
      steps: of the runs.
      table: a row a law: `law`, `parameters`, `error` (of each fitted cell, predicted from the
        others) and `held_out` (of the cells that no law has seen), both as factors: the exponential
        of the root mean square of logarithms of prediction over need.
      chosen: the law of the least `error`.
      constant: c of `MAIN`, trained numbers for each item, from all cells, with its interval.
      prediction: the error of `MAIN` on the cells that it is not fitted to, as a factor, with its
        interval.
      noise: the part of that error that the needs themselves have from the draws, as a factor.
      exponents: a and b of "c K^a / D^b" from all cells, each with its interval.
      offset: c and b of "c K / D + b", likewise.
      fitted: number of cells that laws were fitted to.
      held_out: likewise of those predicted.
      censored: cells whose need lies outside of the amounts tried, which no law is fitted to.
      clipped: cells fitted to with an interval that reaches outside of them: those of the fit are
        too narrow then.
    """

    form: str
    steps: int
    table: pd.DataFrame
    chosen: str
    constant: tuple[float, float, float]
    prediction: tuple[float, float, float]
    noise: float
    exponents: Mapping[str, tuple[float, float, float]]
    offset: Mapping[str, tuple[float, float, float]]
    fitted: int
    held_out: int
    censored: int
    clipped: int


def fits(of_study: Needs, confidence: float = CONFIDENCE) -> list[Fits]:
    """Returns the fits of every form and budget with enough cells for them.

    A form whose models have several cells for one K, with other learning rates, has no fit.
    """
    table = of_study.table
    prompts = table["width"].notna()
    groups = table[prompts].groupby(["form", "steps"], sort=True).groups
    results = []
    for (name, steps), index in groups.items():
        rows = table.index.get_indexer(index)
        fitted = _fits(
            str(name), int(steps), table.iloc[rows], of_study.replicates_RC[:, rows], confidence
        )
        if fitted is not None:
            results.append(fitted)
    return results


def _fits(
    name: str, steps: int, cells: pd.DataFrame, replicates_RC: np.ndarray, confidence: float
) -> Fits | None:
    inside = (cells["numbers"] > 0).to_numpy() & np.isfinite(cells["numbers"]).to_numpy()
    censored = int((~inside).sum())
    cells, replicates_RC = cells[inside], replicates_RC[:, inside]
    widths = cells["width"].to_numpy()
    tokens_C = cells["numbers"].to_numpy() / widths
    unseen = (widths == widths.max(initial=0)) | (cells["items"] == cells["items"].max()).to_numpy()
    alike = cells.duplicated(["model", "items"]).any()
    several = not alike and cells["width"].nunique() > 1 and cells["items"].nunique() > 1
    if not several or (~unseen).sum() < FEWEST_CELLS:
        return None
    seen = cells[~unseen]

    def held_out(law: Law, tokens_RC: np.ndarray) -> np.ndarray:
        predicted_RC = law.predict(cells[unseen], law.fit(seen, tokens_RC[:, ~unseen]))
        return _factor(np.log(predicted_RC / tokens_RC[:, unseen]))

    rows = []
    for law in LAWS:
        errors = [_left_out(law, seen, tokens_C[~unseen], i) for i in range(len(seen))]
        row = {"law": law.text, "parameters": law.parameters, "error": float(_factor(errors))}
        rows.append(row | {"held_out": float(held_out(law, tokens_C[None])[0])})
    table = pd.DataFrame(rows)
    drawn_RC, point = replicates_RC / widths, tokens_C[None]
    noise_RC = np.log(drawn_RC[:, unseen] / tokens_C[unseen])

    def free(law: Law, names: Mapping[str, int]) -> dict[str, tuple[float, float, float]]:
        values, drawn = law.fit(cells, point)[0], law.fit(cells, drawn_RC)
        return {name: _interval(values[i], drawn[:, i], confidence) for name, i in names.items()}

    return Fits(
        form=name,
        steps=steps,
        table=table,
        chosen=str(table.loc[table["error"].idxmin(), "law"]),
        constant=_interval(
            np.exp(MAIN.fit(cells, point)[0, 0]),
            np.exp(MAIN.fit(cells, drawn_RC)[:, 0]),
            confidence,
        ),
        noise=float(_factor(noise_RC.ravel())),
        prediction=_interval(held_out(MAIN, point)[0], held_out(MAIN, drawn_RC), confidence),
        exponents=free(EXPONENTS, {"a": 1, "b": 2}),
        offset=free(OFFSET, {"c": 0, "b": 1}),
        fitted=int((~unseen).sum()),
        held_out=int(unseen.sum()),
        censored=censored,
        clipped=int((cells["beyond"] > (1 - CONFIDENCE) / 2).sum()),
    )


def _left_out(law: Law, cells: pd.DataFrame, tokens_C: np.ndarray, i: int) -> float:
    """Returns the logarithm of prediction over need of a cell that the law is not fitted to."""
    others = np.arange(len(cells)) != i
    fitted = law.fit(cells[others], tokens_C[None, others])
    return float(np.log(law.predict(cells.iloc[[i]], fitted)[0, 0] / tokens_C[i]))


def _factor(logs: ArrayLike) -> np.ndarray:
    """Returns the error of predictions as a factor, over the last axis of logarithms."""
    return np.exp(np.sqrt(np.mean(np.square(logs), axis=-1)))


def _interval(value: float, drawn_R: np.ndarray, confidence: float) -> tuple[float, float, float]:
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn_R, [tail, 1 - tail])
    return float(value), float(low), float(high)


def effective_items(results: pd.DataFrame, constant: float) -> pd.DataFrame:
    """Returns how many associations would need the prompts at which the gains of tasks level off.

    Args:
      results: rows of results.csv, of any tasks.
      constant: c, trained numbers for each association (`Fits.constant`).

    Returns:
      A row for each model and task: `model`, `model_parameters`, `task`, `width`, `length` (P* of
      `saturation`; NaN where none is shown), `low` and `high` (P* D / c at the ends of its 90 %
      interval; infinite where the study has not located it).
    """
    prompts = results[results["method"] == statistics.PROMPT_TUNING]
    width = prompts["trainable_parameters"] / prompts["prompt_length"]
    width_of = width.groupby(prompts["model"]).median()
    table = saturation.of_results(results)
    if table.empty:
        return table
    rows = []
    for row in table[table["task"] != ""].itertuples():
        located = row.length is not None and row.length < row.longest
        scale = width_of[row.model] / constant
        rows.append(
            {
                "model": row.model,
                "model_parameters": row.model_parameters,
                "task": row.task,
                "width": width_of[row.model],
                "length": row.length if located else math.nan,
                "low": row.shortest_possible * scale,
                "high": row.length * scale if located else math.inf,
            }
        )
    return pd.DataFrame(rows)
