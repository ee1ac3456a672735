"""The text on a prompt's capacity: needs, laws, verdicts, budgets and methods."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from spjax.analysis import capacity, capacity_laws
from spjax.analysis.capacity import Needs
from spjax.analysis.capacity_laws import Fits
from spjax.analysis.criteria import ALPHA, CANNOT_TELL, CONTRADICTED, HOLDS, NOT_MEASURED
from spjax.analysis.resampling import CONFIDENCE

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
    """Returns the verdicts on the law, from fits of associations (`capacity_laws.of_most_cells`).

    A statement holds where its interval lies within the bounds, and is contradicted where it lies
    out of them, whichever cells are taken (`Fits.choices`); intervals are as wide as to hold for
    all statements together (Bonferroni). Each ladder has verdicts of its own.
    """
    ladders_of = {fit.ladder for fit in capacity_laws.fits(of_study) if fit.form == "associations"}
    confidence = 1 - ALPHA / (3 * max(len(ladders_of), 1) + 1)
    fitted = [x for x in capacity_laws.fits(of_study, confidence) if x.form == "associations"]
    chosen = capacity_laws.of_most_cells(fitted)
    verdicts = []
    ladders: list[tuple[str, Fits | None]] = [*sorted(chosen.items())]
    for name, fit in ladders or [("", None)]:
        among = [f"{name} models"] if len(chosen) > 1 else []
        if fit is not None and of_study.table["steps"].nunique() > 1:
            among.append(f"{fit.steps:,} steps")
        of_ladder = f" ({', '.join(among)})" if among else ""
        verdicts += [
            dataclasses.replace(each, statement=each.statement + of_ladder)
            for each in _of_laws(fit)
        ]
    draws = int(of_study.table["draws"].max())
    by_bits = _over_choices(
        "items count, not the bits of their labels",
        "change of the need with few labels, over the change of the bits (in logarithms)",
        _shares_of_change(of_study, "bits", confidence),
        (-math.inf, 0.5),
        "to be below 0.5: 0 is items alone, 1 bits alone",
        draws,
    )
    if shares := _shares_of_change(of_study, "information", confidence):
        text = f"over the change of the bits that {capacity.THRESHOLD:g} % right take: "
        share = _shown(next(iter(shares.values())))
        by_bits = dataclasses.replace(by_bits, reason=f"{by_bits.reason}; {text}{share}")
    return [*verdicts, by_bits]


def _over_choices(
    statement: str,
    what: str,
    estimates: Mapping[str, tuple[float, float, float]],
    bounds: tuple[float, float],
    wanted: str,
    draws: int,
) -> Verdict:
    """Returns the verdict on the first of some estimates, "cannot tell" if another has another.

    Args:
      statement: that is judged.
      what: names the estimate.
      estimates: with their intervals, by the choice of the cells; {} if nothing was measured.
      bounds: of an estimate for which the statement holds.
      wanted: the same in words.
      draws: of the words.
    """
    if not estimates:
        return _judged(statement, what, None, bounds, wanted, draws)
    judged = {
        name: _judged(statement, what, each, bounds, wanted, draws)
        for name, each in estimates.items()
    }
    first = next(iter(judged.values()))
    differing = [
        f"with {name} {_shown(estimates[name])} ({each.verdict})"
        for name, each in judged.items()
        if each.verdict != first.verdict
    ]
    if not differing and first.verdict == CANNOT_TELL and len(estimates) > 1:
        others = [f"{name} {each[0]:.2f}" for name, each in list(estimates.items())[1:]]
        return dataclasses.replace(first, reason=f"{first.reason}; {', '.join(others)}")
    if not differing:
        return first
    reason = f"{first.reason}; other cells say otherwise: {', '.join(differing)}"
    return Verdict(statement, CANNOT_TELL, reason)


def _of_laws(fit: Fits | None) -> list[Verdict]:
    """Returns the verdicts on the fit of a ladder."""
    inside, bounds = (1 - EXPONENT, 1 + EXPONENT), f"to be within {EXPONENT:g} of 1"
    statements = [
        (
            "the need grows in proportion to the items, K",
            "exponent a of c K^a / D^b",
            lambda each: each.exponents["a"],
            *(inside, bounds),
        ),
        (
            "the soft tokens needed fall in proportion to the width, D",
            "exponent b of c K^a / D^b",
            lambda each: each.exponents["b"],
            *(inside, bounds),
        ),
        (
            "c K / D predicts models and K that it was not fitted to",
            "error as a factor",
            lambda each: each.prediction,
            (1.0, FACTOR),
            f"to be at most {FACTOR:g}",
        ),
    ]
    choices = fit.choices if fit is not None else ()
    draws = fit.draws if fit is not None else 1
    return [
        _over_choices(
            statement,
            what,
            {choice.cells: estimate(choice) for choice in choices},
            limits,
            wanted,
            draws,
        )
        for statement, what, estimate, limits, wanted in statements
    ]


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


def _shares_of_change(
    of_study: Needs, column: str, confidence: float
) -> dict[str, tuple[float, float, float]]:
    """Returns how much of the change of a column the need follows, by the choice of the cells.

    Over pairs of equal K and model, with a label for each item and with few labels: all of them,
    those of each K, and those of all models but the narrowest; {} where there is none.
    """
    table = of_study.table
    inside = (table["numbers"] > 0) & np.isfinite(table["numbers"])
    plain = table["form"] == "associations"
    few = table["form"].str.fullmatch(r"associations:l\d+")
    key = ["method", "init", "model", "steps", "learning_rate", "items"]
    pairs = [
        (i, j)
        for i in table.index[inside & plain]
        for j in table.index[inside & few]
        if (table.loc[i, key] == table.loc[j, key]).all()
    ]
    if not pairs:
        return {}
    first, second = (np.array(side) for side in zip(*pairs))
    change = np.log(table.loc[second, column].to_numpy() / table.loc[first, column].to_numpy())

    def share(numbers_RC: np.ndarray, chosen: np.ndarray) -> np.ndarray:
        of_need = np.log(numbers_RC[:, second[chosen]] / numbers_RC[:, first[chosen]])
        return of_need @ change[chosen] / (change[chosen] @ change[chosen])

    items, widths = (table.loc[first, name].to_numpy() for name in ("items", "width"))
    choices = {"all pairs": np.ones(len(pairs), bool)}
    choices |= {f"K of {count}": items == count for count in sorted({*items})}
    choices["all models but the narrowest"] = widths > widths.min()
    value_RC = table["numbers"].to_numpy()[None]
    return {
        name: capacity_laws.interval(
            share(value_RC, chosen)[0], share(of_study.without_UC, chosen), confidence
        )
        for name, chosen in choices.items()
        if chosen.any()
    }


def budgets(of_study: Needs) -> pd.DataFrame:
    """Returns how needs change with the steps of training, a row a cell and longer budget.

    Columns: those of `capacity.CELL` but for steps, `steps` (after), `times` (over those before),
    `change`, `low` and `high` (the need after over before, less one, and its 95 % interval), and
    `limit`: the trained numbers that the need falls to if its logarithm falls by a constant factor
    less with each budget. NaN with fewer than three budgets of equal ratios, or where the need
    rises or does not slow down.
    """
    table = of_study.table
    key = [name for name in capacity.CELL if name != "steps"]
    inside = table[(table["numbers"] > 0) & np.isfinite(table["numbers"])]
    rows = []
    for values, part in inside.groupby(key, sort=True, dropna=False):
        part = part.sort_values("steps")
        logs, steps = np.log(part["numbers"].to_numpy(float)), part["steps"].to_numpy()
        without_UC = np.log(of_study.without_UC[:, table.index.get_indexer(part.index)])
        falls, times = np.diff(logs), steps[1:] / steps[:-1]
        for i in range(1, len(part)):
            fall, limit = falls[i - 1], math.nan
            if i > 1 and times[i - 1] == times[i - 2] and falls[i - 2] < fall <= 0:
                slowing = fall / falls[i - 2]
                limit = math.exp(logs[i] + fall * slowing / (1 - slowing))
            change = capacity_laws.interval(
                fall, without_UC[:, i] - without_UC[:, i - 1], CONFIDENCE
            )
            row = {**dict(zip(key, values)), "steps": steps[i], "times": times[i - 1]}
            row |= dict(zip(("change", "low", "high"), map(math.expm1, change)))
            rows.append(row | {"limit": limit})
    return pd.DataFrame(rows)


def markdown(results: pd.DataFrame) -> str:
    """Returns the text, "" where no run is on a task of `capacity_tasks`."""
    if not capacity.has_tasks(results):
        return ""
    try:
        of_study = capacity.needs(results)
    except ValueError as error:
        return f"No need can be told: {error}\n"
    fitted = capacity_laws.fits(of_study)
    laws = [_several_rates(of_study), *map(_law, fitted)]
    parts = [_needs(of_study), _methods(of_study), *laws, _verdicts(of_study)]
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
        f"{fit.form}, {fit.ladder} models, {fit.steps:,} steps: {_shown(fit.constant, 1)} trained "
        f"numbers for each item; {capacity_laws.MAIN.text} predicts {fit.held_out} other cells "
        f"with an error of a factor of {fit.prediction[0]:.2f} (root mean square)"
        for fit in capacity_laws.fits(of_study)
    ]
    lines += [f"{each.verdict}: {each.statement}" for each in judge(of_study)]
    return "\n".join(lines)


def _needs(of_study: Needs) -> str:
    table = of_study.table
    text = (
        f"Least trained numbers that hold {capacity.THRESHOLD:g} % of K items, over K; in brackets "
        "95 % intervals over draws of the words (where all draws agree, the amounts tried between "
        'which the need lies). P*: the same as soft tokens. "at most" and "over": the least amount '
        "tried is enough, the largest is not."
    )
    if lacking := int(table["dropped"].sum()):
        text += (
            f" {lacking} amounts lack a run and were left out; needs that may lie there are not "
            "measured."
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
    known = table["numbers"].where(table["numbers"] != 0, table["least"])
    best = (
        table.assign(known=known)
        .sort_values("known", kind="stable")
        .groupby(key, sort=False)
        .head(1)
    )
    for row in best.sort_values([*key[:5], "numbers"]).itertuples():
        same = (table[key] == [getattr(row, name) for name in key]).all(axis=1)
        cells = [row.form, row.model, row.items, _method(row), _amount(row, row.items)]
        cells += [_amount(row, row.items / _BYTES), f"{row.learning_rate:g}", int(same.sum())]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def _method(row: Any) -> str:
    """Returns the method of a row of `Needs.table`, and how it starts or which variant it is."""
    return " ".join(filter(None, (row.method, row.init)))


def _amount(row: object, over: float) -> str:
    """Formats the need of a row of `Needs.table` over a number."""
    need, least, most = (getattr(row, x) / over for x in ("numbers", "least", "most"))
    low, high = (getattr(row, x) / over for x in ("low", "high"))
    if math.isnan(need):
        return "not measured"
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
    named = zip(repeated["form"], repeated["ladder"], repeated["steps"])
    forms = ", ".join(f"{form} of {x} models, {n:,} steps" for form, x, n in sorted(set(named)))
    what = "one model has several learning rates or initializations there"
    return f"No law is fitted to {forms}: {what}.\n"


def _law(fit: Fits) -> str:
    text = (
        f"Laws of the soft tokens needed, {fit.form}, {fit.ladder} models, {fit.steps:,} steps. "
        f"Fitted to {fit.fitted} cells, without the {fit.held_out} of the widest model and of the "
        "largest K. Errors are factors (1 is none), root mean squares of their logarithms: of each "
        "cell fitted to when it is left out, and of those others."
    )
    if fit.censored:
        text += f" Without a need: {', '.join(fit.censored)}."
    if fit.clipped:
        text += (
            f" The intervals of {fit.clipped} of all cells with a need leave the lengths tried "
            "and end there, so that those below are too narrow."
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
    text = (
        f"The same with other choices of the cells: c of {capacity_laws.MAIN.text} (trained "
        "numbers for each item), its prediction of the other models and K, and the exponents of "
        f"{capacity_laws.EXPONENTS.text}."
    )
    lines += [
        "",
        text,
        "",
        "| cells | | c | error of its prediction, a factor | a | b |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for each in fit.choices:
        shown = [_shown(each.constant, 1), _shown(each.prediction)]
        shown += [_shown(each.exponents[x]) for x in "ab"]
        lines.append(f"| {each.cells} | {each.count} | {' | '.join(shown)} |")
    c, b = _shown(fit.offset["c"], 1), _shown(fit.offset["b"])
    text = (
        f"With soft tokens added that no item needs, {capacity_laws.OFFSET.text}: c = {c}, "
        f"b = {b}. The draws alone make a factor of {fit.noise:.2f} in the needs predicted."
    )
    lines += ["", text]
    return "\n".join(lines) + "\n"


def _verdicts(of_study: Needs) -> str:
    judged = judge(of_study)
    text = (
        f"Intervals of these verdicts hold together with {1 - ALPHA:.0%}, and are therefore wider "
        f"than those above: each is one of {1 - ALPHA / len(judged):.2%}."
    )
    lines = [text, "", "| statement | verdict | rests on |", "| --- | --- | --- |"]
    lines += [f"| {each.statement} | {each.verdict} | {each.reason} |" for each in judged]
    return "\n".join(lines) + "\n"


def _budgets(of_study: Needs) -> str:
    table = budgets(of_study)
    if table.empty and of_study.table["steps"].nunique() > 1:
        return (
            "No cell has a need with two numbers of steps, so that none tells what more change.\n"
        )
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
        bounds = "" if math.isnan(row.low) else f" [{row.low:+.0%}, {row.high:+.0%}]"
        cells += [f"{row.change:+.0%}{bounds}", limit]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"
