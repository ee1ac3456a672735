"""Batches of pre-training: of the pocket world's documents, or of a corpus by T5's own rules.

Both are reproducible from the step and the number of the first text, so that nothing else needs to
be saved to continue.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import grain.experimental
import numpy as np

from spjax import multihost
from spjax.files import DamagedFile, read_json, write_json
from spjax.pretraining import span_corruption
from spjax.pretraining.recipe import Pretrain
from spjax.types import Batch

# t5/data/preprocessors.py: span_corruption joins 128 documents before it cuts them into texts, and
# both objectives take at most 65,536 tokens of a document.
_JOINED, _MOST_TOKENS = 128, 65_536
_TEXTS = 1 << 24  # more than the texts of 128 documents
_HELD_OUT = 4000
_ROUNDS = 4  # of the shuffling, as Grain's own
_FEW = 1 << 16  # up to so many an order is held in memory; Grain's takes 10 ms a number for three


class Documents(Protocol):
    """Tokenized documents of the pocket world, one after the other.

    Attributes:
      tokens: all tokens, int32.
      offsets: where each document starts, and the end; one more than there are documents.
      splits: sorted positions in `tokens` that leave a predictable rest when cut there.
    """

    @property
    def tokens(self) -> np.ndarray:
        """Returns all tokens."""

    @property
    def offsets(self) -> np.ndarray:
        """Returns the offsets of the documents."""

    @property
    def splits(self) -> np.ndarray:
        """Returns the positions of useful cuts."""


class Corpus(Protocol):
    """Tokenized documents by their number, too many to hold in memory.

    Attributes:
      vocabulary_size: more than every id.
      fingerprint: changes with the documents or their order.
    """

    @property
    def vocabulary_size(self) -> int:
        """Returns the bound of the ids."""

    @property
    def fingerprint(self) -> str:
        """Returns the digest of the documents."""

    def __len__(self) -> int:
        """Returns the number of documents."""

    def __getitem__(self, number: int) -> np.ndarray:
        """Token ids of a document, int32, at least one."""


class Batches:
    """Packed batches of span corruption, lessons and prefix LM, one after the other.

    Reproducible from (step, document).
    """

    def __init__(
        self, config: Pretrain, documents: Documents, lessons: Sequence[Documents], vocab_size: int
    ) -> None:
        self.config, self.documents, self.lessons = config, documents, lessons
        self.short = span_corruption.Rows(config.rows, config.input_length, config.target_length)
        rows = max(config.rows * config.input_length // config.long_length, 1)
        self.long = span_corruption.Rows(rows, config.long_length, config.target_length)
        self.first_sentinel = vocab_size - 1

    def __call__(self, step: int, start: int) -> tuple[Batch, int]:
        """The batch of a step whose first document is number `start`, and the next number."""
        rng = np.random.default_rng([self.config.seed, step])
        stage, lesson = self.config.stage(step), self._lesson(step)
        long = stage == "long_lm"

        def example(number: int) -> span_corruption.Example:
            tokens, splits = _document(lesson or self.documents, number)
            if stage == "span_corruption":
                return span_corruption.span_corruption(tokens, rng, self.first_sentinel)
            if lesson:  # nothing but the answer
                return span_corruption.prefix_lm(tokens, splits, rng, at_split=1.0, at_last=1.0)
            inputs, targets = span_corruption.prefix_lm(tokens, splits, rng)
            return (self._behind_words(inputs, rng) if long else inputs), targets

        return (self.long if long else self.short).fill(example, start)

    def _behind_words(self, inputs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Up to `long_length - input_length` words of any documents, and then the inputs."""
        most = self.config.long_length - self.config.input_length
        places = rng.integers(0, len(self.documents.tokens), rng.integers(0, most + 1))
        return np.concatenate([self.documents.tokens[places], inputs[: self.config.input_length]])

    def _lesson(self, step: int) -> Documents | None:
        ends = itertools.accumulate(self.config.lesson_steps, initial=self.config.span_steps)
        for lesson, (begin, end) in zip(self.lessons, itertools.pairwise(ends)):
            if begin <= step < end:
                return lesson
        return None

    def documents_seen(self, number: int) -> int:
        """Returns the number of documents read before the one with this number."""
        return number


def _document(d: Documents, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and splits of a document; after the last one comes the first again."""
    number %= len(d.offsets) - 1
    begin, end = int(d.offsets[number]), int(d.offsets[number + 1])
    low, high = np.searchsorted(d.splits, [begin + 1, end])
    return d.tokens[begin:end], d.splits[low:high] - begin


class Shuffled:
    """A part of a corpus, in another order each time it is gone through.

    The order of many is computed number by number, so that it needs no memory.
    """

    def __init__(self, corpus: Corpus, seed: int, held_out: bool = False) -> None:
        """Chooses the documents to train on, or those that are held out.

        Args:
          corpus: at least two documents.
          seed: of the orders; which documents are held out does not depend on it.
          held_out: whether to take the 4,000 that are held out (1 % of a small corpus).
        """
        self.corpus, self.seed = corpus, seed
        held_out_count = max(min(_HELD_OUT, len(corpus) // 100), 1)
        self.first = 0 if held_out else held_out_count
        self.count = held_out_count if held_out else len(corpus) - held_out_count
        self.vocabulary_size = corpus.vocabulary_size

    def __getitem__(self, place: int) -> np.ndarray:
        """The document at a place; after each `count` of them a new order begins."""
        epoch, place = divmod(place, self.count)
        seed = int(np.random.SeedSequence([self.seed, epoch]).generate_state(1)[0])
        place = _shuffle(place, self.count, seed)
        return self.corpus[_shuffle(self.first + place, len(self.corpus), 0)]


def _shuffle(index: int, count: int, seed: int) -> int:
    if count <= _FEW:
        return int(_order(count, seed)[index])
    return grain.experimental.index_shuffle(index, max_index=count - 1, seed=seed, rounds=_ROUNDS)


@functools.lru_cache(maxsize=4)
def _order(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(count)


class CorpusBatches:
    """Packed batches of T5's span corruption, and then of its prefix LM, over a corpus.

    A text has the number of its group of 128 documents, times 2^24, plus its own in the group. What
    becomes of it depends on the number alone.
    """

    def __init__(self, config: Pretrain, documents: Shuffled) -> None:
        self.config, self.documents = config, documents
        self.rows = span_corruption.Rows(config.rows, config.input_length, config.target_length)
        self.first_sentinel = documents.vocabulary_size - 1
        self.group = functools.lru_cache(maxsize=2)(self._group)

    def __call__(self, step: int, start: int) -> tuple[Batch, int]:
        """The batch of a step whose first text is number `start`, and the next number."""
        spans = step < self.config.span_steps
        if step == self.config.span_steps:  # the other objective cuts documents elsewhere
            start = -(-start // _TEXTS) * _TEXTS

        def following(number: int) -> int:
            group, text = divmod(number, _TEXTS)
            more = text + 1 < len(self.group(group, spans))
            return number + 1 if more else (group + 1) * _TEXTS

        return self.rows.fill(lambda number: self.example(number, spans), start, following)

    def example(self, number: int, spans: bool) -> span_corruption.Example:
        """Returns inputs and targets of a text; targets that are too long are cut before EOS."""
        group, text = divmod(number, _TEXTS)
        tokens = self.group(group, spans)[text]
        rng = np.random.default_rng([self.config.seed, 1, number])
        if spans:
            return span_corruption.span_corruption(tokens, rng, self.first_sentinel)
        inputs, targets = span_corruption.prefix_lm(tokens, np.zeros(0, np.int64), rng)
        most = self.config.target_length - 1
        return inputs, np.append(targets[:-1][:most], span_corruption.EOS).astype(np.int32)

    def _group(self, group: int, spans: bool) -> list[np.ndarray]:
        """The texts of 128 documents: pieces of one length, the last of a document shorter."""
        rng = np.random.default_rng([self.config.seed, 0, group])
        places = range(group * _JOINED, (group + 1) * _JOINED)
        parts = [_part(self.documents[place], rng) for place in places]
        length = self.config.input_length - 1
        if spans:
            parts, length = [np.concatenate(parts)], span_corruption.span_lengths(length + 1)[0]
        return [part[at : at + length] for part in parts for at in range(0, len(part), length)]

    def documents_seen(self, number: int) -> int:
        """Returns the number of documents read, in groups, before the text of this number."""
        return -(-number // _TEXTS) * _JOINED


def _part(tokens: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One of the pieces of 65,536 tokens of a document, the last of which may be shorter."""
    pieces = -(-len(tokens) // _MOST_TOKENS)
    at = int(rng.integers(pieces)) * _MOST_TOKENS if pieces > 1 else 0
    return tokens[at : at + _MOST_TOKENS]


_CORPUS = "corpus.json"  # the corpus that the numbers of documents in the checkpoints belong to


def check_same_corpus(name: str, fingerprint: str, folder: Path, step: int) -> None:
    """Demands the corpus that a run began with; records it at the start of the run.

    Args:
      name: of the corpus.
      fingerprint: of the corpus as it is now.
      folder: of the run.
      step: how many the run has made.

    Raises:
      ValueError: the run was begun with another build of the corpus.
    """
    path, begun = folder / _CORPUS, fingerprint
    if step and path.is_file():
        try:
            begun = str(read_json(path).get("fingerprint"))
        except DamagedFile as error:
            raise ValueError(
                f"{error}. It says which corpus the run in {folder} was begun with; put a copy "
                "back, or delete it if the corpus is still the same."
            ) from error
    if begun != fingerprint:
        raise ValueError(
            f"the run in {folder} has made {step} steps with another build of the corpus {name!r} "
            f"({begun[:8]}, and now {fingerprint[:8]}), so that it cannot go on exactly. Put that "
            "build back, or begin anew in another folder (MODEL_DIR)."
        )
    if multihost.is_primary():
        about = {"corpus": name, "fingerprint": fingerprint}
        write_json(path, about)
