"""Results of several studies as one table, in which a run that several have counts once."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from spjax.analysis import agreement, arms, settings, statistics
from spjax.analysis.agreement import FOLDER

_TASKLESS = "taskless_"  # the same task without its name in the text


def read(study_folders: Sequence[Path]) -> pd.DataFrame:
    """Reads and joins the results.csv of some study folders.

    Runs with an equal key are the same run: it counts once for each role of its arms, under the
    names and with the scores of the first folder (`notes` says where others differ a little). It
    stays in an arm of several learning rates or settings, which would lose one without it. A run on
    a mixture that has scores of tasks on which other runs were trained alone becomes a row for each
    of these tasks, in an arm of the role `multitask`.

    Returns:
      The rows, with clean types as of `statistics.load`.

    Raises:
      ValueError: a folder is given twice or has no usable results.csv, or two disagree: runs with
        an equal key have different values, runs with different keys measure the same cell, those of
        a line differ in more than their seed, or a model or task is not the same in both.
    """
    check_different(study_folders)
    return join({folder: statistics.read(folder) for folder in study_folders})


def join(results: Mapping[Path, pd.DataFrame]) -> pd.DataFrame:
    """Joins results that are read already, as `read`.

    Args:
      results: of `statistics.read`, by folder.

    Raises:
      ValueError: as `read`.
    """
    rows = _together(results)
    agreement.check_equal_keys(rows)
    rows = _single_tasks(rows)
    agreement.check_constants(rows)
    rows = _once(rows)
    agreement.check_cells(rows)
    agreement.check_lines(rows)
    return statistics.checked(rows.drop(columns=FOLDER))


def notes(results: Mapping[Path, pd.DataFrame]) -> list[str]:
    """Returns sentences on runs that several folders have with scores a little apart.

    Args:
      results: as for `join`.

    Raises:
      ValueError: as `join`, of runs with an equal key.
    """
    return agreement.check_equal_keys(_together(results))


def _together(results: Mapping[Path, pd.DataFrame]) -> pd.DataFrame:
    """Returns the rows of all folders, with the folder's name."""
    parts = [part.assign(**{FOLDER: str(folder)}) for folder, part in results.items()]
    for part in parts:
        for name in ("arm", "init", "settings"):
            column = part[name] if name in part.columns else pd.Series("", part.index)
            part[name] = column.astype(object).fillna("").astype(str)
    if without := [part[FOLDER].iloc[0] for part in parts if "key" not in part.columns]:
        raise ValueError(
            f"results.csv of {', '.join(without)} has no column key, by which runs of several "
            "studies are told apart; write it again with `spjax sweep`"
        )
    rows = pd.concat(parts, ignore_index=True)
    if statistics.PRETRAINING_SEED in rows.columns:  # which an older results.csv lacks
        rows[statistics.PRETRAINING_SEED] = rows[statistics.PRETRAINING_SEED].fillna(0)
    return rows


def check_different(study_folders: Sequence[Path]) -> None:
    """Raises ValueError where two paths are of one folder."""
    seen: dict[Path, Path] = {}
    for folder in study_folders:
        if (first := seen.setdefault(folder.resolve(), folder)) is not folder:
            raise ValueError(f"{folder} and {first} are the same folder: give it once.")


def _once(rows: pd.DataFrame) -> pd.DataFrame:
    """Drops rows of runs that an earlier folder has in an arm of the same role.

    An arm of several learning rates or settings would lose some of those it is to choose from, so
    it keeps them, unless an earlier arm has all of its runs.
    """
    role = rows["arm"].map(arms.role_of)
    role = role.mask(rows["arm"] == statistics.INITIALISATION_ARM, statistics.INITIALISATION_ARM)
    of_run = rows.groupby([rows["key"], role])
    again = rows[FOLDER] != of_run[FOLDER].transform("first")
    choice = [name for name in settings.CHOICE if name in rows.columns]
    arm = rows.groupby(choice, dropna=False).ngroup()
    of_arm = [rows[FOLDER], arm]
    tried = [name for name in ("settings", "learning_rate") if name in rows.columns]
    values = rows.groupby(tried, dropna=False).ngroup()
    several = values.groupby(of_arm).transform("nunique") > 1
    earlier = arm.groupby([rows["key"], role]).transform("first")
    elsewhere = again.groupby(of_arm).transform("all")
    elsewhere &= earlier.groupby(of_arm).transform("nunique") == 1
    listed = rows.assign(arm_number=arm).duplicated(["key", "arm_number", "settings", "task"])
    kept = ~again | (several & ~elsewhere & ~listed)
    return rows[kept].reset_index(drop=True)


def _single_tasks(rows: pd.DataFrame) -> pd.DataFrame:
    """Replaces rows of runs on mixtures by rows of the tasks, where other runs have these alone."""
    tasks = sorted(set(rows["task"].astype(str)), reverse=True)
    name_of = {task.removeprefix(_TASKLESS): task for task in tasks}
    parts = []
    for row in rows.to_dict("records"):
        validation, test = (_scores(row.get(f"{name}_metrics")) for name in ("validation", "test"))
        if not any(task.removeprefix(_TASKLESS) in name_of for task in (*validation, *test)):
            parts.append(row)
            continue
        shared = arms.role_of(row["arm"]) == arms.MULTITASK
        row |= {"arm": row["arm"] if shared else f"{row['arm']}_{arms.MULTITASK}"}
        for task in dict.fromkeys((*validation, *test)):
            scores = {"validation_score": validation.get(task), statistics.SCORE: test.get(task)}
            # Known of the mixture alone.
            unknown = {"majority_score": None, "ceiling": None, statistics.ITEM_SCORES: None}
            name = task if task in tasks else name_of.get(task.removeprefix(_TASKLESS), task)
            parts.append(row | scores | unknown | {"task": name})
    return pd.DataFrame(parts, columns=rows.columns)


def _scores(metrics: Any) -> Mapping[str, float]:
    """Returns the scores of the single tasks in the metrics of a run on a mixture."""
    try:
        values = json.loads(metrics) if isinstance(metrics, str) and metrics else {}
    except ValueError:
        values = {}
    pairs = values.items() if isinstance(values, dict) else ()
    return {name.rpartition("/")[0]: value for name, value in pairs if name.endswith("/score")}
