"""The text on a prompt's capacity: needs, laws, verdicts, budgets and methods."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from spjax.analysis import capacity
from spjax.analysis.capacity import Fits, Needs
from spjax.analysis.criteria import ALPHA, CANNOT_TELL, CONTRADICTED, HOLDS, NOT_MEASURED

# Margins, stated before any study that is judged by them.
EXPONENT = 0.25  # an exponent within this of 1 is a proportion
FACTOR = 1.5  # a prediction within this factor is right
_BYTES = 4  # of a stored number
_MOST_DRAWS = 100  # that are worth naming
_SAME_BUT_RATE = [name for name in capacity.CELL if name != "learning_rate"]
_SAME_BUT_START = [name for name in _SAME_BUT_RATE if name != "init"]
DOUBLED = 0.1  # a need that twice the steps change by less is that of the prompt, not of the budget


@dataclasses.dataclass(frozen=True)
class Verdict:
    """One of the four values of `criteria.VERDICTS`, with the estimate that it rests on."""

    statement: str
    verdict: str
    reason: str


def judge(of_study: Needs) -> list[Verdict]:
    """Returns the verdicts on the law, from the fits of associations with the most steps.

    A statement holds where its interval lies within the bounds, and is contradicted where it lies
    out of them; intervals are as wide as to hold for all statements together (Bonferroni).
    """
    confidence = 1 - ALPHA / 4
    draws = int(of_study.table["draws"].max())
    fitted = [x for x in capacity.fits(of_study, confidence) if x.form == "associations"]
    best = max(fitted, key=lambda x: x.steps, default=None)
    bounds = f"to be within {EXPONENT:g} of 1"
    verdicts = []
    for letter, text in (
        ("a", "the need grows in proportion to the items, K"),
        ("b", "the soft tokens needed fall in proportion to the width, D"),
    ):
        interval = best.exponents[letter] if best else None
        inside = (1 - EXPONENT, 1 + EXPONENT)
        what = f"exponent {letter} of c K^a / D^b"
        verdicts.append(_judged(text, what, interval, inside, bounds, draws))
    error = best.prediction if best else None
    verdicts.append(
        _judged(
            "c K / D predicts models and K that it was not fitted to",
            "error as a factor",
            error,
            (1.0, FACTOR),
            f"to be at most {FACTOR:g}",
            draws,
        )
    )
    by_bits = _judged(
        "items count, not the bits of their labels",
        "change of the need with few labels, over the change of the bits (in logarithms)",
        _share_of_change(of_study, "bits", confidence),
        (-math.inf, 0.5),
        "to be below 0.5: 0 is items alone, 1 bits alone",
        draws,
    )
    if share := _share_of_change(of_study, "information", confidence):
        text = f"over the change of the bits that {capacity.THRESHOLD:g} % right take: "
        by_bits = dataclasses.replace(by_bits, reason=f"{by_bits.reason}; {text}{_shown(share)}")
    verdicts.append(by_bits)
    return verdicts


def _judged(
    statement: str,
    what: str,
    interval: tuple[float, float, float] | None,
    bounds: tuple[float, float],
    wanted: str,
    draws: int,
) -> Verdict:
    if interval is None:
        return Verdict(statement, NOT_MEASURED, "too few cells")
    value, low, high = interval
    reason = f"{what} {value:.2f} [{low:.2f}, {high:.2f}], {wanted}"
    if math.isnan(low):
        return Verdict(statement, CANNOT_TELL, f"{reason}; a second draw would tell the interval")
    if bounds[0] <= low and high <= bounds[1]:
        return Verdict(statement, HOLDS, reason)
    if high < bounds[0] or low > bounds[1]:
        return Verdict(statement, CONTRADICTED, reason)
    settling = _draws_that_settle(interval, bounds, draws)
    return Verdict(statement, CANNOT_TELL, f"{reason}; {settling}")


def _draws_that_settle(
    interval: tuple[float, float, float], bounds: tuple[float, float], draws: int
) -> str:
    """Returns how many draws would settle a verdict if the estimate stayed.

    The half of an interval on the side of a bound shrinks with the root of the number of draws.
    """
    value, low, high = interval
    needed = 1.0
    for bound in bounds:
        if low < bound < high:
            half = high - value if bound > value else value - low
            needed = max(needed, (half / (bound - value)) ** 2 if bound != value else math.inf)
    if needed > _MOST_DRAWS / draws:
        return f"more than {_MOST_DRAWS} draws would be needed if the estimate stays"
    return f"{math.ceil(draws * needed)} draws would settle it if the estimate stays"


def _share_of_change(
    of_study: Needs, column: str, confidence: float
) -> tuple[float, float, float] | None:
    """Returns how much of the change of a column the need follows, over pairs of equal K and model.

    The pairs have a label for each item, and few labels.
    """
    table = of_study.table
    inside = (table["numbers"] > 0) & np.isfinite(table["numbers"])
    plain = table["form"] == "associations"
    few = table["form"].str.fullmatch(r"associations:l\d+")
    key = ["method", "init", "model", "steps", "items"]
    pairs = [
        (i, j)
        for i in table.index[inside & plain]
        for j in table.index[inside & few]
        if (table.loc[i, key] == table.loc[j, key]).all()
    ]
    if not pairs:
        return None
    first, second = (list(side) for side in zip(*pairs))
    bits = np.log(table.loc[second, column].to_numpy() / table.loc[first, column].to_numpy())

    def share(numbers_RC: np.ndarray) -> np.ndarray:
        change = np.log(numbers_RC[:, second] / numbers_RC[:, first])
        return change @ bits / (bits @ bits)

    value = share(table["numbers"].to_numpy()[None])[0]
    tail = (1 - confidence) / 2
    low, high = np.quantile(share(of_study.replicates_RC), [tail, 1 - tail])
    return float(value), float(low), float(high)


def budgets(of_study: Needs) -> pd.DataFrame:
    """Returns how needs change with the steps of training, a row a cell and doubling.

    Columns: those of `capacity.CELL` but for steps, `steps` (after), `times` (over those before),
    `change` (the need after over before, less one), and `limit`: the trained numbers that the need
    falls to as its logarithm falls by a constant factor less with each budget; NaN with fewer than
    three budgets, or where it does not slow down.
    """
    table = of_study.table
    key = [name for name in capacity.CELL if name != "steps"]
    rows = []
    for values, part in table.groupby(key, sort=True, dropna=False):
        part = part[(part["numbers"] > 0) & np.isfinite(part["numbers"])].sort_values("steps")
        logs, steps = np.log(part["numbers"].to_numpy(float)), part["steps"].to_numpy()
        for i in range(1, len(part)):
            fall, limit = logs[i] - logs[i - 1], math.nan
            if i > 1:
                slowing = fall / (logs[i - 1] - logs[i - 2]) if logs[i - 1] != logs[i - 2] else 1.0
                limit = (
                    math.exp(logs[i] + fall * slowing / (1 - slowing))
                    if 0 <= slowing < 1
                    else limit
                )
            change = {"times": steps[i] / steps[i - 1], "change": math.expm1(fall), "limit": limit}
            rows.append({**dict(zip(key, values)), "steps": steps[i], **change})
    return pd.DataFrame(rows)


def markdown(results: pd.DataFrame) -> str:
    """Returns the text, "" where no run is on a task of `capacity_tasks`."""
    if not capacity.has_tasks(results):
        return ""
    try:
        of_study = capacity.needs(results)
    except ValueError as error:
        return f"No need can be told: {error}\n"
    fitted = capacity.fits(of_study)
    laws = [_several_rates(of_study), *map(_law, fitted)]
    parts = [_needs(of_study), _methods(of_study), *laws, _verdicts(judge(of_study))]
    parts.append(_budgets(of_study))
    return "\n".join(filter(None, parts))


def summary(results: pd.DataFrame) -> str:
    """Returns the constant of each fit and the verdicts in lines, "" without such runs."""
    if not capacity.has_tasks(results):
        return ""
    try:
        of_study = capacity.needs(results)
    except ValueError:
        return ""
    lines = [
        f"{fit.form}, {fit.steps:,} steps: {_shown(fit.constant, 1)} trained numbers for each "
        f"item; {capacity.MAIN.text} predicts {fit.held_out} other cells within a factor of "
        f"{fit.prediction[0]:.2f}"
        for fit in capacity.fits(of_study)
    ]
    lines += [f"{each.verdict}: {each.statement}" for each in judge(of_study)]
    return "\n".join(lines)


def _needs(of_study: Needs) -> str:
    table = of_study.table
    text = (
        f"Least trained numbers that hold {capacity.THRESHOLD:g} % of K items, over K; in brackets "
        "95 % intervals over draws of the words. P*: the same as soft tokens. "
        '"at most" and "over": the least amount tried is enough, the largest is not.'
    )
    has_rates = bool(table.duplicated(_SAME_BUT_RATE).any())
    head = ["task", "method", "model", "D", "steps", "K", "P*", "numbers for each item", "draws"]
    head += ["rate"] * has_rates
    lines = [text, "", f"| {' | '.join(head)} |", f"| {' | '.join(['---'] * len(head))} |"]
    for row in table.itertuples():
        tokens = "-" if math.isnan(row.width) else _amount(row, row.width)
        width = "-" if math.isnan(row.width) else f"{row.width:.0f}"
        cells = [row.form, _method(row), row.model, width, f"{row.steps:,.0f}", f"{row.items}"]
        cells += [tokens, _amount(row, row.items), f"{row.draws}"]
        cells += [f"{row.learning_rate:g}"] * has_rates
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _methods(of_study: Needs) -> str:
    """Returns what a trained number holds by method, "" with one method."""
    table = of_study.table
    if len(table[["method", "init"]].drop_duplicates()) < 2:
        return ""
    text = (
        "What a stored number holds, by method, at the learning rate with the least need: numbers "
        "and bytes (float32) for each item. That rate is chosen by the needs themselves, which "
        "flatters methods with more rates."
    )
    head = ["task", "model", "K", "method", "numbers for each item", "bytes for each item"]
    head += ["rate", "rates"]
    lines = [text, "", f"| {' | '.join(head)} |", f"| {' | '.join(['---'] * len(head))} |"]
    key = ["form", "model_parameters", "model", "steps", "items", "method", "init"]
    best = table.sort_values("numbers", kind="stable").groupby(key, sort=False).head(1)
    for row in best.sort_values([*key[:5], "numbers"]).itertuples():
        same = (table[key] == [getattr(row, name) for name in key]).all(axis=1)
        cells = [row.form, row.model, row.items, _method(row), _amount(row, row.items)]
        cells += [_amount(row, row.items / _BYTES), f"{row.learning_rate:g}", int(same.sum())]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def _method(row: object) -> str:
    """Returns the method of a row of `Needs.table`, and how it starts or which variant it is."""
    return " ".join(filter(None, (row.method, row.init)))


def _amount(row: object, over: float) -> str:
    """Formats the need of a row of `Needs.table` over a number."""
    need, least, most = (getattr(row, x) / over for x in ("numbers", "least", "most"))
    low, high = (getattr(row, x) / over for x in ("low", "high"))
    if need == 0:
        return f"at most {least:.3g}"
    if math.isinf(need):
        return f"over {most:.3g}"
    if math.isnan(low):
        return f"{need:.3g}"
    start = f"{low:.3g}" if low > 0 else f"under {least:.3g}"
    end = f"{high:.3g}" if math.isfinite(high) else f"over {most:.3g}"
    return f"{need:.3g} [{start}, {end}]"


def _shown(interval: Sequence[float], digits: int = 2) -> str:
    value, low, high = interval
    return f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def _several_rates(of_study: Needs) -> str:
    prompts = of_study.table[of_study.table["width"].notna()]
    repeated = prompts[prompts.duplicated(_SAME_BUT_START)]
    if repeated.empty:
        return ""
    forms = ", ".join(sorted(set(repeated["form"])))
    what = "one model has several learning rates or initializations there"
    return f"No law is fitted to {forms}: {what}.\n"


def _law(fit: Fits) -> str:
    text = (
        f"Laws of the soft tokens needed, {fit.form}, {fit.steps:,} steps. Fitted to {fit.fitted} "
        f"cells, without the {fit.held_out} of the widest model and of the largest K. Errors are "
        "factors (1 is none): of each cell fitted to when it is left out, and of those others. "
        f"{fit.censored} further cells lie beyond the lengths tried."
    )
    if fit.clipped:
        text += (
            f" The intervals of {fit.clipped} fitted cells reach beyond them and end there, so "
            "those below are too narrow."
        )
    lines = [
        text,
        "",
        "| law | free numbers | error, left out | error, other models and K |",
        "| --- | ---: | ---: | ---: |",
    ]
    for row in fit.table.itertuples():
        mark = " (least)" if row.law == fit.chosen else ""
        lines.append(
            f"| {row.law} | {row.parameters} | {row.error:.2f}{mark} | {row.held_out:.2f} |"
        )
    a, b = (_shown(fit.exponents[x]) for x in "ab")
    text = (
        f"c of {capacity.MAIN.text}, from all cells: {_shown(fit.constant, 1)} trained numbers for "
        f"each item. Free exponents: a = {a}, b = {b}. It predicts the other models and K within a "
        f"factor of {_shown(fit.prediction)}; the draws alone make a factor of {fit.noise:.2f}. "
        f"With soft tokens added that no item needs, {capacity.OFFSET.text}: "
        f"c = {_shown(fit.offset['c'], 1)}, b = {_shown(fit.offset['b'])}."
    )
    lines += ["", text]
    return "\n".join(lines) + "\n"


def _verdicts(judged: Sequence[Verdict]) -> str:
    lines = ["| statement | verdict | rests on |", "| --- | --- | --- |"]
    lines += [f"| {each.statement} | {each.verdict} | {each.reason} |" for each in judged]
    return "\n".join(lines) + "\n"


def _budgets(of_study: Needs) -> str:
    table = budgets(of_study)
    if table.empty:
        return (
            "One number of steps: nothing tells whether longer training needs fewer soft tokens.\n"
        )
    text = (
        f"Change of the need with longer training; less than {DOUBLED:.0%} with twice the steps "
        "would make it the prompt's own. Limit: what the changes add up to, if each is a constant "
        "share of the one before."
    )
    lines = [
        text,
        "",
        "| task | model | K | steps | times as many | change | limit, numbers for each item |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in table.itertuples():
        limit = "-" if math.isnan(row.limit) else f"{row.limit / row.items:.3g}"
        cells = [row.form, row.model, row.items, f"{row.steps:,.0f}", f"{row.times:g}"]
        cells += [f"{row.change:+.0%}", limit]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"
