"""The learning rate that is reported where the arms of a study try several.

Every arm, method, prompt length, initialization and setting has one choice for each model: the rate
with the best validation score, averaged over tasks and seeds. Test scores have no part in it, and
those of the other rates are not shown. A run that diverged before it was ever scored counts as 0.
"""

import re
from collections.abc import Sequence

import pandas as pd

CHOICE = ["arm", "method", "prompt_length", "init", "settings", "model", "model_parameters"]
_RATE, _VALIDATION = "learning_rate", "validation_score"
SEARCHED = ["arm", "method", "model", "model_parameters"]  # each has one best trial
TRIAL_COLUMNS = [*SEARCHED, "settings"]
_NUMBER = re.compile(r"((?:(?<![\w.])[-+])?\d+(?:\.\d+)?(?:e[-+]?\d+)?)")


def chosen(results: pd.DataFrame) -> pd.DataFrame:
    """Returns the runs at the chosen rates, with a column `rates`: the number compared.

    Of the trials of a search the best is left.

    Args:
      results: the rows of results.csv, with clean types (`statistics.checked`).

    Raises:
      ValueError: an arm has several rates or trials, and no run of them has a validation score.
    """
    if not {_RATE, _VALIDATION} <= set(results.columns):
        return results
    if (trials := of_trials(results)).any():
        tried = compared_trials(results[trials])
        demand_choice(tried, SEARCHED, "settings")
        best_one = pd.MultiIndex.from_frame(tried.loc[tried["chosen"], TRIAL_COLUMNS])
        results = results[~trials | pd.MultiIndex.from_frame(results[TRIAL_COLUMNS]).isin(best_one)]
    means = compared(results)
    keys = [*CHOICE, _RATE]
    demand_choice(means, CHOICE, _RATE)
    best = means.loc[means["chosen"] | (means["rates"] == 1), [*keys, "rates"]]
    results = results.drop(columns="rates", errors="ignore")
    return results.reset_index().merge(best, on=keys).set_index("index").sort_index()


def compared(results: pd.DataFrame) -> pd.DataFrame:
    """Returns a row for each choice and rate, in order: mean scores in percent, runs, chosen.

    Of equal means the lower rate is chosen, and as in `best` none may be.

    Args:
      results: as in `chosen`.
    """
    means = averaged(results, [*CHOICE, _RATE])
    rates = means.groupby(CHOICE)["runs"].transform("size")
    return means.assign(chosen=best(means, CHOICE), rates=rates)


def of_trials(results: pd.DataFrame) -> pd.Series:
    """Returns whether each row is of a trial of a search (`spjax.studies.search`)."""
    return results["settings"].str.startswith("trial=")


def compared_trials(results: pd.DataFrame) -> pd.DataFrame:
    """Returns a row for each trial: mean scores in percent, runs, and whether it is the best.

    Args:
      results: rows of trials alone.
    """
    means = averaged(results, TRIAL_COLUMNS)
    return means.assign(chosen=best(means, SEARCHED))


def averaged(results: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Returns mean scores of the runs that are equal in some columns, and how many they are.

    The column `runs` counts all of them, `validated` those with a validation score. A run that
    diverged before it was scored has the score 0, and one that a search pruned counts as not
    validated, so that its setting cannot be chosen. Rows are in order of the columns (`in_order`).
    """
    scores = results[_VALIDATION].mask(
        results[_VALIDATION].isna() & (results["status"] == "diverged"), 0.0
    )
    scores = scores.mask(results["status"] == "pruned")
    groups = results.assign(**{_VALIDATION: scores}).groupby(list(columns), dropna=False)
    means = groups[[_VALIDATION, "test_score"]].mean()
    counts = {"runs": groups.size(), "validated": groups[_VALIDATION].count()}
    means = means.assign(**counts).reset_index()
    return means.sort_values(list(columns), key=in_order, ignore_index=True)


def in_order(column: pd.Series) -> pd.Series:
    """Returns keys to sort a column by, in which numbers in texts count as such: 32 before 128."""
    if pd.api.types.is_numeric_dtype(column):
        return column
    texts = sorted(set(column.astype(str)), key=by_numbers)
    return column.astype(str).map({text: place for place, text in enumerate(texts)})


def by_numbers(text: str) -> tuple[tuple[str | float, ...], str]:
    """Returns a key to sort texts by, in which the numbers in them count as such."""
    parts = _NUMBER.split(text)  # every second one is a number
    return tuple(float(part) if i % 2 else part for i, part in enumerate(parts)), text


def best(means: pd.DataFrame, choice: Sequence[str]) -> pd.Series:
    """Returns whether each row has the first best mean validation score of those alike.

    A row whose runs were not validated as often as another's cannot be the best yet, and where no
    run was validated no row is.

    Args:
      means: of `averaged`.
      choice: the columns in which rows are alike.
    """
    most = means.groupby(list(choice))["validated"].transform("max")
    scores = means[means["validated"] == most].dropna(subset=_VALIDATION)
    scores = scores.assign(**{_VALIDATION: scores[_VALIDATION].round(9)})
    places = scores.groupby(list(choice))[_VALIDATION].idxmax()
    return pd.Series(means.index.isin(places), means.index)


def demand_choice(means: pd.DataFrame, choice: Sequence[str], column: str) -> None:
    """Raises ValueError where there are several values of a column and none is chosen."""
    for key, tried in means.groupby(list(choice), sort=False):
        if len(tried) > 1 and not tried["chosen"].any():
            facts = dict(zip(choice, key))
            values = ", ".join(
                f"{value:g}" if isinstance(value, float) else str(value) for value in tried[column]
            )
            raise ValueError(
                f"arm {facts['arm']!r} has several values of {column} at {facts['model']} "
                f"({values}), and no run of them has a validation_score to choose by: give each "
                "an arm of its own, or validate the runs and write results.csv again"
            )


def markdown(results: pd.DataFrame) -> str:
    """Formats the choices as a table, "" where no arm tries several rates.

    Args:
      results: as in `chosen`.
    """
    if not {_RATE, _VALIDATION} <= set(results.columns):
        return ""
    means = compared(results)
    order = [*CHOICE[:5], "model_parameters", _RATE]
    means = means[means["rates"] > 1].sort_values(order, key=in_order)
    if means.empty:
        return ""
    head = "Learning rates: the mean validation score of each, and the test score of the **best**."
    lines = [
        "| arm | method | model | validation at each rate | test |",
        "| --- | --- | --- | --- | ---: |",
    ]
    for key, tried in means.groupby(CHOICE, sort=False):
        facts = dict(zip(CHOICE, key))
        cells = ", ".join(_cell(row) for row in tried.itertuples())
        test = "-"
        for one in tried[tried["chosen"]].itertuples():
            edge = one.learning_rate in (tried[_RATE].min(), tried[_RATE].max())
            test = f"{one.test_score:.1f}" + (" (end of the grid)" if edge else "")
        arm = " ".join(filter(None, (facts["arm"], facts["settings"])))
        shown = [arm, facts["method"], facts["model"], cells, test]
        lines.append(f"| {' | '.join(shown)} |")
    return "\n".join([head, "", *lines]) + "\n"


def _cell(row) -> str:
    text = f"{row.learning_rate:g}: {row.validation_score:.1f}"
    return f"**{text}**" if row.chosen else text
