"""The nine pocket tasks: the eight of SuperGLUE and sentiment, as records of the TFDS schemas."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from spjax.pocket import records
from spjax.pocket.draws import BUCKETS, Draws, bucket
from spjax.pocket.records import Drawn

SPLITS = BUCKETS[1:]


@dataclass(frozen=True)
class PocketTask:
    """A task whose records are generated; the splits share no text with each other or pre-training.

    labels: label words by label integer, () where the target is free text. sizes: records a split
    (MultiRC: at least so many, questions are not broken up). ceiling: what a perfect reader scores
    in percent.
    """

    name: str
    description: str
    labels: tuple[str, ...]
    sizes: dict[str, int]
    draw: Callable[[Draws], Drawn] = field(repr=False)
    metrics: tuple[str, ...] = ("accuracy",)
    version: str = "2.0.0"
    ceiling: float = 100.0

    def records(self, split: str) -> list[dict[str, Any]]:
        """Returns the records of "train", "validation" or "test", the same in every process.

        Raises ValueError for another split.
        """
        if split not in SPLITS:
            raise ValueError(
                f"Pocket task {self.name} has no split {split!r}; it has {', '.join(SPLITS)}. "
                "Choose one of them."
            )
        return [dict(fields) for fields in _generate(self.name, split)]

    def majority_rate(self) -> dict[str, float]:
        """Returns the test score in percent of the commonest training target."""
        train, test = self.records("train"), self.records("test")
        if self.name == "wsc":
            # Trained on the names of right candidates only, so the commonest one is a name.
            name = _commonest([r["span1_text"] for r in train if r["label"]])
            hits = [(name == r["span1_text"]) == bool(r["label"]) for r in test]
            return {"accuracy": 100 * sum(hits) / len(hits)}
        if self.name == "record":
            name = _commonest([answer for r in train for answer in r["answers"]])
            rate = 100 * sum(name in r["answers"] for r in test) / len(test)
            return {"em": rate, "f1": rate}
        label = _commonest([r["label"] for r in train])
        right = [r["label"] == label for r in test]
        accuracy = 100 * sum(right) / len(right)
        if self.name == "cb":
            # F1 of the class always said is 2p / (1 + p), of the two others 0.
            return {"accuracy": accuracy, "mean_3class_f1": 2 * accuracy / (1 + accuracy / 100) / 3}
        if self.name == "multirc":
            groups: dict[int, bool] = {}
            for r, hit in zip(test, right):
                groups[r["idx"]["question"]] = groups.get(r["idx"]["question"], True) and hit
            f1 = 2 * accuracy / (1 + accuracy / 100) if label else 0.0
            return {"f1": f1, "exact_match": 100 * sum(groups.values()) / len(groups)}
        return {"accuracy": accuracy}


def _commonest(values: list) -> Any:
    counts = Counter(values)
    return min(counts, key=lambda value: (-counts[value], str(value)))


@cache
def _generate(name: str, split: str) -> tuple[dict[str, Any], ...]:
    """Draws until the split is full; skips other buckets and repetitions.

    Every label has its equal share, but in MultiRC, where a question's answers stay together.
    """
    task = TASKS[name]
    draws = Draws(1, list(TASKS).index(name), SPLITS.index(split))
    generated: list[dict[str, Any]] = []
    seen: set[str] = set()
    question = 0
    share = -(-task.sizes[split] // (len(task.labels) or 2))
    labels: Counter = Counter()
    while len(generated) < task.sizes[split]:
        drawn = task.draw(draws)
        if bucket(drawn.key) != split or drawn.unit in seen:
            continue
        label = drawn.records[0].get("label")
        if name != "multirc" and label is not None:
            if labels[label] == share:
                continue
            labels[label] += 1
        seen.add(drawn.unit)
        for answer, fields in enumerate(drawn.records):
            generated.append(fields | {"idx": _index(name, len(generated), question, answer)})
        question += 1
    return tuple(generated)


def _index(name: str, number: int, question: int, answer: int) -> Any:
    if name == "multirc":
        return {"paragraph": question, "question": question, "answer": answer}
    return {"passage": number, "query": number} if name == "record" else number


def _sizes(train: int) -> dict[str, int]:
    return {"train": train, "validation": 200, "test": 500}


_TRUTH = ("False", "True")
TASKS = {
    task.name: task
    for task in (
        PocketTask("boolq", "yes-no questions about a scene", _TRUTH, _sizes(2000), records.boolq),
        PocketTask(
            "cb",
            "what follows from reported beliefs",
            ("entailment", "contradiction", "neutral"),
            _sizes(500),
            records.cb,
            ("mean_3class_f1", "accuracy"),
        ),
        PocketTask(
            "copa",
            "cause or effect of an event",
            ("choice1", "choice2"),
            _sizes(600),
            records.copa,
        ),
        PocketTask(
            "multirc",
            "which answers to a question are right",
            _TRUTH,
            _sizes(2000),
            records.multirc,
            ("f1", "exact_match"),
        ),
        PocketTask(
            "record",
            "the person missing in a statement",
            (),
            _sizes(2000),
            records.record,
            ("em", "f1"),
        ),
        PocketTask(
            "rte",
            "what follows from an event",
            ("entailment", "not_entailment"),
            _sizes(1500),
            records.rte,
        ),
        PocketTask(
            "wic",
            "whether a word has the same sense twice",
            _TRUTH,
            _sizes(1500),
            records.wic,
        ),
        PocketTask("wsc", "whom a pronoun means", (), _sizes(600), records.wsc),
        PocketTask(
            "sentiment",
            "whether a review is positive",
            ("negative", "positive"),
            _sizes(2000),
            records.sentiment,
        ),
    )
}
