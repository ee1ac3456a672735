"""Runs of a study that are not averaged, and the reasons."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from spjax.analysis import rates, statistics

ABLATION = "only in the comparison of initializations"


def reasons(results: pd.DataFrame, runs: pd.DataFrame, tasks: Sequence[str]) -> pd.Series:
    """Returns why each row has no part in the scores averaged over tasks, "" where it has.

    Args:
      results: of `statistics.checked`, with an index without doubles.
      runs: of `statistics.main_runs` on them.
      tasks: that are averaged over.
    """
    why = pd.Series("", index=results.index)
    chosen = rates.chosen(results).index
    why[results.index.difference(chosen)] = "another learning rate is better on validation"
    beside = chosen.difference(runs.index)
    why[beside] = "another arm measures the same"
    if (results["method"] == statistics.PROMPT_TUNING).any():
        of_inits = statistics.initialisation_runs(results).index
        why[beside.intersection(of_inits)] = ABLATION
    why[runs.index[~runs["task"].isin(tasks)]] = "its task is not measured everywhere"
    used = runs[runs["task"].isin(tasks)]
    unit = ["line", "model", statistics.PRETRAINING_SEED, "seed"]
    scored = used[statistics.SCORE].notna()
    complete = scored.groupby([used[name] for name in unit]).transform("sum") == len(tasks)
    why[used.index[~complete]] = "its seed lacks the score of another task"
    unscored = results[statistics.SCORE].isna()
    why[unscored] = "no score: " + results.loc[unscored, "status"]
    return why
