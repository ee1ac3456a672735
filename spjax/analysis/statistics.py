"""Statistics of a study: scores averaged over tasks, with intervals by `resampling`.

A *line* is one way of tuning (prompt tuning at one length, full fine-tuning); a *cell* is one line
at one model size; a *suite run* is one cell at one seed, over all tasks. Scores are test scores in
percent: the checkpoint was chosen on validation, so the validation score is biased. Tasks without
public test labels (SuperGLUE, GLUE) are scored on validation, as in Lester et al. 2021, and noted.
"""

import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from spjax import methods
from spjax.analysis import arms, rates, resampling, settings, suite_notes
from spjax.analysis.resampling import Estimate, Sample
from spjax.files import DamagedFile, check_sum, read_bytes
from spjax.studies.results import ITEMS, SUMS

PROMPT_TUNING, FULL_FINE_TUNING = methods.PAPER, methods.PAPER_FULL
INITIALISATION_ARM = "initialisation"
PRETRAINING_SEED = "pretraining_seed"  # which draw of the frozen model; 0 where there is but one
SCORE = "test_score"
ITEM_SCORES = "item_scores"  # column: scores of the items of a run's test set in percent, or none
PAPER_LENGTH = 100  # the default prompt length, Lester et al. 2021 §3
COLUMNS = (
    *("arm", "model", "model_parameters", "task", "method", "prompt_length", "init", "seed"),
    *("status", SCORE, "majority_score", "ceiling"),
)
NUMBERS = (
    *("model_parameters", "prompt_length", "seed", "trainable_parameters", "stored_parameters"),
    "learning_rate",
    *(SCORE, "validation_score", "majority_score", "ceiling", PRETRAINING_SEED),
)
_WHOLE = ("model_parameters", "seed", PRETRAINING_SEED)  # known of every run
_NEVER_NEGATIVE = (*_WHOLE, "prompt_length", "trainable_parameters", "stored_parameters")
_TEXTS = ("model", "task", "method", "status")  # known of every run too
# Column: whether lines of prompt tuning have its name. Beside full fine-tuning "P = 20" says all.
PROMPTS_NAMED = "prompts_named"


@dataclass(frozen=True)
class Suite:
    """Scores averaged over the same tasks in every cell.

    cells: one row a cell, ordered by line, then by size: line, variant, method, prompt_length,
      init, model, model_parameters, mean, std (over suite runs, ddof=1; NaN for one), seeds
      (complete suite runs), expected (the most that one model of the variant has), low and high
      (the 95 % interval of the mean for these tasks, by `resampling`; NaN for one suite run), items
      (the fewest test items of a task, 1 where the interval is not over items), draws (of
      pre-training). A cell without one complete suite run has seeds 0 and NaN scores.
    tasks: the tasks averaged over. majority, ceiling: their means in percent, NaN when unknown.
    notes: for the reader, on omitted, incomplete and diverged runs.
    estimates: by line and model, of the cells that have scores.
    scored_on: "test" or "validation", or both, joined by a slash.
    """

    cells: pd.DataFrame
    tasks: tuple[str, ...]
    majority: float
    ceiling: float
    notes: tuple[str, ...]
    estimates: Mapping[tuple[str, str], Estimate]
    scored_on: str = "test"


def load(study_folder: Path) -> pd.DataFrame:
    """Reads results.csv of a study folder; ValueError where it is missing or unusable."""
    return checked(read(study_folder))


def read(study_folder: Path) -> pd.DataFrame:
    """Reads the rows of results.csv as they are written; errors are those of `load`.

    Runs of which items.parquet has the scores of single test items have these as `ITEM_SCORES`.
    """
    path = Path(study_folder) / "results.csv"
    if not path.is_file():
        raise ValueError(
            f"no results.csv in {study_folder}: a study folder is wanted, in which at least one "
            "run has finished; run `spjax sweep` first or name the folder it wrote to"
        )
    again = "write it again with `spjax sweep` (finished runs are not trained again)"
    try:
        check_sum(path.with_name(SUMS), path.name)
        data = read_bytes(path)
        if data and not data.endswith(b"\n"):
            raise ValueError("it is cut short, in the middle of a row")
        results = pd.read_csv(io.BytesIO(data))
        checked(results)  # for the error, which names this file
    except DamagedFile as error:  # which names the file
        raise ValueError(f"{error}; {again}") from error
    except pd.errors.EmptyDataError:
        raise ValueError(f"{path} is empty: not even column names; run the sweep again") from None
    except (OSError, ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"cannot use {path}: {error}; {again}") from error
    if (items := load_items(study_folder)) and "key" in results.columns:
        results[ITEM_SCORES] = [items.get(key) for key in results["key"]]
    return results


def load_items(study_folder: Path) -> dict[str, np.ndarray]:
    """Reads scores of single test items in percent, by the key of their run.

    Returns:
      {} where the study has no items.parquet.

    Raises:
      ValueError: it is damaged.
    """
    path = Path(study_folder) / ITEMS
    if not path.is_file():
        return {}
    try:
        check_sum(path.with_name(SUMS), path.name)
        table = pd.read_parquet(path, columns=["key", "scores"])
        return {key: _item_scores(scores) for key, scores in zip(table["key"], table["scores"])}
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(
            f"cannot use {path}: {error}; write it again with `spjax sweep` (finished runs are not "
            "trained again)"
        ) from error


def _item_scores(values: Any) -> np.ndarray:
    scores = np.asarray(values, float)
    if scores.ndim != 1 or not len(scores) or not np.all(np.isfinite(scores)):
        raise ValueError("a run has no finite scores")
    return scores


def checked(results: pd.DataFrame) -> pd.DataFrame:
    """Returns a copy with clean types; ValueError for missing columns, no rows, or no score."""
    missing = [name for name in COLUMNS if name not in results.columns]
    if missing:
        raise ValueError(
            f"the results lack the columns {missing}: wanted are {list(COLUMNS)}; "
            "write results.csv again with `spjax sweep`"
        )
    if results.empty:
        raise ValueError("the results have no rows: no run has finished yet; let the sweep go on")
    results = results.copy()
    if "settings" not in results.columns:
        results["settings"] = ""
    for name in ("arm", "init", "settings"):
        results[name] = results[name].astype(object).fillna("").astype(str)
    for name in set(NUMBERS) & set(results.columns):
        results[name] = _numbers(results[name])
    results["prompt_length"] = results["prompt_length"].fillna(0).astype(int)
    if PRETRAINING_SEED not in results.columns or results[PRETRAINING_SEED].isna().all():
        results[PRETRAINING_SEED] = 0
    for name in _TEXTS:
        if (empty := results[name].isna()).any():
            raise ValueError(
                f"the results have no value for {name} of row {empty.argmax() + 1}; write "
                "results.csv again with `spjax sweep`"
            )
        results[name] = results[name].astype(str)
    _score_without_test(results)
    if PROMPTS_NAMED not in results.columns:  # parts of a study name their lines as the whole does
        results[PROMPTS_NAMED] = _names_prompts(results)
    # Another form of the targets makes another line (its arm tells it apart), not another task.
    results["task"] = results["task"].str.replace(":sentinel", "")
    if results[SCORE].isna().all():
        states = results["status"].value_counts().to_dict()
        raise ValueError(
            f"none of the {len(results)} runs has a {SCORE} (status: {states}): at least one is "
            "needed; look at the messages in the run folders' result.json"
        )
    return results


def _numbers(column: pd.Series) -> pd.Series:
    """Converts a column to numbers, NaN for empty cells; ValueError for text and bad sizes."""
    numbers = pd.to_numeric(column, errors="coerce").replace([np.inf, -np.inf], np.nan)
    whole = column.name in _WHOLE
    bad = numbers.isna() if whole else numbers.isna() & column.notna() & ~_infinite(column)
    bad |= numbers.abs() > 2**53  # beyond exact numbers
    bad |= (numbers < 0) & (column.name in _NEVER_NEGATIVE)
    if bad.any():
        wanted = "a number" if whole else "a number or nothing"
        raise ValueError(
            f"the results have {column[bad].iloc[0]!r} as {column.name} of row {bad.argmax() + 1}, "
            f"where {wanted} is wanted; write results.csv again with `spjax sweep`"
        )
    return numbers.astype("int64") if whole else numbers


def _infinite(column: pd.Series) -> pd.Series:
    return pd.to_numeric(column, errors="coerce").isin([np.inf, -np.inf])


def _score_without_test(results: pd.DataFrame) -> None:
    """Fills in validation scores where no run of a task has a test score, and notes it."""
    if "scored_on" in results.columns:  # it has been done
        return
    results["scored_on"] = "test"
    if "validation_score" not in results.columns:
        return
    untested = results[SCORE].isna().groupby(results["task"]).transform("all")
    untested &= results["validation_score"].notna().groupby(results["task"]).transform("any")
    results.loc[untested, SCORE] = results.loc[untested, "validation_score"]
    results.loc[untested, "scored_on"] = "validation"


def _names_prompts(results: pd.DataFrame) -> bool:
    """Returns whether there are lines beside those of prompt lengths and full fine-tuning."""
    prompting = results["method"] == PROMPT_TUNING
    roles = results.loc[prompting, "arm"].map(arms.role_of)
    others = ~prompting & (results["method"] != FULL_FINE_TUNING)
    return bool(others.any() or (roles != "").any())


def default_length(results: pd.DataFrame) -> int:
    """Returns the length of the initialization arm's runs, else the one nearest to 100.

    Raises ValueError when there is no prompt-tuning run.
    """
    prompts = results[results["method"] == PROMPT_TUNING]
    if prompts.empty:
        raise ValueError(
            f"no run with method {PROMPT_TUNING!r} among {sorted(set(results['method']))}: "
            "a default prompt length needs at least one"
        )
    ablation = prompts[prompts["arm"] == INITIALISATION_ARM]
    lengths = (ablation if len(ablation) else prompts)["prompt_length"].unique()
    # On a log scale, as lengths are swept.
    return int(min(lengths, key=lambda length: abs(math.log(max(length, 1) / PAPER_LENGTH))))


def without_task(results: pd.DataFrame, task: str) -> pd.DataFrame:
    """Returns the rows of all tasks but one, whose variant with a sentinel goes with it."""
    return results[results["task"].str.removesuffix(":sentinel") != task]


def main_runs(results: pd.DataFrame) -> pd.DataFrame:
    """Returns the runs of the lines, without initialization ablations, with `variant` and `line`.

    A configuration that belongs to the ablation and to the main arm is trained once and listed
    under either name, so ablation rows with the main arm's initialization fill its holes. Runs that
    only `arm` or `init` tells apart become variants, that is lines of their own; ValueError when
    not even these do. Of several learning rates only the chosen one is left (`rates.chosen`).
    """
    results = rates.chosen(checked(results))
    ablation = results["arm"] == INITIALISATION_ARM
    main, extra = results[~ablation], results[ablation]
    if not (main["method"] == PROMPT_TUNING).any():
        main = results
    else:
        inits = main.loc[main["method"] == PROMPT_TUNING, "init"].unique()
        extra = extra[extra["init"].isin(inits)]
        cell = ["method", "model", "prompt_length", "init", "task", *_RUN]
        measured = pd.MultiIndex.from_frame(main[cell])
        extra = extra[~pd.MultiIndex.from_frame(extra[cell]).isin(measured)]
        main = pd.concat([main, extra])
    return _with_lines(main.copy())


def initialisation_runs(results: pd.DataFrame) -> pd.DataFrame:
    """Returns prompt-tuning runs at the default length; the line is the initialization.

    Of several learning rates and settings of an arm the chosen ones are left. Other arms than the
    ablation count for initializations that it lacks: else they may differ in more than their seed.

    Raises:
      ValueError: as `checked`, `rates.chosen` and `settings.chosen`, or runs of an arm measure the
        same cell.
    """
    results = rates.chosen(checked(results))
    runs = results[results["method"] == PROMPT_TUNING]
    runs = runs[runs["prompt_length"] == default_length(results)]
    runs = settings.chosen(runs)
    _demand_one(runs, ["arm", "model", "prompt_length", "task", *_RUN, "init"])
    ablation = runs["arm"] == INITIALISATION_ARM
    runs = runs[ablation | ~runs["init"].isin(runs.loc[ablation, "init"].unique())]
    runs = runs.drop_duplicates(["model", "task", *_RUN, "init"])
    return runs.assign(variant=PROMPT_TUNING, line=runs["init"])


def suite(
    runs: pd.DataFrame,
    tasks: tuple[str, ...] | None = None,
) -> Suite:
    """Averages over tasks for each suite run, then computes means, deviations and intervals.

    The tasks are those for which the most (suite run, task) scores can be compared, see
    `shared_tasks`; a suite run that lacks one of them has no suite score. The standard deviation
    is the sample one (ddof=1), as in the plots of the paper (seaborn, Appendix A.2).

    Args:
      runs: of `main_runs` or `initialisation_runs`.
      tasks: to average over instead.
    """
    tasks = shared_tasks(runs) if tasks is None else tasks
    unit = [*_CELL, *_RUN]
    scores = runs.set_index([*unit, "task"])[SCORE].unstack("task")
    scores = scores.reindex(columns=list(tasks))
    estimates = _estimates(runs, scores)
    cells = _spread(scores.mean(axis=1, skipna=False).groupby(level=_CELL), runs, estimates)
    used = runs[runs["task"].isin(tasks)]
    return Suite(
        cells=cells,
        tasks=tasks,
        majority=_task_constant(used, "majority_score", tasks),
        ceiling=_task_constant(used, "ceiling", tasks),
        notes=(*suite_notes.notes(runs, cells, tasks), *diverged_notes(runs)),
        estimates=estimates,
        scored_on="/".join(sorted(set(used["scored_on"]))),
    )


def by_task(runs: pd.DataFrame) -> pd.DataFrame:
    """Returns mean, deviation and interval of each cell's single tasks, columns as Suite.cells.

    Additionally task, majority and ceiling (percent).
    """
    parts = []
    for task, part in runs.groupby("task", sort=True):
        scores = part.set_index([*_CELL, *_RUN])[[SCORE]].set_axis([task], axis=1)
        grouped = scores[task].groupby(level=_CELL)
        cells = _spread(grouped, part, _estimates(part, scores))
        constants = {
            "majority": _task_constant(part, "majority_score", (task,)),
            "ceiling": _task_constant(part, "ceiling", (task,)),
        }
        parts.append(cells.assign(task=task, **constants))
    return pd.concat(parts, ignore_index=True)


def diverged_notes(runs: pd.DataFrame) -> list[str]:
    """Returns one note on diverged runs; none when there are none."""
    lost = runs[runs["status"] == "diverged"]
    if lost.empty:
        return []
    scored = int(lost[SCORE].notna().sum())
    names = [
        f"{suite_notes.cell_name(row)} {row.task} seed {row.seed}" for row in lost.itertuples()
    ]
    return [
        (
            f"Diverged: {len(lost)} of {len(runs)} runs, {scored} counted at the last good "
            f"checkpoint, {len(lost) - scored} without a score: {suite_notes.listed(names)}."
        )
    ]


_RUN = [PRETRAINING_SEED, "seed"]  # a suite run of a cell
_CELL = ["line", "variant", "method", "prompt_length", "init", "model", "model_parameters"]


def _with_lines(runs: pd.DataFrame) -> pd.DataFrame:
    """Adds `variant` (method, and arm or init where needed) and `line` (its label)."""
    runs["variant"] = runs["method"]
    # Other frozen models or data are another line even where no two runs of theirs share a cell.
    role = runs["arm"].map(arms.role_of)
    several = role.groupby(runs["method"]).transform("nunique") > 1
    runs["variant"] += (" " + runs["arm"]).where((role != "") & several, "")
    cell = ["variant", "model", "prompt_length", "task", *_RUN]
    for column in ("settings", "arm", "init"):
        doubled = runs.groupby(cell)[column].transform("nunique") > 1
        several = runs["method"].isin(runs.loc[doubled, "method"])
        runs.loc[several, "variant"] += " " + runs.loc[several, column]
    _demand_one(runs, cell)
    runs["variant"] = runs["variant"].str.strip()
    # init is constant within a line from here on, or it would split the line's cells.
    runs["init"] = runs.groupby("variant")["init"].transform(lambda i: "|".join(sorted(set(i))))
    silent = "" if runs[PROMPTS_NAMED].any() else PROMPT_TUNING
    runs["line"] = [_label(*key, silent) for key in zip(runs["variant"], runs["prompt_length"])]
    return runs


def _demand_one(runs: pd.DataFrame, cell: list[str]) -> None:
    """Raises ValueError where two runs are of one cell."""
    doubled = runs[runs.duplicated(cell, keep=False)]
    if len(doubled):
        raise ValueError(
            f"{len(doubled)} runs measure a cell that another run measures too, first "
            f"{doubled.iloc[0][cell].to_dict()}: arm, settings, method, prompt_length, init, "
            "model, task and seeds must be different for every run; give their arms different names"
        )


def _label(variant: str, length: int, silent: str) -> str:
    """Returns the name of a line; a variant that is `silent` is named by its length alone."""
    name = "" if variant == silent else variant.replace("_", " ").replace("fine t", "fine-t")
    return ", ".join(part for part in (name, f"P = {length}" if length else "") if part)


def shared_tasks(runs: pd.DataFrame) -> tuple[str, ...]:
    """Returns the task set that keeps the most scores: (tasks) x (suite runs with all of them).

    In a finished study these are all tasks. In one still running a cell just begun does not
    shrink the set for all others, and a task just begun does not throw out all cells.
    """
    scored = runs[runs[SCORE].notna()]
    have = scored.groupby(["line", "model", *_RUN])["task"].agg(frozenset)
    candidates = {*have, frozenset.intersection(*have)} if len(have) else {frozenset(runs["task"])}

    def kept(tasks: frozenset[str]) -> tuple[int, int, list[str]]:
        return len(tasks) * sum(tasks <= other for other in have), len(tasks), sorted(tasks)

    return tuple(sorted(max(candidates, key=kept)))


def _estimates(runs: pd.DataFrame, scores: pd.DataFrame) -> dict[tuple[str, str], Estimate]:
    """Returns estimates by line and model, of scores with a row a suite run and a column a task."""
    complete = scores.dropna().droplevel([name for name in _CELL if name not in ("line", "model")])
    if complete.empty:
        return {}
    index = complete.index
    names = list(dict.fromkeys(zip(index.get_level_values(0), index.get_level_values(1))))
    places = {name: place for place, name in enumerate(names)}
    at_C = [places[name] for name in zip(index.get_level_values(0), index.get_level_values(1))]
    draws = sorted(set(index.get_level_values(PRETRAINING_SEED)))
    seeds = sorted(set(index.get_level_values("seed")))
    shape = (len(names), len(complete.columns), len(draws), len(seeds))
    scores_CTMS = np.full(shape, np.nan)
    at_M = [draws.index(draw) for draw in index.get_level_values(PRETRAINING_SEED)]
    at_S = [seeds.index(seed) for seed in index.get_level_values("seed")]
    scores_CTMS[at_C, :, at_M, at_S] = complete.to_numpy(float)
    of_tasks = [_items(runs, task, places) for task in complete.columns]
    sample = Sample(scores_CTMS, of_tasks)
    estimates = ((name, sample.estimate(place)) for name, place in places.items())
    return {name: estimate for name, estimate in estimates if estimate is not None}


def _items(
    runs: pd.DataFrame, task: str, places: Mapping[tuple[str, str], int]
) -> np.ndarray | None:
    """Returns mean item scores of a task by cell, NaN of a cell without; None if there are none."""
    if ITEM_SCORES not in runs.columns:
        return None
    part = runs[runs["task"] == task]
    scores: list[list[np.ndarray]] = [[] for _ in places]
    for line, model, of_run in zip(part["line"], part["model"], part[ITEM_SCORES]):
        if (line, model) in places and isinstance(of_run, np.ndarray):
            scores[places[line, model]].append(of_run)
    lengths = {len(values) for of_cell in scores for values in of_cell}
    if len(lengths) != 1:
        return None
    unknown = np.full(lengths.pop(), np.nan)  # as of runs on a mixture
    return np.stack([np.mean(of_cell, axis=0) if of_cell else unknown for of_cell in scores])


def _spread(
    grouped, runs: pd.DataFrame, estimates: Mapping[tuple[str, str], Estimate]
) -> pd.DataFrame:
    """Returns mean, std, count and interval of grouped scores, in the order of lines and sizes."""
    cells = grouped.agg(["mean", "std", "count"]).reset_index()
    cells = cells.rename(columns={"count": "seeds"})
    of_model = ["variant", "model"]  # models may have other draws of pre-training
    counts = runs.drop_duplicates([*of_model, *_RUN]).groupby(of_model).size()
    cells["expected"] = cells["variant"].map(counts.groupby("variant").max())
    last = cells["method"] == FULL_FINE_TUNING
    order = ["last", "variant", "prompt_length", "line", "model_parameters", "model"]
    cells = cells.assign(last=last).sort_values(order, key=rates.in_order, ignore_index=True)
    cells = cells.drop(columns="last")
    bounds, items, draws = np.full((len(cells), 2), np.nan), *np.ones((2, len(cells)), int)
    for place, name in enumerate(zip(cells["line"], cells["model"])):
        if name in estimates:
            cells.loc[place, "mean"] = estimates[name].value
            draws[place] = estimates[name].units[resampling.PRETRAINING]
            if not estimates[name].trained_once:  # items alone do not say how training varies
                bounds[place] = np.clip(estimates[name].interval(these_tasks=True), 0, 100)
                items[place] = estimates[name].units[resampling.ITEMS]
    return cells.assign(low=bounds[:, 0], high=bounds[:, 1], items=items, draws=draws)


def _task_constant(runs: pd.DataFrame, column: str, tasks: Iterable[str]) -> float:
    """Averages over tasks a value that all runs of a task share; NaN if one lacks it."""
    return float(runs.groupby("task")[column].mean().reindex(list(tasks)).mean(skipna=False))
