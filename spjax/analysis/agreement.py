"""Checks that the results of several study folders belong together."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from spjax.analysis import criteria, statistics

FOLDER = "folder"
# Points by which two trainings of one run may differ: sums of another order, in another gang or on
# another device, are rounded otherwise, and training amplifies it. More of it would decide a claim,
# so no folder's score is taken then (9 points were seen, between two versions of the code).
ROUNDING = criteria.MARGIN
_CELL = ["arm", "method", "model", "prompt_length", "init", "settings", "task", "seed"]
_OF_CELL = [*_CELL, "learning_rate", statistics.PRETRAINING_SEED]  # as far as there are columns
_SCORES = (statistics.SCORE, "validation_score")
_FOLLOWS_SCORES = ("best_step", "validation_metrics", "test_metrics", "transfer_metrics")
_OF_STUDY = ("study", "arm", "settings", statistics.ITEM_SCORES, FOLDER)
_CONSTANTS = {"model": ("model_parameters",), "task": ("majority_score", "ceiling", "scored_on")}
_SEED = "Run.seed"


def check_equal_keys(rows: pd.DataFrame) -> list[str]:
    """Demands that the run of one key is the same in all folders.

    Returns:
      For each pair of folders with scores that differ by no more than `ROUNDING` a sentence that
      says so; it has to stand beside whatever is made of the rows.

    Raises:
      ValueError: two folders have different values for a run, or scores further apart.
    """
    of_runs = rows.drop_duplicates([FOLDER, "key"])
    shared = of_runs[of_runs.duplicated("key", keep=False)]
    apart: dict[tuple[str, str], list[float]] = {}
    for key, runs in shared.groupby("key", sort=False):
        first, *others = runs.to_dict("records")
        for other in others:
            if difference := _conflict(first, other):
                raise ValueError(
                    f"the run {key} is in {first[FOLDER]} and in {other[FOLDER]}, {difference}. "
                    "Leave one of the folders out, or delete the run's folder from one and sweep "
                    "that study again, with --reuse for a copy of the other's"
                )
            if distance := max(_distance(first, other, name) for name in _SCORES):
                apart.setdefault((first[FOLDER], other[FOLDER]), []).append(distance)
    return [
        f"{len(distances)} runs that are in {one} and in {two} have scores that differ by up to "
        f"{max(distances):.1f} points; those of {one} are used."
        for (one, two), distances in apart.items()
    ]


def _conflict(one: Mapping[str, Any], two: Mapping[str, Any]) -> str:
    """Returns in what two rows of a run disagree, "" where they do not."""
    for name in one:
        if name in (*_OF_STUDY, *_FOLLOWS_SCORES):
            continue
        if name == statistics.SCORE and pd.isna(one[name]) != pd.isna(two[name]):
            return f"and only one of them has a {name}"
        if name in _SCORES:
            differ = _distance(one, two, name) > ROUNDING
        else:  # an older results.csv may lack a column
            differ = (
                pd.notna(one[name]) and pd.notna(two[name]) and not _equal(one[name], two[name])
            )
        if differ:
            return f"with different results: {name} is {one[name]} and {two[name]}"
    if names := [name for name, *_ in _configured_apart(one, two)]:
        return f"with another configuration: {', '.join(names)}"
    return ""


def _equal(one: Any, two: Any) -> bool:
    if isinstance(one, float) or isinstance(two, float):
        return math.isclose(one, two, rel_tol=1e-6, abs_tol=1e-6)
    return bool(one == two)


def _distance(one: Mapping[str, Any], two: Mapping[str, Any], name: str) -> float:
    """Returns how far two scores are apart, 0 where one is missing or they are equal."""
    if name not in one or pd.isna(one[name]) or pd.isna(two[name]) or _equal(one[name], two[name]):
        return 0.0
    return abs(one[name] - two[name])


def check_constants(rows: pd.DataFrame) -> None:
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


def check_cells(rows: pd.DataFrame) -> None:
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


def check_lines(rows: pd.DataFrame) -> None:
    """Demands that runs of one line, model and task differ between folders in their seed alone.

    They are compared by config.gin and the digest of the frozen weights where their run folders
    are there, else by what results.csv has of them.

    Raises:
      ValueError: they differ in something else, or as `statistics.main_runs`.
    """
    results = statistics.checked(rows)
    parts = [statistics.main_runs(results)]
    if (results["method"] == statistics.PROMPT_TUNING).any():
        parts.append(statistics.initialisation_runs(results))
    alike = ["line", "model", "task", statistics.PRETRAINING_SEED]
    for runs in parts:
        # Of a diverged run the steps are those it came to.
        runs = runs.sort_values("status", key=lambda status: status != "finished", kind="stable")
        firsts = runs.drop_duplicates([*alike, FOLDER])
        for place, of_line in firsts[firsts.duplicated(alike, keep=False)].groupby(alike):
            one, *others = of_line.to_dict("records")
            for other in others:
                for name, first, second in _apart(one, other):
                    raise ValueError(
                        f"runs of {one[FOLDER]} and {other[FOLDER]} would count as seeds of one "
                        f"line ({', '.join(map(str, place[:3]))}): {one['key']} and "
                        f"{other['key']}, which differ in {name}: {first} and {second}. Leave one "
                        "of the folders out, or rename the arm in one if both have it"
                    )


def _apart(one: Mapping[str, Any], two: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Returns what two runs differ in apart from their seed: names and both values."""
    if one["key"] == two["key"]:
        return []
    names = ["learning_rate", "settings"]
    names += ["steps"] if one["status"] == two["status"] == "finished" else []
    pairs = [(name, one.get(name), two.get(name)) for name in names]
    known = [pair for pair in pairs if all(pd.notna(value) and value != "" for value in pair[1:])]
    columns = [pair for pair in known if not _equal(*pair[1:])]
    return columns or [pair for pair in _configured_apart(one, two) if pair[0] != _SEED]


def _configured_apart(one: Mapping[str, Any], two: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Returns in what the run folders of two rows differ, as far as they are there."""
    folders = [Path(row[FOLDER]) / "runs" / str(row["key"]) for row in (one, two)]
    if not all(folder.is_dir() for folder in folders):
        return []
    from spjax import config  # here, because these load gin and JAX
    from spjax.studies import run_folder

    results = [run_folder.result(folder) or {} for folder in folders]
    first, second = (str(result.get("base_sha256", "")) for result in results)
    pairs = [("the frozen weights (base_sha256)", first, second)] if first != second else []
    pairs = [pair for pair in pairs if all(pair)]
    texts = [run_folder.config_text(folder) for folder in folders]
    if all(texts):
        values = [config.settings(text) for text in texts]
        for name in config.differences(*texts):
            if name != "Run.checkpoint" or not (first and second):  # the digest tells more
                one_value, two_value = (value.get(name, "absent") for value in values)
                pairs.append((name, one_value, two_value))
    return pairs
