"""The examples of the tasks of `capacity_tasks`, made from the pieces of a vocabulary."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from spjax.data.tasks import capacity_tasks
from spjax.data.tasks.capacity_tasks import COPIES, CapacityTask
from spjax.vocabularies.vocabulary import Vocabulary, load_vocabulary

MOST_WORDS = 4096  # of a vocabulary that are drawn from, the commonest
_SEED = 23
_GRADED_WORDS = 512  # the commonest, of which the smallest rung knows three in four
_LEAST_OF_CLASS = 4  # words, for which every split has one
_WORD = re.compile("▁([a-z]{3,})")

Pair = tuple[str, str]  # input without its context, target


@functools.cache
def words(vocabulary: str) -> tuple[str, ...]:
    """Returns the words that are one piece of a vocabulary, commonest first.

    Args:
      vocabulary: name or path.
    """
    loaded = load_vocabulary(vocabulary)
    spelled = (_WORD.fullmatch(loaded.piece(token)) for token in range(3, loaded.size))
    spellings = [match[1] for match in spelled if match]
    pieces = zip(spellings, loaded.encode(spellings))
    return tuple(word for word, ids in pieces if len(ids) == 1)[:MOST_WORDS]


@functools.cache
def questions_and_answers(vocabulary: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the words that inputs are drawn from, and those that labels are drawn from.

    A model can write a word that its text has as an answer with fewer soft tokens than any other.
    For the pocket vocabularies these are known: people, kinds of things and opinions, with colors,
    jobs, days, places, objects and occasions as labels; of the graded world its invented words, and
    the 49 answers that its text has, so that K is at most 49. For other vocabularies both are
    `words`.
    """
    if is_vocabulary(vocabulary, "graded"):
        from spjax.pocket.graded import lexicon as graded_lexicon
        from spjax.pocket.graded import texts

        return graded_lexicon.WORDS[:_GRADED_WORDS], texts.ANSWERS
    if is_vocabulary(vocabulary, "pocket"):
        from spjax.pocket import lexicon

        inputs = (*lexicon.PEOPLE, *lexicon.KIND_OF, *lexicon.PRAISE, *lexicon.BLAME)
        labels = (*lexicon.COLOURS, *lexicon.JOBS, *lexicon.DAYS, *lexicon.PLACES)
        labels = (*labels, *lexicon.OBJECTS, *lexicon.OCCASIONS)
        return inputs, tuple(map(_bare, labels))
    return words(vocabulary), words(vocabulary)


def is_vocabulary(vocabulary: str, shipped: str) -> bool:
    """Returns whether a name or path is that of a shipped vocabulary."""
    return load_vocabulary(vocabulary).fingerprint == load_vocabulary(shipped).fingerprint


def _bare(text: str) -> str:
    """Returns the noun of a phrase of the pocket world: "the cup" is "cup"."""
    return text.removeprefix("the ").removesuffix(" coins")


def records(source: str, split: str, vocabulary: str) -> list[dict[str, Any]]:
    """Returns the records of a split, the same in every process.

    Args:
      source: a task's.
      split: "train", "validation" or "test".
      vocabulary: name or path of that of the model that is to read them.

    Raises:
      ValueError: the vocabulary has too few words for the task, or cannot tell its inputs or the
        first pieces of its labels apart.
    """
    name = source.removeprefix(capacity_tasks.SOURCE)
    task, _ = capacity_tasks.parse(name)
    draw = _Draw(task, name, vocabulary)
    pairs = _PAIRS[task.kind](draw, split)
    check(pairs, load_vocabulary(vocabulary), name, task.kind == "recitation")
    texts = [
        (draw.placed(text, copy), target) for copy in draw.copies(split) for text, target in pairs
    ]
    return [
        {"inputs": text, "targets": target, "label": -1, "idx": number}
        for number, (text, target) in enumerate(texts)
    ]


def check(pairs: Sequence[Pair], vocabulary: Vocabulary, name: str, one_text: bool = False) -> None:
    """Demands that a vocabulary tells inputs apart, and labels by their first piece.

    Args:
      pairs: input and target texts.
      vocabulary: that reads them.
      name: of the task, for messages.
      one_text: whether there is but one target, which may begin with any piece.

    Raises:
      ValueError: two inputs have the same pieces, a text has one that the vocabulary lacks, or two
        labels begin with the same.
    """
    of_input: dict[tuple[int, ...], str] = {}
    of_label: dict[int, str] = {}
    for text, target in pairs:
        ids, answer = tuple(vocabulary.encode(text)), vocabulary.encode(target)
        for written, pieces in ((text, ids), (target, answer)):
            if vocabulary.unk_id in pieces:
                raise ValueError(
                    f"{name}: the vocabulary {vocabulary.path} lacks a piece of {written!r}; "
                    "choose another task or a model whose vocabulary has it."
                )
        if (other := of_input.setdefault(ids, text)) != text:
            raise ValueError(
                f"{name}: {other!r} and {text!r} are the same tokens in the vocabulary "
                f"{vocabulary.path}, so that no prompt can tell them apart."
            )
        if not one_text and (other := of_label.setdefault(answer[0], target)) != target:
            raise ValueError(
                f"{name}: the labels {other!r} and {target!r} begin with the same piece in the "
                f"vocabulary {vocabulary.path}, so that they are no different first answers; "
                "choose labels of one piece."
            )


class _Draw:
    """The words of one draw of a task."""

    def __init__(self, task: CapacityTask, name: str, vocabulary: str) -> None:
        self.task, self.name, self.vocabulary = task, name, vocabulary
        self.inputs, self.answers = questions_and_answers(vocabulary)

    def rng(self, what: int) -> np.random.Generator:
        """Returns the generator of one of the task's choices."""
        kind = capacity_tasks.KINDS.index(self.task.kind)
        return np.random.default_rng([_SEED, kind, self.task.draw, what])

    def drawn(self, count: int, listed: Sequence[str], what: int) -> list[str]:
        """Draws different words of a list; fewer are the first of more.

        Raises:
          ValueError: the list has fewer.
        """
        if count > len(listed):
            path = load_vocabulary(self.vocabulary).path
            raise ValueError(
                f"{self.name} takes {count:,} words, and there are {len(listed):,} for the "
                f"vocabulary {path}; make K smaller."
            )
        order = self.rng(what).permutation(len(listed))
        return [listed[i] for i in order[:count]]

    @functools.cached_property
    def labels(self) -> list[str]:
        """The label of each item; every label has its equal share."""
        task = self.task
        labels = self.drawn(task.labels, self.answers, 1)
        return [labels[i % task.labels] for i in range(task.items)]

    def copies(self, split: str) -> Iterator[np.random.Generator | None]:
        """Yields a generator of words around it for each copy of an input; None for no context."""
        if not self.task.context:
            return iter([None])
        first = 100 * (1 + list(COPIES).index(split))
        return (self.rng(first + copy) for copy in range(COPIES[split]))

    @functools.cached_property
    def others(self) -> list[str]:
        """The words of the vocabulary that stand in no example.

        Raises:
          ValueError: there are fewer than the context takes.
        """
        splits = COPIES if self.task.kind != "recitation" else ()
        pairs = [pair for split in splits for pair in _PAIRS[self.task.kind](self, split)]
        used = {word for text, _ in pairs for word in re.findall("[A-Za-z]+", text)}
        others = [word for word in words(self.vocabulary) if word not in used]
        if len(others) < self.task.context:
            path = load_vocabulary(self.vocabulary).path
            raise ValueError(
                f"{self.name} puts {self.task.context:,} other words around each, and the "
                f"vocabulary {path} has {len(others):,} that are one piece; make the context "
                "or K smaller."
            )
        return others

    def placed(self, text: str, rng: np.random.Generator | None) -> str:
        """Returns a text among other words, drawn anew; alone without a generator."""
        if rng is None:
            return text
        chosen = rng.choice(len(self.others), self.task.context, replace=False)
        around = [self.others[i] for i in chosen]
        places = {"first": 0, "middle": len(around) // 2, "last": len(around)}
        around.insert(places[self.task.place], text)
        return " ".join(filter(None, around))


def _associations(draw: _Draw, split: str) -> list[Pair]:
    del split
    return list(zip(draw.drawn(draw.task.items, draw.inputs, 0), draw.labels))


def _recitation(draw: _Draw, split: str) -> list[Pair]:
    del split
    listed = draw.answers
    text = draw.rng(1).choice(len(listed), draw.task.items)  # with repetitions
    return [("", " ".join(listed[i] for i in text))]


def _exceptions(draw: _Draw, split: str) -> list[Pair]:
    """Yields as many words that follow the rule as exceptions, each with several other words."""
    task = draw.task
    sizes = capacity_tasks.rule_words(task)
    before = task.items + sum(list(sizes.values())[: list(sizes).index(split)])
    listed = draw.drawn(task.items + sum(sizes.values()), words(draw.vocabulary), 0)
    rng, others = draw.rng(2 + list(sizes).index(split)), draw.answers
    pairs = []
    for word in listed[before : before + sizes[split]]:
        value = others[int(rng.integers(len(others)))]
        pairs.append((f"{word} {value}. {word}?", value))
    for _ in range(capacity_tasks.repetitions(task, split)):
        for word, label in zip(listed[: task.items], draw.labels):
            value = others[int(rng.integers(len(others)))]
            pairs.append((f"{word} {value}. {word}?", label))
    return pairs


def _classes(draw: _Draw, split: str) -> list[Pair]:
    groups = class_words(draw.task.items, draw.vocabulary)
    if len(groups) < draw.task.items:
        path = load_vocabulary(draw.vocabulary).path
        raise ValueError(
            f"{draw.name} takes {draw.task.items} classes of words, and {len(groups)} are known "
            f"for the vocabulary {path}; make K smaller."
        )
    order = draw.rng(0).permutation(len(groups))[: draw.task.items]
    pairs = []
    for place, (group, label) in enumerate(zip(order, draw.labels)):
        members = draw.rng(10 + place).permutation(groups[group]).tolist()
        held_out = len(members) // 4
        parts = {"validation": members[:held_out], "test": members[held_out : 2 * held_out]}
        pairs += [(word, label) for word in parts.get(split, members[2 * held_out :])]
    return pairs


def class_words(count: int, vocabulary: str) -> list[list[str]]:
    """Returns words by class, of which a model of the vocabulary may know what they have in common.

    For the graded world's vocabulary they are its commonest words, by attributes: kind, then kind
    and worth, kind and place, all three. For any other they are plain English words.

    Args:
      count: of classes that are wanted; there may be fewer.
      vocabulary: name or path.
    """
    if is_vocabulary(vocabulary, "graded"):
        return _graded_classes(count)
    from spjax.pocket import lexicon

    nouns = ("OBJECTS", "PLACES", "OCCASIONS", "PRICES", "ASPECTS")
    groups = [[_bare(text) for text in getattr(lexicon, name)] for name in nouns]
    groups += map(list, (lexicon.WOMEN, lexicon.MEN, lexicon.COLOURS, lexicon.JOBS, lexicon.DAYS))
    groups += map(list, (lexicon.PRAISE, lexicon.BLAME, *lexicon.KINDS.values()))
    return [group for group in groups if len(group) >= _LEAST_OF_CLASS]


def _graded_classes(count: int) -> list[list[str]]:
    from spjax.pocket.graded.lexicon import KIND, PLACE, WORDS, WORTH, value

    for attributes in ((KIND,), (KIND, WORTH), (KIND, PLACE), (KIND, PLACE, WORTH)):
        groups: dict[tuple[str, ...], list[str]] = {}
        for word in WORDS[:_GRADED_WORDS]:
            groups.setdefault(tuple(value(a, word) for a in attributes), []).append(word)
        kept = [group for group in groups.values() if len(group) >= _LEAST_OF_CLASS]
        if len(kept) >= count:
            break
    return kept


_PAIRS: dict[str, Callable[[_Draw, str], list[Pair]]] = {
    "associations": _associations,
    "classes": _classes,
    "exceptions": _exceptions,
    "recitation": _recitation,
}
