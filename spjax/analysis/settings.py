"""Scores by the values of an arm's axes that tables have no column for, such as WARMUP_STEPS.

Lester et al. 2021, table 6, list the values that their settings were chosen from, by the score on
validation.
"""

import math

import pandas as pd

from spjax.analysis import rates

CHOICE = [name for name in rates.CHOICE if name != "settings"]
_VALIDATION = "validation_score"


def compared(results: pd.DataFrame) -> pd.DataFrame:
    """Returns a row for each setting, in order: mean scores over tasks and seeds, runs, chosen.

    Of several learning rates the chosen one counts (`rates.chosen`). Which setting is chosen is
    told by `rates.best`; one that is not complete has not been validated as often as another.

    Args:
      results: the rows of results.csv, with clean types (`statistics.checked`).

    Raises:
      ValueError: as `rates.chosen`.
    """
    rows = results[(results["settings"] != "") & ~rates.of_trials(results)]
    if rows.empty:
        return pd.DataFrame()
    if _VALIDATION not in rows.columns:
        rows = rows.assign(**{_VALIDATION: math.nan})
    means = rates.averaged(rates.chosen(rows), [*CHOICE, "settings"])
    complete = means["validated"] == means.groupby(CHOICE)["validated"].transform("max")
    return means.assign(chosen=rates.best(means, CHOICE), complete=complete)


def chosen(results: pd.DataFrame) -> pd.DataFrame:
    """Returns the runs at the chosen settings, and those of arms without settings.

    Args:
      results: as in `compared`.

    Raises:
      ValueError: as `compared`, or an arm has several settings, and no run of them has a validation
        score.
    """
    means = compared(results)
    if means.empty:
        return results
    rates.demand_choice(means, CHOICE, "settings")
    others = means.groupby(CHOICE)["settings"].transform("size") > 1
    lost = pd.MultiIndex.from_frame(means.loc[others & ~means["chosen"], [*CHOICE, "settings"]])
    return results[~pd.MultiIndex.from_frame(results[[*CHOICE, "settings"]]).isin(lost)]


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
    order = [*CHOICE[:4], "model_parameters"]
    for row in means.sort_values(order, key=rates.in_order, kind="stable").itertuples():
        shown = f"**{row.settings}**" if row.chosen else row.settings
        runs = f"{row.runs}" if row.complete else f"{row.runs}*"
        scores = [
            "-" if math.isnan(value) else f"{value:.1f}"
            for value in (row.validation_score, row.test_score)
        ]
        cells = [row.arm, row.method, row.model, shown, runs, *scores]
        lines.append(f"| {' | '.join(cells)} |")
    if not means["complete"].all():
        lines += ["", "- \\* Fewer validated runs than another setting has: not compared yet."]
    return "\n".join(lines) + "\n"
