"""Cells of a study in the views of a page: the mean over tasks, and each task."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from spjax.analysis import statistics
from spjax.analysis.figures import _style

VIEW = "view"  # column: the mean over tasks, or the task
_LISTED = 9  # runs that are named one by one
_COLUMNS = [
    *("line", "variant", "method", "prompt_length", "model", "model_parameters"),
    *("mean", "low", "high", "std", "seeds", "expected", VIEW),
]


@dataclass(frozen=True)
class StudyCells:
    """Scores of a study by way of tuning and model.

    Attributes:
      runs: of `statistics.main_runs`.
      suite: of `statistics.suite` on them.
    """

    runs: pd.DataFrame
    suite: statistics.Suite

    @functools.cached_property
    def views(self) -> list[str]:
        """Returns the names of the views, the one over all tasks first."""
        tasks = self.suite.tasks
        first = f"mean of {len(tasks)} tasks" if len(tasks) > 1 else tasks[0]
        return list(dict.fromkeys([first, *sorted(set(self.runs["task"]))]))

    @functools.cached_property
    def by_task(self) -> pd.DataFrame:
        """Returns the cells of single tasks, as `statistics.by_task`."""
        return statistics.by_task(self.runs)

    @functools.cached_property
    def scored(self) -> pd.DataFrame:
        """Returns the cells of all views that have a score, with texts on interval and runs."""
        by_task = self.by_task
        of_tasks = by_task.assign(**{VIEW: by_task["task"]})
        of_tasks = of_tasks[of_tasks["task"] != self.views[0]]
        suite = self.suite.cells.assign(**{VIEW: self.views[0]})
        cells = pd.concat([suite[_COLUMNS], of_tasks[_COLUMNS]], ignore_index=True)
        cells = cells[cells["seeds"] > 0].reset_index(drop=True)
        return cells.assign(
            complete=cells["seeds"] >= cells["expected"],
            score=[f"{mean:.1f} %" for mean in cells["mean"]],
            interval=[interval_text(row) for row in cells.itertuples()],
            seeds_text=[seeds_text(row) for row in cells.itertuples()],
            runs=[self._runs_text(row) for row in cells.itertuples()],
        )

    @functools.cached_property
    def references(self) -> list[dict[str, Any]]:
        """Returns the lines that scores are compared with: majority and ceiling of each view."""
        constants = {self.views[0]: (self.suite.majority, self.suite.ceiling)}
        for row in self.by_task.drop_duplicates("task").itertuples():
            constants.setdefault(row.task, (row.majority, row.ceiling))
        rows = []
        for view, (majority, ceiling) in constants.items():
            if math.isfinite(majority):
                rows.append((view, _style.MAJORITY, majority))
            if math.isfinite(ceiling) and ceiling < 100:
                rows.append((view, _style.CEILING, ceiling))
        return [
            {VIEW: view, "name": name, "value": value, "text": f"{name}: {value:.1f} %"}
            for view, name, value in rows
        ]

    @functools.cached_property
    def _suite_runs(self) -> dict[tuple[str, str, str], list[str]]:
        """Returns by view, line and model a text on each of its suite runs."""
        runs = self.runs[self.runs[statistics.SCORE].notna()]
        texts: dict[tuple[str, str, str], list[str]] = {}
        tasks: Sequence[str] = self.suite.tasks
        unit = ["line", "model", statistics.PRETRAINING_SEED, "seed"]
        draws = runs[statistics.PRETRAINING_SEED].nunique() > 1
        for key, part in runs[runs["task"].isin(tasks)].groupby(unit):
            if len(part) == len(tasks):
                _note_run(texts, self.views[0], key, part[statistics.SCORE].mean(), draws)
        for (task, *key), part in runs.groupby(["task", *unit]):
            if task != self.views[0]:
                _note_run(texts, task, key, part[statistics.SCORE].mean(), draws)
        return texts

    def _runs_text(self, row: Any) -> str:
        view = getattr(row, VIEW)
        texts = self._suite_runs.get((view, row.line, row.model), [])
        more = f", and {len(texts) - _LISTED} more" if len(texts) > _LISTED else ""
        times = len(self.suite.tasks) if view == self.views[0] else 1
        return f"{len(texts) * times}: {', '.join(texts[:_LISTED])}{more}"


def of_results(results: pd.DataFrame) -> StudyCells:
    """Returns the cells of the rows of results.csv.

    Raises:
      ValueError: as `statistics.main_runs`.
    """
    runs = statistics.main_runs(results)
    return StudyCells(runs, statistics.suite(runs))


def interval_text(row: Any) -> str:
    """Returns the interval of a cell in words."""
    return "none" if math.isnan(row.low) else f"{row.low:.1f} to {row.high:.1f}"


def seeds_text(row: Any) -> str:
    """Returns the number of a cell's seeds in words."""
    return f"{row.seeds} of {row.expected}"


def _note_run(texts: dict, view: str, key: Sequence[Any], score: float, draws: bool) -> None:
    line, model, draw, seed = key
    name = f"draw {draw} seed {seed}" if draws else f"seed {seed}"
    texts.setdefault((view, line, model), []).append(f"{name} {score:.1f}")
