"""Scores on tasks that a run was not trained on: Lester et al. 2021, tables 1 and 2."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from spjax.analysis import statistics
from spjax.analysis.resampling import Estimate

PREFERRED_METRIC = "f1"  # of tables with one number a task, as table 1 of the paper
_CELL = ["trained on", "model", "scored on", "metric"]


@dataclass(frozen=True)
class Difference:
    """Prompt tuning at the default length minus full fine-tuning, on tasks not trained on.

    Attributes:
      name: the tasks, the metric and the model in words.
      targets: the tasks scored, averaged over.
      estimate: the difference in points; None where no run of one of the two has all targets.
    """

    name: str
    targets: tuple[str, ...]
    estimate: Estimate | None


def differences(runs: pd.DataFrame, roles: Mapping[str, str]) -> list[Difference]:
    """Returns the differences of each task trained on and model, empty where nothing is compared.

    Of several targets the mean of one metric is compared, F1 where they all have it; of a single
    target each metric.

    Args:
      runs: of `statistics.main_runs`.
      roles: of `arms.roles`; the variants that have the role "" are compared.
    """
    runs = _transferred(runs[runs["variant"].map(roles) == ""])
    if runs.empty or not (runs["method"] == statistics.PROMPT_TUNING).any():
        return []
    length = statistics.default_length(runs)
    prompts = (runs["method"] == statistics.PROMPT_TUNING) & (runs["prompt_length"] == length)
    runs = runs[prompts | (runs["method"] == statistics.FULL_FINE_TUNING)]
    scores = []
    for run in runs.to_dict("records"):
        for value in _values(run):
            if value["scored on"] != value["trained on"]:
                fact = {"task": value["scored on"], statistics.SCORE: value["value"]}
                fact |= {statistics.ITEM_SCORES: None}  # of the task that was trained on
                scores.append(run | fact | {"trained_on": run["task"], "metric": value["metric"]})
    if not scores:
        return []
    table = pd.DataFrame(scores)
    targets_of = {name: tuple(sorted(set(of))) for name, of in table.groupby("trained_on")["task"]}
    compared = []
    for (source, model), part in table.groupby(["trained_on", "model"]):
        targets = targets_of[source]
        of_all = set.intersection(*(set(metrics) for _, metrics in part.groupby("task")["metric"]))
        metrics = sorted(of_all)
        if len(targets) > 1:
            metrics = [PREFERRED_METRIC] if PREFERRED_METRIC in of_all else metrics[:1]
        for metric in metrics or ["no metric of all"]:
            name = f"{source} to {', '.join(targets)} ({metric}) at {model}"
            scored = part[part["metric"] == metric]
            compared.append(Difference(name, targets, _difference(scored, targets)))
    return compared


def _difference(runs: pd.DataFrame, targets: tuple[str, ...]) -> Estimate | None:
    """Returns prompts minus full fine-tuning on all targets, None where either lacks one."""
    if runs.empty:
        return None
    suite = statistics.suite(runs, tasks=targets)
    lines = suite.cells.set_index("method")[["line", "model"]].apply(tuple, axis=1)
    pair = (statistics.PROMPT_TUNING, statistics.FULL_FINE_TUNING)
    prompts, full = (suite.estimates.get(lines.get(method)) for method in pair)
    return None if prompts is None or full is None else prompts - full


def markdown(results: pd.DataFrame) -> str:
    """Returns a Markdown table: a row for each metric of each scored task, a column for each line.

    The rows of the task that was trained on come first; cells are mean ± standard deviation
    (ddof=1) over seeds, in percent. "" where no run has been transferred.

    Args:
      results: the rows of results.csv.

    Raises:
      ValueError: as `statistics.main_runs`.
    """
    runs = _transferred(statistics.main_runs(results))
    if runs.empty:
        return ""
    values = pd.DataFrame([value for run in runs.to_dict("records") for value in _values(run)])
    shown = values.groupby([*_CELL, "line"], sort=False)["value"].agg(_spread).unstack("line")
    shown = shown.reindex(values[_CELL].drop_duplicates().apply(tuple, axis=1))
    head = [*_CELL, *shown.columns]
    rule = ["---"] * len(_CELL) + ["---:"] * len(shown.columns)
    body = [[*cell, *row] for cell, row in zip(shown.index, shown.fillna("-").to_numpy())]
    lines = [f"| {' | '.join(map(str, row))} |" for row in (head, rule, *body)]
    note = "A task is scored on its test split, or on validation where nobody has test labels."
    return "\n".join([*lines, "", note]) + "\n"


def _transferred(runs: pd.DataFrame) -> pd.DataFrame:
    """Returns the runs that have been scored on other tasks."""
    if "transfer_metrics" not in runs.columns:
        return runs[:0]
    return runs[~runs["transfer_metrics"].fillna("").isin(["", "{}"])]


def _values(run: dict) -> list[dict]:
    trained = _metrics(run, "test_metrics") or _metrics(run, "validation_metrics")
    scored = {run["task"]: trained, **_metrics(run, "transfer_metrics")}
    return [
        {"trained on": run["task"], "model": run["model"], "scored on": task, "metric": metric}
        | {"line": run["line"], "value": value}
        for task, metrics in scored.items()
        for metric, value in metrics.items()
        if metric.rpartition("/")[2] != "score"
    ]


def _metrics(run: dict, column: str) -> dict:
    """Returns the JSON object of a column; ValueError where it is something else."""
    text = run.get(column)
    try:
        content = json.loads(text) if isinstance(text, str) and text else {}
    except (ValueError, RecursionError):
        content = None
    nested = content.values() if column == "transfer_metrics" and isinstance(content, dict) else ()
    if not isinstance(content, dict) or not all(isinstance(metrics, dict) for metrics in nested):
        raise ValueError(
            f"the results have {text!r} as {column} of {run['task']}, where a JSON object is "
            "wanted; write results.csv again with `spjax sweep`"
        )
    return content


def _spread(values: pd.Series) -> str:
    return f"{values.mean():.1f}" + (f" ± {values.std():.1f}" if len(values) > 1 else "")
