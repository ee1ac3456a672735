"""The trials of searches (`spjax.studies.search`), and which of them is the best on validation."""

import math

import pandas as pd

from spjax.analysis import rates


def markdown(results: pd.DataFrame) -> str:
    """Formats the trials as a table, "" where no arm searches.

    Test scores of trials that were not chosen are not shown.

    Args:
      results: the rows of results.csv, with clean types (`statistics.checked`).
    """
    rows = results[rates.of_trials(results)]
    if rows.empty:
        return ""
    means = rates.compared_trials(rows)
    numbers = means["settings"].str.extract(r"^trial=(\d+)", expand=False).astype(int)
    means = means.assign(number=numbers).sort_values([*rates.SEARCHED, "number"], kind="stable")
    pruned = rows[rows["status"] == "pruned"].groupby(rates.TRIAL_COLUMNS).size()
    lines = [
        "Trials of searches: mean validation scores in %, and the test score of the **best**.",
        "",
        "| arm | method | model | trial | runs | validation | test |",
        "| --- | --- | --- | --- | ---: | ---: | ---: |",
    ]
    for row in means.itertuples():
        key = tuple(getattr(row, name) for name in rates.TRIAL_COLUMNS)
        shown = f"**{row.settings}**" if row.chosen else row.settings
        validation = "-" if math.isnan(row.validation_score) else f"{row.validation_score:.1f}"
        if lost := pruned.get(key, 0):
            validation = f"{lost} pruned"
        test = f"{row.test_score:.1f}" if row.chosen and not math.isnan(row.test_score) else "-"
        lines.append(
            f"| {row.arm} | {row.method} | {row.model} | {shown} | {row.runs} | {validation} | "
            f"{test} |"
        )
    return "\n".join(lines) + "\n"
