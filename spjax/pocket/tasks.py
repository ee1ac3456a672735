"""The pocket tasks: the eight of SuperGLUE and sentiment, as records of the TFDS schemas.

Those of the graded world have names that begin with "graded_".
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from spjax.pocket import records
from spjax.pocket.draws import BUCKETS, Draws, bucket
from spjax.pocket.graded import lexicon
from spjax.pocket.graded import records as graded_records
from spjax.pocket.records import Drawn, Probe

SPLITS = BUCKETS[1:]
GRADED = "graded_"
NOTES, RARE = "_notes", "_rare"  # endings of graded tasks that are shifted


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

    @property
    def schema(self) -> str:
        """Returns the name of the dataset whose fields the records have."""
        return self.name.removeprefix(GRADED).partition("_")[0]

    def records(self, split: str) -> list[dict[str, Any]]:
        """Returns the records of "train", "validation" or "test", the same in every process.

        Raises ValueError for another split.
        """
        if split not in SPLITS:
            raise ValueError(
                f"Pocket task {self.name} has no split {split!r}; it has {', '.join(SPLITS)}. "
                "Choose one of them."
            )
        return [dict(fields) for fields in _generate(self.name, split)[0]]

    def probes(self, split: str) -> tuple[Probe, ...]:
        """Returns the probe of each record, () where the task has none."""
        return _generate(self.name, split)[1]

    def majority_rate(self) -> dict[str, float]:
        """Returns the test score in percent of the commonest training target."""
        train, test = self.records("train"), self.records("test")
        if self.schema == "wsc":
            # Trained on the names of right candidates only, so the commonest one is a name.
            name = _commonest([r["span1_text"] for r in train if r["label"]])
            hits = [(name == r["span1_text"]) == bool(r["label"]) for r in test]
            return {"accuracy": 100 * sum(hits) / len(hits)}
        if self.schema == "record":
            name = _commonest([answer for r in train for answer in r["answers"]])
            rate = 100 * sum(name in r["answers"] for r in test) / len(test)
            return {"em": rate, "f1": rate}
        label = _commonest([r["label"] for r in train])
        right = [r["label"] == label for r in test]
        accuracy = 100 * sum(right) / len(right)
        if self.schema == "cb":
            # F1 of the class always said is 2p / (1 + p), of the two others 0.
            return {"accuracy": accuracy, "mean_3class_f1": 2 * accuracy / (1 + accuracy / 100) / 3}
        if self.schema == "multirc":
            groups: dict[int, bool] = {}
            for r, hit in zip(test, right):
                groups[r["idx"]["question"]] = groups.get(r["idx"]["question"], True) and hit
            f1 = 2 * accuracy / (1 + accuracy / 100) if label else 0.0
            return {"f1": f1, "exact_match": 100 * sum(groups.values()) / len(groups)}
        return {"accuracy": accuracy}


def _commonest(values: list) -> Any:
    counts = Counter(values)
    return min(counts, key=lambda value: (-counts[value], str(value)))


@functools.cache
def _generate(name: str, split: str) -> tuple[tuple[dict[str, Any], ...], tuple[Probe, ...]]:
    """Draws until the split is full; skips other buckets and repetitions. Probes come along.

    Every label has its equal share, but in MultiRC, where a question's answers stay together.
    """
    task = TASKS[name]
    draws = Draws(1, list(TASKS).index(name), SPLITS.index(split))
    generated: list[dict[str, Any]] = []
    probes: list[Probe] = []
    seen: set[str] = set()
    question = 0
    share = -(-task.sizes[split] // (len(task.labels) or 2))
    labels: Counter = Counter()
    while len(generated) < task.sizes[split]:
        drawn = task.draw(draws)
        if bucket(drawn.key) != split or drawn.unit in seen:
            continue
        if drawn.asked and (bucket(drawn.asked) in SPLITS[1:]) != (split in SPLITS[1:]):
            continue
        label = drawn.records[0].get("label")
        if task.schema != "multirc" and label is not None:
            if labels[label] == share:
                continue
            labels[label] += 1
        seen.add(drawn.unit)
        for answer, fields in enumerate(drawn.records):
            index = _index(task.schema, len(generated), question, answer)
            generated.append(fields | {"idx": index})
        probes += drawn.probes
        question += 1
    return tuple(generated), tuple(probes)


def _index(schema: str, number: int, question: int, answer: int) -> Any:
    if schema == "multirc":
        return {"paragraph": question, "question": question, "answer": answer}
    return {"passage": number, "query": number} if schema == "record" else number


def _sizes(train: int, validation: int = 200, test: int = 500) -> dict[str, int]:
    return {"train": train, "validation": validation, "test": test}


_TRUTH = ("False", "True")
_PLAIN = (
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
_GRADED_DESCRIPTIONS = {
    "boolq": "whether a word may pass, by a rule over kinds",
    "cb": "what a phrase says of its worth",
    "copa": "cause or effect of an event",
    "multirc": "which words of a passage are of a kind",
    "record": "the word of which something holds",
    "rte": "whether a word was fed, by another rule over kinds",
    "wic": "whether a word stands beside two words of one kind",
    "wsc": "the word that a pronoun means",
    "sentiment": "whether a phrase is positive",
}


def _graded(task: PocketTask) -> PocketTask:
    """Returns the task of the graded world with the same schema."""
    return dataclasses.replace(
        task,
        name=GRADED + task.name,
        description=_GRADED_DESCRIPTIONS[task.name],
        sizes=_sizes(4000, 500, 2000),
        draw=getattr(graded_records, task.name),
        version="2.0.0",
    )


def _shifted(task: PocketTask) -> tuple[PocketTask, PocketTask]:
    """Returns a task of the graded world with its text as notes, and with rare words."""
    noted, rare = (f"{task.description}, {what}" for what in ("in notes", "of rare words"))
    field = graded_records.NOTED[task.schema]
    in_notes = functools.partial(graded_records.in_notes, draw=task.draw, field=field)
    with_rare = functools.partial(getattr(graded_records, task.schema), register=lexicon.RARE)
    return (
        dataclasses.replace(task, name=task.name + NOTES, description=noted, draw=in_notes),
        dataclasses.replace(task, name=task.name + RARE, description=rare, draw=with_rare),
    )


_GRADED = tuple(map(_graded, _PLAIN))
_SHIFTED = [_shifted(task) for task in _GRADED if task.schema in graded_records.NOTED]
TASKS = {task.name: task for task in (*_PLAIN, *_GRADED, *itertools.chain(*_SHIFTED))}
