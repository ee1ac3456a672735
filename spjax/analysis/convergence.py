"""Time until a run converges: Lester et al. 2021, appendix A.1 and table 5.

A run has converged at its first evaluation whose validation score is at least 99 % of the mean of
the best scores of all runs that differ from it in their seed alone. Its time is that of the
training steps up to there (`times.jsonl`, see `spjax.training.times`), without the evaluations.
A run on a mixture whose tasks have rows of their own (`joined.read`) has no time for each of them.
"""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from spjax.analysis import rates, statistics
from spjax.files import DamagedFile, read_json_lines

SHARE = 0.99  # of the mean of the best scores
ALIKE = ["task", "line", "method", "prompt_length", "model", "model_parameters"]
ALIKE += [statistics.PRETRAINING_SEED, "learning_rate"]
_HEADING = (
    "Time of training until the validation score first reaches 99 % of the mean best score of its "
    "cell (Lester et al. 2021, table 5); mean ± standard deviation (ddof=1) over seeds. The time "
    "of evaluations is not in it: convergence.csv has both."
)
_SCORE = "validation/score"
_ABSENT = "-"
_log = logging.getLogger(__name__)


def of_folders(results: pd.DataFrame, study_folders: Sequence[Path]) -> pd.DataFrame:
    """Returns a row for each run that has logged scores and wall times.

    Args:
      results: the rows of results.csv, with the column `key`.
      study_folders: that hold the runs.

    Returns:
      Columns of `ALIKE`, seed, key, best (the best score in percent), threshold, and at the first
      evaluation that reaches it: step, train_seconds, evaluation_seconds; NaN where none does.
      runs: the most that trained side by side, whose time is their share of that of all.

    Raises:
      ValueError: as `statistics.main_runs`.
    """
    runs = statistics.main_runs(results)
    runs = runs[runs.groupby("key")["task"].transform("nunique") == 1]
    if "learning_rate" not in runs.columns:
        runs = runs.assign(learning_rate=math.nan)
    rows = []
    for run in runs.drop_duplicates([*ALIKE, "key"]).to_dict("records"):
        trace = _trace(str(run["key"]), study_folders)
        if trace:
            known = {name: run[name] for name in (*ALIKE, "seed", "key")}
            best = max(point[_SCORE] for point in trace)
            rows.append(known | {"best": best, "trace": trace})
    if not rows:
        return pd.DataFrame()
    table = pd.DataFrame(rows)
    table["threshold"] = SHARE * table.groupby(ALIKE, dropna=False)["best"].transform("mean")
    pairs = zip(table.pop("trace"), table["threshold"])
    reached = [_first(trace, threshold) for trace, threshold in pairs]
    return table.join(pd.DataFrame(reached, index=table.index))


def _first(trace: Sequence[Mapping[str, float]], threshold: float) -> dict[str, float]:
    """Returns the times of the first evaluation with this score."""
    names = ("step", "train_seconds", "evaluation_seconds", "runs")
    for point in trace:
        if point[_SCORE] >= threshold:
            return {name: point[name] for name in names}
    return dict.fromkeys(names[:-1], math.nan) | {"runs": trace[-1]["runs"]}


def _trace(key: str, study_folders: Sequence[Path]) -> list[dict[str, float]]:
    """Returns the evaluations of a run, with the times since its start; none without times."""
    from spjax.studies import run_folder  # here, because it loads JAX

    for study_folder in study_folders:
        folder = study_folder / "runs" / key
        result = run_folder.result(folder)
        if result is None or not (folder / "times.jsonl").is_file():
            continue
        if problem := run_folder.metrics_problem(folder, result):
            _log.warning("%s. The run is left out of the times.", problem)
            continue
        try:
            scores = read_json_lines(folder / "metrics.jsonl")
            return _merged(scores, _cumulated(read_json_lines(folder / "times.jsonl")))
        except (OSError, DamagedFile, ValueError) as error:
            _log.warning("%s. The run is left out of the times.", error)
    return []


def _cumulated(rows: Sequence[Mapping[str, Any]]) -> dict[int, dict[str, float]]:
    """Returns the times since the start of a run by step.

    Raises:
      ValueError: the rows do not go on from each other, beginning at step 0, or are no numbers.
    """
    totals: dict[int, dict[str, float]] = {}
    last, total = 0, {"train_seconds": 0.0, "evaluation_seconds": 0.0, "runs": 1}
    for row in rows:
        numbers = [row.get(name) for name in ("step", "since", *total)]
        usable = all(isinstance(number, (int, float)) and number >= 0 for number in numbers)
        if not usable or row["since"] != last or row["step"] < last:
            raise ValueError(f"times.jsonl has {json.dumps(row)} after step {last}")
        last = row["step"]
        seconds = {name: total[name] + row[name] for name in total if name != "runs"}
        total = {**seconds, "runs": max(total["runs"], row["runs"])}
        totals[last] = total
    return totals


def _merged(
    scores: Sequence[Mapping[str, Any]], totals: Mapping[int, Mapping[str, float]]
) -> list[dict[str, float]]:
    """Returns the evaluations with their times; none if one has no time."""
    scored = [row for row in scores if _SCORE in row]
    if not all(row["step"] in totals for row in scored):
        return []
    return [{"step": row["step"], _SCORE: row[_SCORE], **totals[row["step"]]} for row in scored]


def markdown(times: pd.DataFrame) -> str:
    """Formats the times of training, mean ± standard deviation (ddof=1) over seeds.

    Args:
      times: of `of_folders`.

    Returns:
      A row for each task and line and a column for each model; "" without times.
    """
    if times.empty:
        return ""
    order = times.sort_values(["model_parameters", "model"])
    models = list(dict.fromkeys(order["model"]))
    lines = [
        _HEADING,
        "",
        f"| task | line | {' | '.join(models)} |",
        f"| --- | --- |{' ---: |' * len(models)}",
    ]
    rows = times.sort_values(["task", "method", "prompt_length", "line"], key=rates.in_order)
    for (task, line), part in rows.groupby(["task", "line"], sort=False):
        cells = [_cell(part[part["model"] == model]) for model in models]
        lines.append(f"| {task} | {line} | {' | '.join(cells)} |")
    notes = []
    if times["step"].isna().any():
        notes.append("Counts in brackets: runs that reach it, of those with times.")
    if (width := times["runs"].max()) > 1:
        notes.append(
            f"Up to {width:.0f} runs trained side by side; the time of each is its share of theirs."
        )
    return "\n".join([*lines, *([""] if notes else []), *(f"- {note}" for note in notes)]) + "\n"


def _cell(part: pd.DataFrame) -> str:
    seconds = part["train_seconds"].dropna()
    if part.empty:
        return _ABSENT
    counts = f" ({len(seconds)} of {len(part)})" if len(seconds) < len(part) else ""
    if seconds.empty:
        return f"{_ABSENT}{counts}"
    spread = f" ± {clock(seconds.std())}" if len(seconds) > 1 else ""
    return f"{clock(seconds.mean())}{spread}{counts}"


def clock(seconds: float) -> str:
    """Formats a time as h:mm:ss or m:ss, below a minute in seconds."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
