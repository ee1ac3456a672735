"""Seeded random choices, and the buckets that keep task and pre-training texts apart."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")
_BLOCK = 16384
_NOT_WORDS = re.compile(r"[^a-z0-9]+")

# Shares of all bodies, in percent. Pre-training throws away what belongs to the others.
_SHARES = (("pretraining", 76), ("train", 10), ("validation", 4), ("test", 10))
BUCKETS = tuple(name for name, _ in _SHARES)
_BUCKET_OF_PERCENT = tuple(name for name, share in _SHARES for _ in range(share))


class Draws:
    """A stream of random choices. Equal keys give equal streams on every machine.

    Uniform numbers come from numpy in blocks: a scalar call of a numpy generator costs ten times
    what a list item does, and a document takes some forty choices.
    """

    def __init__(self, *key: int) -> None:
        """Starts the stream named by `key`, non-negative integers."""
        self._generator = np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))
        self._block: list[float] = []

    def uniform(self) -> float:
        """Returns the next number in [0, 1)."""
        if not self._block:
            self._block = self._generator.random(_BLOCK).tolist()
        return self._block.pop()

    def below(self, limit: int) -> int:
        """Returns an integer in [0, limit)."""
        return int(self.uniform() * limit)

    def chance(self, probability: float) -> bool:
        """Returns True with the given probability."""
        return self.uniform() < probability

    def pick(self, options: Sequence[T]) -> T:
        """Returns one of `options`."""
        return options[int(self.uniform() * len(options))]

    def sample(self, options: Sequence[T], count: int) -> list[T]:
        """Returns `count` different items of `options`, which must hold as many."""
        chosen: list[T] = []
        while len(chosen) < count:
            option = options[int(self.uniform() * len(options))]
            if option not in chosen:
                chosen.append(option)
        return chosen

    def other(self, options: Sequence[T], *avoid: T) -> T:
        """Returns one of `options` that is none of `avoid`; there must be such a one."""
        while True:
            option = options[int(self.uniform() * len(options))]
            if option not in avoid:
                return option

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """Returns the items in random order."""
        items = list(items)
        for last in range(len(items) - 1, 0, -1):
            index = int(self.uniform() * (last + 1))
            items[last], items[index] = items[index], items[last]
        return items


def normalised(text: str) -> str:
    """Returns the words of `text` in lower case, single-spaced, without punctuation."""
    return _NOT_WORDS.sub(" ", text.lower()).strip()


def bucket(body: str) -> str:
    """Returns which of BUCKETS a body belongs to, by SHA-256 of its normalised sentences.

    Their order does not matter.
    """
    sentences = sorted(normalised(sentence) for sentence in body.split(". "))
    digest = hashlib.sha256("\n".join(sentences).encode()).digest()
    return _BUCKET_OF_PERCENT[int.from_bytes(digest[:4], "big") % 100]


def may_pretrain(key: str) -> bool:
    """Returns whether no task can have a text that occurs in `key`.

    Tasks have texts of two sentences or more, or of one that joins two facts (nine words or more).
    So every run of sentences of that length must be in the pre-training bucket, not just the whole.
    The empty key stands for a text that no task has.
    """
    sentences = key.rstrip(".").split(". ") if key else []
    for start in range(len(sentences)):
        for end in range(start + 1, len(sentences) + 1):
            text = ". ".join(sentences[start:end])
            whole = end - start == len(sentences)
            counts = whole or end - start > 1 or text.count(" ") >= 8
            if counts and bucket(text) != "pretraining":
                return False
    return True
