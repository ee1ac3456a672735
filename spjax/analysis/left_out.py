"""Verdicts, estimates and saturation lengths of a study without each of its tasks in turn."""

from collections.abc import Mapping, Sequence
from typing import TypeGuard

import pandas as pd

from spjax.analysis import criteria, saturation, statistics
from spjax.analysis.claims import Judgment
from spjax.analysis.criteria import Part

_TEXT = (
    "The same criteria on the other tasks, each task left out in turn. A verdict that stays "
    '"cannot tell" says that the intervals stay wide, not that the tasks agree.'
)


def markdown(judgments: Sequence[Judgment], results: pd.DataFrame, saturated: pd.DataFrame) -> str:
    """Formats the section, "" where no claim is judged without a task.

    Args:
      judgments: of `claims.check`.
      results: rows of results.csv, the same as were judged.
      saturated: of `saturation.of_results`, of the same.

    Raises:
      ValueError: as `statistics.main_runs`.
    """
    judged = [each for each in judgments if each.of_tasks and each.without]  # not counts
    if not judged:
        return ""
    tasks = list(judged[0].without)
    rows = [row for judgment in judged for row in _rows(judgment)]
    rows += sorted(_saturation_rows(results, saturated, tasks), key=lambda row: row[0])
    head = ["", "", "all tasks", *(f"without {task}" for task in tasks)]
    rule = ["---", "---", *["---:"] * (len(head) - 2)]
    lines = ["## Without one task", "", _TEXT, ""]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in [head, rule, *rows])]) + "\n"


def _rows(judgment: Judgment) -> list[list[str]]:
    """Returns the verdicts on a claim and the estimates of its parts, on all tasks and without."""
    versions = [judgment, *judgment.without.values()]
    parts = [
        {part.text: criteria.interval_text(part.estimate) for part in each.parts if _tested(part)}
        for each in versions
    ]
    rows = [[judgment.claim.id, "verdict", *(each.verdict for each in versions)]]
    texts = list(dict.fromkeys(text for known in parts for text in known))
    rows += [
        [judgment.claim.id, text, *(known.get(text, "-") for known in parts)] for text in texts
    ]
    return rows


def _tested(part: Part | str) -> TypeGuard[Part]:
    return isinstance(part, Part) and not part.estimate.exact


def _saturation_rows(
    results: pd.DataFrame, saturated: pd.DataFrame, tasks: Sequence[str]
) -> list[list[str]]:
    """Returns P* of each variant and model, over all tasks and without each."""
    over_tasks = saturated if saturated.empty else saturated[saturated["task"] == ""]
    tables = [over_tasks]
    for task in tasks:
        remaining = statistics.without_task(results, task)
        others = tuple(other for other in tasks if other != task)
        tables.append(saturation.of_results(remaining, each_task=False, tasks=others))
    versions = list(map(_cells, tables))
    several = len({variant for _, variant, _ in versions[0]}) > 1
    rows = []
    for kind, variant, model in versions[0]:
        name = f"{variant}, {model}" if several else model
        rows.append([kind, name, *(x.get((kind, variant, model), "-") for x in versions)])
    return rows


def _cells(table: pd.DataFrame) -> Mapping[tuple[str, str, str], str]:
    """Returns P* by kind, variant and model, over tasks and of these tasks alone."""
    cells = {}
    for row in table.itertuples():
        star, ends, these_star, these_ends, _ = saturation.shown(row).values()
        cells["P*", row.variant, row.model] = f"{star} [{ends}]"
        cells["P* of these tasks", row.variant, row.model] = f"{these_star} [{these_ends}]"
    return cells
