"""Table 3 of Lester et al. 2021 for a study: prompts that differ in their seed, voting.

    python -m experiments.extensions.ensemble STUDY_FOLDER

Beside the majority vote over what prompts write, the mean of their probabilities over the labels,
where the task has labels. Scores of single prompts are those of greedy answers. Writes ensemble.md
and ensemble.json into the folder; `spjax plot STUDY_FOLDER` judges claim C12 on the latter.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.extensions import stored
from spjax.data.tasks import registry
from spjax.inference import ensembles

BLOCKS = 50  # of examples, for intervals


def groups(runs: Sequence[stored.Stored]) -> list[list[stored.Stored]]:
    """Runs that differ in their seed alone, where there are several, by size of the model.

    Other frozen models, learning rates and settings make other groups.
    """
    alike: dict[tuple[Any, ...], list[stored.Stored]] = {}
    for item in runs:
        alike.setdefault(tuple(item.alike.values()), []).append(item)
    several = [group for group in alike.values() if len(group) > 1]
    return sorted(
        several, key=lambda group: (group[0].row["model_parameters"], group[0].row["task"])
    )


def measure(group: Sequence[stored.Stored]) -> dict[str, Any]:
    """Scores in percent of some prompts together and alone."""
    run = group[0].run
    info = registry.get(run.task)
    prompts, names = [item.prompt for item in group], [item.row["key"] for item in group]
    split = info.reported_split
    how = (names, run.task, split, run.eval_batch_size, 0, run.resolved_vocabulary)
    voted = ensembles.score(stored.predictor(run, prompts), "vote", *how, blocks=BLOCKS)
    row = group[0].alike | {"prompts": len(group), "split": split, "keys": names}
    row |= {name: voted[f"{name}_score"] for name in ("mean", "best")}
    row["vote"] = voted["ensemble"]["score"]
    # For claim C12 (docs/claims.md): single prompts, and all without each block of examples.
    row["scores"] = [prompt["score"] for prompt in voted["prompts"]]
    row["validation"] = [item.row["validation_score"] for item in group]
    left_out = voted["left_out"]
    row["left_out"] = {"vote": left_out["ensemble"], "prompts": left_out["prompts"]}
    if info.labels:
        ranked = stored.predictor(run, prompts, "rank")
        row["probability"] = ensembles.score(ranked, "mean", *how)["ensemble"]["score"]
    return row


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """One line for each line of a study at each model and task."""
    names = stored.shown_columns(rows, ("model", "task"))
    head = [*names.values(), "prompts", "mean", "best", "vote", "mean probability"]
    lines = [f"| {' | '.join(head)} |", "| --- " * len(head) + "|"]
    for row in rows:
        scores = [f"{row[name]:.1f}" for name in ("mean", "best", "vote")]
        scores.append(f"{row['probability']:.1f}" if "probability" in row else "-")
        cells = [*stored.cells(row, list(names)), str(row["prompts"]), *scores]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str]) -> None:
    """Prints the table and writes both files."""
    folder = Path(arguments[0])
    rows = [measure(group) for group in groups(stored.runs(folder))]
    stored.write(folder, "ensemble", "Prompts of several seeds together", rows, markdown(rows))


if __name__ == "__main__":
    main(sys.argv[1:])
