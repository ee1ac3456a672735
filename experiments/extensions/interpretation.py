"""Nearest words of the prompts of a study, and what prompts lose as words.

    python -m experiments.extensions.interpretation STUDY_FOLDER

For each model, initialization and task, over the seeds: how tight the clusters of nearest words
are beside those around random vectors (Lester et al. 2021, section 7), the best rank of a label
word and the share of labels that are the nearest word of some row, the score, that of the prompt
with each row replaced by its nearest word, and for prompts that were pulled to a text the share of
its words that is left (Khashabi et al. 2022). Writes interpretation.md and interpretation.json into
the folder, from which `spjax plot STUDY_FOLDER` judges the claims C13 and C14.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from experiments.extensions import stored
from spjax.analysis import interpretation
from spjax.data.tasks import registry
from spjax.inference import scoring
from spjax.models import quantization
from spjax.vocabularies import vocabulary

COLUMNS = {
    "cluster": "cluster",
    "random": "of random",
    "label_rank": "best label rank",
    "labels_nearest": "labels nearest",
    "row_norm": "row norm",
    "score": "score",
    "discretised": "as words",
    "lost": "lost by the pull",
    "recovered": "text left",
}


def look(item: stored.Stored) -> dict[str, Any]:
    """The figures of one run; scores in percent."""
    run, info = item.run, registry.get(item.run.task)
    words = vocabulary.load_vocabulary(run.resolved_vocabulary)
    table = run.open_model().weights["token_embedder"]["embedding"]
    embedding_VD = np.asarray(quantization.dequantize(table), np.float32)
    text = run.waywardness.text if run.waywardness else ""
    shown = {"labels": info.class_labels, "text": text}
    facts = interpretation.examine(item.prompt, embedding_VD, words, **shown)
    row = item.alike | {name: item.row[name] for name in ("seed", "key")}
    row |= {"cluster": facts["cluster"]["mean"], "random": facts["cluster"]["random_vectors"]}
    row["row_norm"] = facts["row_norm"]["mean"]
    if labels := facts.get("labels"):
        ranks = [label["rank"] for label in labels.values()]
        row |= {"label_rank": min(ranks), "labels_nearest": float(np.mean(np.equal(ranks, 1)))}
    before = interpretation.examine(stored.at_the_start(run), embedding_VD, words, **shown)
    row["cluster_before"] = before["cluster"]["mean"]
    if labels:
        kept = [i in label["neighbour_of"] for i, label in enumerate(labels.values())]
        row["labels_kept"] = float(np.mean(kept[: len(facts["rows"])]))
        for name, known in (("labels_near", labels), ("labels_near_before", before["labels"])):
            row[name] = float(np.mean([bool(x["neighbour_of"]) for x in known.values()]))
    if text:
        row["pull"] = run.waywardness.gamma
        row["recovered"] = facts["text"]["recovered"] / facts["text"]["tokens"]
    split = info.reported_split
    how = (run.task, split, run.eval_batch_size, 0, run.resolved_vocabulary)
    discretized = interpretation.discretised(item.prompt, embedding_VD, words, "cosine")
    for name, prompt in (("score", item.prompt), ("discretised", discretized)):
        predictor = stored.predictor(run, [prompt])
        row[name] = scoring.score_prompt(predictor, *how)["score"]
    row["words"] = discretized.provenance["words"]
    return row


def add_losses(rows: Sequence[dict[str, Any]]) -> None:
    """Notes for pulled prompts the score that the same run has over them without a pull."""

    def place(row: dict[str, Any]) -> tuple[Any, ...]:
        names = {*stored.ALIKE, "seed"} - {"arm", "init", "settings", "learning_rate"}
        return tuple(row[name] for name in sorted(names))

    free = {place(row): row["score"] for row in rows if row.get("pull") == 0}
    for row in rows:
        if row.get("pull") and place(row) in free:
            row["lost"] = free[place(row)] - row["score"]


def markdown(rows: Sequence[dict[str, Any]]) -> str:
    """Means over the seeds, one line for each line of a study at each model and task."""
    alike: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        alike.setdefault(tuple(row.get(name) for name in stored.ALIKE), []).append(row)
    names = stored.shown_columns(rows, ("model", "prompt_length", "init", "task"))
    head = [*names.values(), *COLUMNS.values()]
    lines = [f"| {' | '.join(head)} |", "| --- " * len(head) + "|"]
    order = ("model_parameters", *names)
    for group in sorted(alike.values(), key=lambda group: stored.sorting(group[0], order)):
        cells = stored.cells(group[0], list(names))
        for name in COLUMNS:
            values = [row[name] for row in group if name in row]
            cells.append(f"{np.mean(values):.2f}" if values else "-")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str]) -> None:
    """Prints the table and writes both files."""
    folder = Path(arguments[0])
    rows = [look(item) for item in stored.runs(folder)]
    add_losses(rows)
    stored.write(folder, "interpretation", "What prompts are made of", rows, markdown(rows))


if __name__ == "__main__":
    main(sys.argv[1:])
