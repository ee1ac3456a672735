"""Scores of readers that understand nothing, on the pocket tasks.

The majority baseline always says the commonest training target. The overlap baseline sees only
which share of the words of the query (question, hypothesis, answer) occurs in the text, and says
the label that this share has most often in the training data. For ReCoRD it guesses among the
entities.

    python -m experiments.pocket.baselines

Scores in percent on the test data; half a minute.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from spjax.pocket.draws import normalised
from spjax.pocket.tasks import TASKS

# The fields of the query and of the text that may hold its words.
FIELDS = {
    "boolq": (("question",), ("passage",)),
    "cb": (("hypothesis",), ("premise",)),
    "copa": (("choice1",), ("premise", "choice2")),
    "multirc": (("question", "answer"), ("paragraph",)),
    "rte": (("hypothesis",), ("premise",)),
    "wic": (("sentence1",), ("sentence2",)),
}


def overlap(record: dict[str, Any], name: str) -> float:
    """Share of the words of the query that occur in the text, in tenths."""
    query, text = (
        set(normalised(" ".join(record[f] for f in fields)).split()) for fields in FIELDS[name]
    )
    return round(len(query & text) / len(query), 1)


def overlap_accuracy(name: str) -> float:
    """Accuracy in percent of the label that is commonest in training at the same overlap."""
    labels: dict[float, Counter] = defaultdict(Counter)
    for record in TASKS[name].records("train"):
        labels[overlap(record, name)][record["label"]] += 1
    says = {share: seen.most_common(1)[0][0] for share, seen in labels.items()}
    hits = [says.get(overlap(r, name)) == r["label"] for r in TASKS[name].records("test")]
    return 100 * sum(hits) / len(hits)


def main() -> None:
    """Prints the table as markdown."""
    print("| task | majority | word overlap |\n| --- | --- | --- |")
    for name, task in TASKS.items():
        majority = ", ".join(f"{k} {v:.0f}" for k, v in task.majority_rate().items())
        if name in FIELDS:
            cheap = f"accuracy {overlap_accuracy(name):.0f}"
        elif name == "record":
            test = task.records("test")
            guess = sum(len(r["answers"]) / len(r["entities"]) for r in test) / len(test)
            cheap = f"em {100 * guess:.0f} (an entity at random)"
        else:
            cheap = ""
        print(f"| {name} | {majority} | {cheap} |")


if __name__ == "__main__":
    main()
