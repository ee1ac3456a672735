"""Results of several studies as one table, in which a run that several have counts once."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from spjax.analysis import arms, statistics

FOLDER = "folder"
_CELL = ["arm", "method", "model", "prompt_length", "init", "settings", "task", "seed"]
_OF_CELL = [*_CELL, "learning_rate", statistics.PRETRAINING_SEED]  # as far as there are columns
_OF_STUDY = ("study", "arm", "settings", statistics.ITEM_SCORES, FOLDER)
_CONSTANTS = {"model": ("model_parameters",), "task": ("majority_score", "ceiling", "scored_on")}
_TASKLESS = "taskless_"  # the same task without its name in the text


def read(study_folders: Sequence[Path]) -> pd.DataFrame:
    """Reads and joins the results.csv of some study folders.

    Runs with an equal key are the same run: it counts once for each role of its arms, under the
    names of the first folder. A run on a mixture that has scores of tasks on which other runs were
    trained alone becomes a row for each of these tasks, in an arm of the role `multitask`.

    Returns:
      The rows, with clean types as of `statistics.load`.

    Raises:
      ValueError: a folder is given twice or has no usable results.csv, or two disagree: runs with
        an equal key have different values, runs with different keys measure the same cell, or a
        model or task is not the same in both.
    """
    check_different(study_folders)
    parts = [statistics.read(folder).assign(**{FOLDER: str(folder)}) for folder in study_folders]
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
    _check_equal_keys(rows)
    rows = _single_tasks(rows)
    _check_constants(rows)
    rows = _once(rows)
    _check_cells(rows)
    return statistics.checked(rows.drop(columns=FOLDER))


def check_different(study_folders: Sequence[Path]) -> None:
    """Raises ValueError where two paths are of one folder."""
    seen: dict[Path, Path] = {}
    for folder in study_folders:
        if (first := seen.setdefault(folder.resolve(), folder)) is not folder:
            raise ValueError(f"{folder} and {first} are the same folder: give it once.")


def _check_equal_keys(rows: pd.DataFrame) -> None:
    """Raises ValueError where two folders have different values for the run of one key."""
    columns = [name for name in rows.columns if name not in _OF_STUDY]
    of_runs = rows.drop_duplicates([FOLDER, "key"])
    shared = of_runs[of_runs.duplicated("key", keep=False)]
    for key, runs in shared.groupby("key", sort=False):
        first = runs.iloc[0]
        for _, other in runs.iloc[1:].iterrows():
            for name in columns:
                one, two = first[name], other[name]
                # An older results.csv may lack a column.
                if pd.notna(one) and pd.notna(two) and one != two:
                    raise ValueError(
                        f"the run {key} is in {first[FOLDER]} and in {other[FOLDER]}, with "
                        f"different results: {name} is {one} and {two}. Leave one of the "
                        "folders out, or delete the run from one and sweep it again"
                    )
                if name == statistics.SCORE and pd.isna(one) != pd.isna(two):
                    raise ValueError(
                        f"the run {key} is in {first[FOLDER]} and in {other[FOLDER]}, and only "
                        f"one of them has a {name}. Leave one of the folders out, or delete the "
                        "run from one and sweep it again"
                    )


def _check_constants(rows: pd.DataFrame) -> None:
    """Raises ValueError where folders disagree on the size of a model or on facts of a task."""
    parts = [statistics.checked(part) for _, part in rows.groupby(FOLDER, sort=False)]
    known = pd.concat(parts, ignore_index=True).round(6)
    known["scored_on"] = known["scored_on"].where(known[statistics.SCORE].notna())
    for name, constants in _CONSTANTS.items():
        for constant in constants:
            firsts = known[known[constant].notna()].drop_duplicates([name, FOLDER])
            for item, values in firsts.groupby(name):
                one, *others = values.drop_duplicates(constant).to_dict("records")
                if others:
                    raise ValueError(
                        f"the folders do not belong together: {name} {item} has the {constant} "
                        f"{one[constant]} in {one[FOLDER]} and {others[0][constant]} in "
                        f"{others[0][FOLDER]}. Leave one of the folders out"
                    )


def _once(rows: pd.DataFrame) -> pd.DataFrame:
    """Drops rows of runs that an earlier folder has in an arm of the same role."""
    role = rows["arm"].map(arms.role_of)
    role = role.mask(rows["arm"] == statistics.INITIALISATION_ARM, statistics.INITIALISATION_ARM)
    first = rows.groupby([rows["key"], role])[FOLDER].transform("first")
    return rows[rows[FOLDER] == first].reset_index(drop=True)


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


def _check_cells(rows: pd.DataFrame) -> None:
    """Raises ValueError where runs of two folders and keys measure one cell."""
    cell = [name for name in _OF_CELL if name in rows.columns]
    for values, runs in rows.groupby(cell, dropna=False, sort=False):
        runs = runs.drop_duplicates("key")
        if len(runs) < 2 or runs[FOLDER].nunique() < 2:
            continue
        one, other = runs.iloc[0], runs[runs[FOLDER] != runs[FOLDER].iloc[0]].iloc[0]
        shown = ", ".join(f"{name}={value}" for name, value in zip(cell, values) if value != "")
        raise ValueError(
            f"{one[FOLDER]} and {other[FOLDER]} have different runs of the same cell ({shown}): "
            f"{one['key']} and {other['key']}. They differ in something that tables have no column "
            "for, see config.gin in their folders; leave one of the folders out, or rename the arm"
        )
