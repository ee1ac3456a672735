"""The law that the needs of a prompt's capacity follow, among rivals.

A law says what the need is made of. Each of `LAWS` is fitted by least squares to the logarithms of
the needs of some cells, and judged by its prediction of the others: those of the widest model and
those of the largest K, which no law has seen. Models of one ladder are fitted together, since their
words and labels are the same. A cell whose need lies outside of the lengths tried has none to fit
to, and small K need a token or two for anything: `Fits.choices` says what other choices of the
cells give.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from spjax.analysis.capacity import Needs, jackknife_error
from spjax.analysis.resampling import CONFIDENCE

FEWEST_CELLS = 4  # that a law is fitted to

Interval = tuple[float, float, float]  # estimate, lower and upper end


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
        """Fits the law to soft tokens of cells, each row for itself.

        Returns:
          The free numbers, [rows, numbers]: the logarithm of c and exponents, or c and b.
        """
        if self.offset:  # least squares of relative errors, which is linear
            ratio = np.exp(self.known(cells))
            designs = np.stack([ratio, np.ones_like(ratio)], axis=1) / tokens_RC[..., None]
            fitted = np.full((len(designs), 2), math.nan)  # where a need is not known
            for row in np.flatnonzero(np.isfinite(designs).all(axis=(1, 2))):
                fitted[row] = np.linalg.lstsq(designs[row], np.ones(len(designs[row])))[0]
            return fitted
        targets_RC = np.log(tokens_RC) - self.known(cells)
        return np.linalg.lstsq(self._design(cells), targets_RC.T)[0].T

    def predict(self, cells: pd.DataFrame, fitted_RF: np.ndarray) -> np.ndarray:
        """Returns soft tokens of cells, [rows, cells], from what `fit` returned."""
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
class Estimates:
    """Free numbers of `MAIN` and `EXPONENTS`, from one choice of the cells.

    Attributes:
      cells: the choice.
      count: of cells.
      constant: c of `MAIN`, trained numbers for each item.
      exponents: a and b of "c K^a / D^b".
      prediction: the error of `MAIN` on the cells that it is not fitted to, as a factor.
    """

    cells: str
    count: int
    constant: Interval
    exponents: Mapping[str, Interval]
    prediction: Interval


@dataclasses.dataclass(frozen=True)
class Fits:
    """Laws fitted to some cells of one ladder, form and budget, and their predictions of others.

    Attributes:
      ladder: of the models.
      form: of the task.
      steps: of the runs.
      draws: of the words; the fewest that a cell has.
      table: a row a law: `law`, `parameters`, `error` (of each fitted cell, predicted from the
        others) and `held_out` (of the cells that no law has seen), both as factors: the exponential
        of the root mean square of logarithms of prediction over need.
      chosen: the law of the least `error`.
      choices: estimates from all cells with a need, then from other choices of the cells.
      noise: the part of the error of predictions that the needs themselves have from the draws, as
        a factor.
      offset: c and b of "c K / D + b", from all cells with a need.
      fitted: number of cells that laws were fitted to.
      held_out: likewise of those predicted.
      censored: models and K without a need: it lies outside of the amounts tried, or a run lacks.
      clipped: cells with a need and an interval that reaches outside of the amounts tried: those of
        the fit are too narrow then.
    """

    ladder: str
    form: str
    steps: int
    draws: int
    table: pd.DataFrame
    chosen: str
    choices: tuple[Estimates, ...]
    noise: float
    offset: Mapping[str, Interval]
    fitted: int
    held_out: int
    censored: tuple[str, ...]
    clipped: int

    @property
    def constant(self) -> Interval:
        """Returns c of `MAIN` from all cells with a need."""
        return self.choices[0].constant

    @property
    def exponents(self) -> Mapping[str, Interval]:
        """Returns a and b from all cells with a need."""
        return self.choices[0].exponents

    @property
    def prediction(self) -> Interval:
        """Returns the error of `MAIN` on cells that it is not fitted to, as a factor."""
        return self.choices[0].prediction


def fits(of_study: Needs, confidence: float = CONFIDENCE) -> list[Fits]:
    """Returns the fits of every ladder, form and budget with enough cells for them.

    A form whose models have several cells for one K, with other learning rates or starts, has none.
    """
    table = of_study.table
    groups = table[table["width"].notna()].groupby(["ladder", "form", "steps"], sort=True).groups
    results = []
    for index in groups.values():
        rows = table.index.get_indexer(index)
        cells = _Cells(table.iloc[rows], of_study.without_UC[:, rows])
        if cells.can_be_fitted():
            results.append(_fits(cells, confidence))
    return results


def of_most_cells(fitted: Iterable[Fits]) -> dict[str, Fits]:
    """Returns the fit of each ladder to the most cells; of as many, that of the most steps."""
    ordered = sorted(fitted, key=lambda fit: (fit.fitted + fit.held_out, fit.steps))
    return {fit.ladder: fit for fit in ordered}


class _Cells:
    """Cells of one ladder, form and budget, with and without a need.

    Attributes:
      table: rows of `Needs.table`.
      without_UC: as of `Needs`.
      unseen_C: whether laws are not fitted to a cell: that of the widest model or the largest K.
      inside_C: whether it has a need.
    """

    def __init__(self, table: pd.DataFrame, without_UC: np.ndarray) -> None:
        self.table, self.without_UC = table, without_UC
        widths, items = table["width"].to_numpy(), table["items"].to_numpy()
        self.unseen_C = (widths == widths.max()) | (items == items.max())
        need = table["numbers"].to_numpy()
        self.inside_C = (need > 0) & np.isfinite(need)

    def can_be_fitted(self) -> bool:
        """Returns whether there are enough cells, no two of one model and K."""
        several = self.table["width"].nunique() > 1 and self.table["items"].nunique() > 1
        is_alike = self.table.duplicated(["model", "items"]).any()
        return bool(several and not is_alike and self.has_enough(self.inside_C))

    def has_enough(self, chosen_C: np.ndarray) -> bool:
        """Returns whether laws can be fitted to some of these cells and predict another."""
        fitted, predicted = chosen_C & ~self.unseen_C, chosen_C & self.unseen_C
        several = self.table.loc[fitted, ["width", "items"]].nunique().min() > 1  # for exponents
        return bool(several and fitted.sum() >= FEWEST_CELLS and predicted.any())

    def choices(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Returns chosen cells and the trained numbers of all, by the name of the choice."""
        need = self.table["numbers"].to_numpy()
        chosen = {"all with a need": (self.inside_C, need)}
        items = self.table["items"].to_numpy()
        for least in sorted(set(items[self.inside_C]))[1:3]:
            chosen[f"K of {least} and more"] = (self.inside_C & (items >= least), need)
        bounds = need.copy()
        bounds[need == 0] = self.table["least"].to_numpy()[need == 0]
        bounds[np.isinf(need)] = self.table["most"].to_numpy()[np.isinf(need)]
        if not np.array_equal(need, bounds, equal_nan=True):
            name = "all, those out of reach at the end of what was tried"
            chosen[name] = (~np.isnan(bounds), bounds)
        return {name: each for name, each in chosen.items() if self.has_enough(each[0])}


def _fits(cells: _Cells, confidence: float) -> Fits:
    table, inside, unseen = cells.table, cells.inside_C, cells.unseen_C
    fitted, predicted = table[inside & ~unseen], table[inside & unseen]
    widths = table["width"].to_numpy()
    tokens_C = table["numbers"].to_numpy() / widths
    rows = []
    for law in LAWS:
        logs = [_left_out(law, fitted, tokens_C[inside & ~unseen], i) for i in range(len(fitted))]
        error = _factor(logs)
        if math.isnan(error):
            continue  # such as bits of a text without labels
        free = law.fit(fitted, tokens_C[None, inside & ~unseen])
        of_others = np.log(law.predict(predicted, free)[0] / tokens_C[inside & unseen])
        row = {"law": law.text, "parameters": law.parameters, "error": float(error)}
        rows.append(row | {"held_out": float(_factor(of_others))})
    laws = pd.DataFrame(rows)
    drawn = cells.without_UC[:, inside & unseen]
    needs = table["numbers"].to_numpy()[inside & unseen]
    is_known = np.isfinite(drawn).all(axis=1).sum() > 1
    noise = jackknife_error(np.log(needs), np.log(drawn)) if is_known else [math.nan]
    fitted_to = table[inside]
    choices = cells.choices()
    estimates = [
        _estimates(name, cells, chosen, numbers, confidence)
        for name, (chosen, numbers) in choices.items()
    ]
    first = table.iloc[0]
    return Fits(
        ladder=first["ladder"],
        form=first["form"],
        steps=int(first["steps"]),
        draws=int(table["draws"].min()),
        table=laws,
        chosen=str(laws.loc[laws["error"].idxmin(), "law"]),
        choices=tuple(estimates),
        noise=float(_factor(noise)),
        offset=_free(OFFSET, {"c": 0, "b": 1}, cells, inside, tokens_C, confidence),
        fitted=len(fitted),
        held_out=len(predicted),
        censored=tuple(f"{row.model} K={row.items}" for row in table[~inside].itertuples()),
        clipped=int(((fitted_to["low"] == 0) | np.isinf(fitted_to["high"])).sum()),
    )


def _free(
    law: Law,
    places: Mapping[str, int],
    cells: _Cells,
    chosen_C: np.ndarray,
    tokens_C: np.ndarray,
    confidence: float,
) -> dict[str, Interval]:
    """Returns free numbers of a law that is fitted to chosen cells, by name."""
    rows, widths = cells.table[chosen_C], cells.table["width"].to_numpy()[chosen_C]
    value = law.fit(rows, tokens_C[None, chosen_C])[0]
    without = law.fit(rows, _without(cells, chosen_C, tokens_C)[:, chosen_C] / widths)
    return {x: interval(value[i], without[:, i], confidence) for x, i in places.items()}


def _without(cells: _Cells, chosen_C: np.ndarray, tokens_C: np.ndarray) -> np.ndarray:
    """Returns trained numbers with each draw left out; those of a bound stay what they are."""
    numbers_C = tokens_C * cells.table["width"].to_numpy()
    is_bound = chosen_C & ~cells.inside_C & np.isfinite(cells.without_UC)
    return np.where(is_bound, numbers_C, cells.without_UC)


def _estimates(
    name: str, cells: _Cells, chosen_C: np.ndarray, numbers_C: np.ndarray, confidence: float
) -> Estimates:
    widths = cells.table["width"].to_numpy()
    tokens_C = numbers_C / widths
    without_UC = _without(cells, chosen_C, tokens_C) / widths
    seen, unseen = chosen_C & ~cells.unseen_C, chosen_C & cells.unseen_C

    def prediction(tokens_RC: np.ndarray) -> np.ndarray:
        """Returns the logarithm of the error as a factor."""
        fitted = MAIN.fit(cells.table[seen], tokens_RC[:, seen])
        predicted_RC = MAIN.predict(cells.table[unseen], fitted)
        return np.log(_factor(np.log(predicted_RC / tokens_RC[:, unseen])))

    error = interval(prediction(tokens_C[None])[0], prediction(without_UC), confidence)
    constant = _free(MAIN, {"c": 0}, cells, chosen_C, tokens_C, confidence)["c"]
    return Estimates(
        cells=name,
        count=int(chosen_C.sum()),
        constant=_exp(constant),
        exponents=_free(EXPONENTS, {"a": 1, "b": 2}, cells, chosen_C, tokens_C, confidence),
        prediction=_exp((error[0], max(error[1], 0.0), error[2])),
    )


def _exp(logs: Interval) -> Interval:
    value, low, high = map(math.exp, logs)
    return value, low, high


def _left_out(law: Law, cells: pd.DataFrame, tokens_C: np.ndarray, i: int) -> float:
    """Returns the logarithm of prediction over need of a cell that the law is not fitted to."""
    others = np.arange(len(cells)) != i
    if not np.isfinite(law.known(cells)).all():
        return math.nan
    fitted = law.fit(cells[others], tokens_C[None, others])
    return float(np.log(law.predict(cells.iloc[[i]], fitted)[0, 0] / tokens_C[i]))


def _factor(logs: ArrayLike) -> np.ndarray:
    """Returns the error of predictions as a factor, over the last axis of logarithms."""
    return np.exp(np.sqrt(np.mean(np.square(logs), axis=-1)))


def interval(value: float, without_U: np.ndarray, confidence: float) -> Interval:
    """Returns a statistic and its interval by the jackknife; NaN with a single draw.

    Args:
      value: of the statistic.
      without_U: of it without each draw; NaN without those that some cell lacks.
      confidence: of the interval.
    """
    without_U = without_U[np.isfinite(without_U)]
    if len(without_U) < 2:
        return float(value), math.nan, math.nan
    half = float(stats.t.ppf((1 + confidence) / 2, len(without_U) - 1))
    half *= float(jackknife_error(value, without_U))
    return float(value), float(value) - half, float(value) + half
