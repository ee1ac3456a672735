"""Pre-training text: documents of all genres, as strings or as token ids with useful splits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

import numpy as np

from spjax.pocket import causes, inference, lessons, pronouns, reviews, scenes, senses
from spjax.pocket.drafts import Draft
from spjax.pocket.draws import Draws, may_pretrain

# Genre and its share of the documents in percent.
GENRES = (
    (scenes.write, 34),
    (inference.write, 22),
    (reviews.write, 7),
    (causes.write, 11),
    (senses.write, 9),
    (pronouns.write, 7),
    (lessons.joined_list, 3),
    (lessons.agreement, 7),
)
Genres = Sequence[tuple[Callable[[Draws], Draft], int]]
# Lessons come before all other documents, one after the other, in the same form.
LESSONS = (
    ((lessons.bare_list, 100),),
    ((lessons.bare_list, 20), (lessons.joined_list, 80)),
    ((lessons.joined_list, 30), (lessons.told_list, 70)),
    ((lessons.told_list, 10), (lessons.agreement, 90)),
)
_CHUNK = 4096  # documents encoded at a time


class Encoder(Protocol):
    """Interface of a vocabulary for `tokenized`; SentencePieceProcessor has it too."""

    def encode(self, texts: list[str], /) -> list[list[int]]:
        """Returns the token ids of each text, without EOS."""


@dataclass(frozen=True, slots=True)
class Document:
    """parts: the text proper and its facets. splits: character offsets in `text`.

    A split is where a prefix-LM target usefully begins: at an answer or at a facet.
    """

    parts: tuple[str, ...]
    splits: tuple[int, ...]

    @property
    def text(self) -> str:
        """Returns the document as one string."""
        return " ".join(self.parts)

    @property
    def pieces(self) -> list[str]:
        """Returns the text cut at the splits, without the spaces there."""
        text, ends = self.text, (*self.splits, len(self.text) + 1)
        return [text[start : end - 1] for start, end in zip((0, *self.splits), ends)]


@dataclass(frozen=True, slots=True)
class TokenizedDocuments:
    """Documents one after another, no EOS between them.

    tokens: int32 [total]. offsets: int64 [documents + 1], where each begins and the end.
    splits: int64 [splits], sorted positions in `tokens` at which a target usefully begins.
    """

    tokens: np.ndarray
    offsets: np.ndarray
    splits: np.ndarray


def _drafts(seed: int, count: int, genres: Genres) -> Iterator[Draft]:
    """Yields `count` drafts of the pre-training bucket; every 4,096 start a new stream."""
    writers = [write for write, share in genres for _ in range(share)]
    for chunk in range(0, count, _CHUNK):
        draws = Draws(0, seed, chunk // _CHUNK)
        for _ in range(min(_CHUNK, count - chunk)):
            write = draws.pick(writers)
            draft = write(draws)
            while not may_pretrain(draft.key):
                draft = write(draws)
            yield draft


def documents(seed: int, count: int, genres: Genres = GENRES) -> list[Document]:
    """Draws `count` documents of stream `seed`; a longer call begins with a shorter one.

    Raises ValueError for a negative seed or count.
    """
    _check(seed, count)
    drafted = []
    for draft in _drafts(seed, count, genres):
        pieces = [piece for part in draft.parts for piece in part]
        starts = accumulate(len(piece) + 1 for piece in pieces[:-1])
        drafted.append(Document(tuple(" ".join(part) for part in draft.parts), tuple(starts)))
    return drafted


def tokenized(
    seed: int, count: int, vocabulary: Encoder, genres: Genres = GENRES
) -> TokenizedDocuments:
    """Returns the same documents as token ids.

    The pieces between splits are encoded by themselves. As every piece starts a word, this gives
    the tokens of the whole text (a test compares them). Uses `vocabulary.encode_batch` where there
    is one. Raises ValueError for a negative seed or count.
    """
    _check(seed, count)
    encode = getattr(vocabulary, "encode_batch", vocabulary.encode)
    pieces: list[str] = []
    first: list[int] = [0]  # index of each document's first piece, and the end
    for draft in _drafts(seed, count, genres):
        for part in draft.parts:
            pieces.extend(part)
        first.append(len(pieces))
    tokens, lengths = [np.zeros(0, np.int32)], [np.zeros(0, np.int64)]
    for start in range(0, len(pieces), 4 * _CHUNK):
        ids = encode(pieces[start : start + 4 * _CHUNK])
        lengths.append(np.fromiter(map(len, ids), np.int64, len(ids)))
        flat = (token for piece in ids for token in piece)
        tokens.append(np.fromiter(flat, np.int32, int(lengths[-1].sum())))
    starts = np.concatenate([[0], np.cumsum(np.concatenate(lengths))]).astype(np.int64)
    documents_at = np.asarray(first)
    inner = np.ones(len(starts), bool)
    inner[documents_at] = False
    return TokenizedDocuments(np.concatenate(tokens), starts[documents_at], starts[inner])


def _check(seed: int, count: int) -> None:
    for name, value in (("seed", seed), ("count", count)):
        if value < 0:
            raise ValueError(
                f"The {name} of a pocket corpus is {value}; it must be 0 or more. Pass another one."
            )
