"""The learning rate that is reported where the arms of a study try several.

Every arm, method, prompt length, initialization and setting has one choice for each model: the rate
with the best validation score, averaged over tasks and seeds. Test scores have no part in it, and
those of the other rates are not shown.
"""

import pandas as pd

CHOICE = ["arm", "method", "prompt_length", "init", "settings", "model", "model_parameters"]
_RATE, _VALIDATION = "learning_rate", "validation_score"


def chosen(results: pd.DataFrame) -> pd.DataFrame:
    """Returns the runs at the chosen rates, with a column `rates`: the number compared.

    Args:
      results: the rows of results.csv, with clean types (`statistics.checked`).
    """
    if not {_RATE, _VALIDATION} <= set(results.columns):
        return results
    means = compared(results)
    keys = [*CHOICE, _RATE]
    best = means.loc[means["chosen"], [*keys, "rates"]]
    results = results.drop(columns="rates", errors="ignore")
    return results.reset_index().merge(best, on=keys).set_index("index").sort_index()


def compared(results: pd.DataFrame) -> pd.DataFrame:
    """Returns a row for each choice and rate, in order: mean scores in percent, runs, chosen.

    Of equal means the lower rate is chosen. A run that diverged before it was ever scored counts as
    0, and a rate that has not been run as often as another cannot be chosen yet.

    Args:
      results: as in `chosen`.
    """
    counted = results.assign(**{_VALIDATION: results[_VALIDATION].fillna(0.0)})
    groups = counted.groupby([*CHOICE, _RATE], dropna=False)
    means = groups[[_VALIDATION, "test_score"]].mean()
    means = means.assign(runs=groups.size()).reset_index()
    choice = [means[name] for name in CHOICE]
    complete = means["runs"] == means["runs"].groupby(choice).transform("max")
    order = means[_VALIDATION].round(9).where(complete)
    best = order.groupby(choice).idxmax()
    rates = means.groupby(CHOICE)["runs"].transform("size")
    return means.assign(chosen=means.index.isin(best), rates=rates)


def markdown(results: pd.DataFrame) -> str:
    """Formats the choices as a table, "" where no arm tries several rates.

    Args:
      results: as in `chosen`.
    """
    if not {_RATE, _VALIDATION} <= set(results.columns):
        return ""
    means = compared(results)
    means = means[means["rates"] > 1].sort_values([*CHOICE[:5], "model_parameters", _RATE])
    if means.empty:
        return ""
    head = "Learning rates: the mean validation score of each, and the test score of the **best**."
    lines = [
        "| arm | method | model | validation at each rate | test |",
        "| --- | --- | --- | --- | ---: |",
    ]
    for key, tried in means.groupby(CHOICE, sort=False):
        facts = dict(zip(CHOICE, key))
        best = tried[tried["chosen"]].iloc[0]
        edge = best[_RATE] in (tried[_RATE].min(), tried[_RATE].max())
        cells = ", ".join(_cell(row) for row in tried.itertuples())
        test = f"{best['test_score']:.1f}" + (" (end of the grid)" if edge else "")
        arm = " ".join(filter(None, (facts["arm"], facts["settings"])))
        shown = [arm, facts["method"], facts["model"], cells, test]
        lines.append(f"| {' | '.join(shown)} |")
    return "\n".join([head, "", *lines]) + "\n"


def _cell(row) -> str:
    text = f"{row.learning_rate:g}: {row.validation_score:.1f}"
    return f"**{text}**" if row.chosen else text
