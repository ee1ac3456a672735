"""Scores of readers that understand nothing, on the pocket tasks.

The majority baseline always says the commonest training target. The overlap baseline sees only
which share of the words of the query (question, hypothesis, answer) occurs in the text, and says
the label that this share has most often in the training data. The bag of words knows which words
a text has and nothing of their order: naive Bayes over the training data. For ReCoRD the last two
guess among the entities, and for WSC among the two candidates.

    python -m experiments.pocket.baselines

Scores in percent on the test data; a minute.
"""

from __future__ import annotations

import math
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


def overlap(record: dict[str, Any], schema: str) -> float:
    """Share of the words of the query that occur in the text, in tenths."""
    query, text = (
        set(normalised(" ".join(record[f] for f in fields)).split()) for fields in FIELDS[schema]
    )
    return round(len(query & text) / len(query), 1)


def overlap_accuracy(name: str) -> float:
    """Accuracy in percent of the label that is commonest in training at the same overlap."""
    labels: dict[float, Counter] = defaultdict(Counter)
    schema = TASKS[name].schema
    for record in TASKS[name].records("train"):
        labels[overlap(record, schema)][record["label"]] += 1
    says = {share: seen.most_common(1)[0][0] for share, seen in labels.items()}
    hits = [says.get(overlap(r, schema)) == r["label"] for r in TASKS[name].records("test")]
    return 100 * sum(hits) / len(hits)


def _words(record: dict[str, Any]) -> set[str]:
    """The words of a record, each with the name of its field."""
    texts = {field: text for field, text in record.items() if isinstance(text, str)}
    return {f"{field} {word}" for field in texts for word in normalised(texts[field]).split()}


def bag_accuracy(name: str) -> float:
    """Accuracy in percent of naive Bayes over the words of each field, with one added to counts."""
    train, test = (TASKS[name].records(split) for split in ("train", "test"))
    labels = Counter(record["label"] for record in train)
    seen = {label: Counter[str]() for label in labels}
    for record in train:
        seen[record["label"]].update(_words(record))

    def likelihood(words: set[str], label: int) -> float:
        counts, total = seen[label], labels[label]
        return math.log(total) + sum(math.log((counts[w] + 1) / (total + 2)) for w in words)

    says = [max(labels, key=lambda label: likelihood(_words(r), label)) for r in test]
    return 100 * sum(s == r["label"] for s, r in zip(says, test)) / len(test)


def main() -> None:
    """Prints the table as markdown."""
    print("| task | majority | word overlap | bag of words |\n| --- | --- | --- | --- |")
    for name, task in TASKS.items():
        majority = ", ".join(f"{k} {v:.0f}" for k, v in task.majority_rate().items())
        test = task.records("test")
        if task.schema == "record":
            guess = sum(len(r["answers"]) / len(r["entities"]) for r in test) / len(test)
            cheap = [f"em {100 * guess:.0f} (an entity at random)"] * 2
        elif task.schema == "wsc":
            cheap = ["accuracy 50 (a candidate at random)"] * 2
        else:
            overlapping = f"{overlap_accuracy(name):.0f}" if task.schema in FIELDS else ""
            cheap = [overlapping, f"{bag_accuracy(name):.0f}"]
        print(f"| {name} | {majority} | {' | '.join(cheap)} |")


if __name__ == "__main__":
    main()
