"""Scores by the values of an arm's axes that tables have no column for, such as WARMUP_STEPS.

Lester et al. 2021, table 6, list the values that their settings were chosen from, by the score on
validation.
"""

import pandas as pd

from spjax.analysis import rates

_CHOICE = [name for name in rates.CHOICE if name != "settings"]
_VALIDATION, _TEST = "validation_score", "test_score"


def compared(results: pd.DataFrame) -> pd.DataFrame:
    """Returns a row for each setting, in order: mean scores over tasks and seeds, runs, chosen.

    Of several learning rates the chosen one counts (`rates.chosen`). A run that diverged before it
    was scored counts as 0. A setting that has not been run as often as another cannot be chosen
    yet; of equal means the first is.

    Args:
      results: the rows of results.csv, with clean types (`statistics.checked`).
    """
    rows = results[results["settings"] != ""]
    if rows.empty or _VALIDATION not in rows.columns:
        return pd.DataFrame()
    rows = rates.chosen(rows)
    rows = rows.assign(**{_VALIDATION: rows[_VALIDATION].fillna(0.0)})
    groups = rows.groupby([*_CHOICE, "settings"])
    means = groups[[_VALIDATION, _TEST]].mean().assign(runs=groups.size()).reset_index()
    choice = [means[name] for name in _CHOICE]
    complete = means["runs"] == means["runs"].groupby(choice).transform("max")
    best = means[_VALIDATION].round(9).where(complete).groupby(choice).idxmax()
    return means.assign(chosen=means.index.isin(best), complete=complete)


def markdown(results: pd.DataFrame) -> str:
    """Formats the settings as a table, "" where labels tell all runs apart.

    Args:
      results: as in `compared`.
    """
    means = compared(results)
    if means.empty:
        return ""
    head = "Settings: mean scores over tasks and seeds in %; the **best** on validation in bold."
    lines = [
        head,
        "",
        "| arm | method | model | setting | runs | validation | test |",
        "| --- | --- | --- | --- | ---: | ---: | ---: |",
    ]
    for row in means.sort_values([*_CHOICE[:4], "model_parameters"], kind="stable").itertuples():
        shown = f"**{row.settings}**" if row.chosen else row.settings
        runs = f"{row.runs}" if row.complete else f"{row.runs}*"
        scores = [f"{value:.1f}" for value in (row.validation_score, row.test_score)]
        cells = [row.arm, row.method, row.model, shown, runs, *scores]
        lines.append(f"| {' | '.join(cells)} |")
    if not means["complete"].all():
        lines += ["", "- \\* Fewer runs than another setting has: not compared yet."]
    return "\n".join(lines) + "\n"
